"""What the page does with images: classes to a predictor, answers with their reasons, and everything that is wrong."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dfml.app.task import MOST_IMAGES, Class, Unfit, adapt, ask, packed
from dfml.learners import LEARNERS
from dfml.learners.predictor_file import adapt_to_folder, load_predictor
from dfml.learners.task_classifier import NONE
from toys import toy_encoder

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 200, 30)}


@pytest.fixture
def files(tmp_path):
    """Four images of each colour."""
    made = {}
    for name, colour in COLOURS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            noise = np.random.default_rng(i).integers(-30, 30, (20, 24, 3))
            path = tmp_path / "images" / name / f"{name}-{i}.png"
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
            made.setdefault(name, []).append(path)
    return made


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no picture")
    return path


def learner():
    return LEARNERS["ridge"](toy_encoder()).eval()


def classes(files, shots=3):
    return [Class(f" {name} ", paths[:shots]) for name, paths in files.items()] + [Class("")]


def test_each_image_is_answered_with_its_reasons_and_a_broken_one_stops_no_other(files, broken):
    task = adapt(learner(), classes(files))
    asked = [files["blue"][3], broken, files["green"][3]]
    blue, none, green = ask(task, asked)
    assert (blue.label, green.label) == ("blue", "green")
    wanted = task.classifier.predict_files(asked[::2]).probabilities[0].tolist()
    assert dict(blue.chances) == pytest.approx(dict(zip(COLOURS, wanted, strict=True)), abs=1e-6)
    assert [chance for _, chance in blue.chances] == sorted(wanted, reverse=True)
    assert [name for _, name, _ in blue.reasons] == ["blue"] * 3
    assert {picture.says for picture, _, _ in blue.reasons} == {f"blue-{i}.png" for i in range(3)}
    assert none.picture is None
    assert none.label.startswith("broken.jpg: not a readable image")
    assert str(broken.parent) not in none.label


def test_an_image_of_the_support_resembles_itself_most(files):
    task = adapt(learner(), classes(files))
    (answer,) = ask(task, [files["green"][1]])
    picture, name, similarity = answer.reasons[0]
    assert (picture.says, name, round(similarity, 4)) == ("green-1.png", "green", 1.0)


def test_what_is_downloaded_is_what_adapt_writes_of_the_same_images(files, tmp_path):
    task = adapt(learner(), sorted(classes(files, 4)[:-1], key=lambda c: c.name), reject=0.1)
    shutil.unpack_archive(packed(task, tmp_path / "made"), tmp_path / "unpacked")
    read = load_predictor(tmp_path / "unpacked" / "predictor")
    wanted = adapt_to_folder(learner(), tmp_path / "images", reject=0.1)
    assert (read.class_names, read.shots, read.floor) == (wanted.class_names, wanted.shots, wanted.floor)
    assert read.about == wanted.about
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(read.predictor(images), wanted.predictor(images))


def test_none_of_these(files):
    task = adapt(learner(), classes(files), reject=0.2)
    (answer,) = ask(replace(task, classifier=with_floor(task.classifier, 1e9)), files["red"][:1])
    assert answer.is_none
    assert answer.label == NONE
    assert len(answer.chances) == 3


def with_floor(classifier, floor):
    classifier.floor = floor
    return classifier


def test_everything_that_is_wrong_is_said_at_once_and_without_paths(files, broken):
    red, blue = files["red"], files["blue"]
    wrong = [Class("red", red[:1]), Class("red", [*blue[:1], broken]), Class("", red[1:3]), Class("green")]
    with pytest.raises(Unfit) as found:
        adapt(learner(), wrong)
    assert len(found.value.problems) == 4
    said = str(found.value)
    assert "2 classes are named “red”" in said
    assert "A class with 2 images has no name" in said
    assert "Class “green” has no image" in said
    assert "Class “red”: broken.jpg: not a readable image" in said
    assert str(broken.parent) not in said


@pytest.mark.parametrize(
    ("given", "reject", "said"),
    [
        ({"red": 1}, None, "Two classes at least"),
        ({}, None, "Two classes at least"),
        ({"red": 1, "blue": 1}, 0.1, "two images of a class are wanted"),
        ({"red": 101, "blue": 100}, None, f"201 images; {MOST_IMAGES} at most"),
        ({"red": 2, NONE: 2}, 0.1, "rename the class"),
    ],
)
def test_too_little_and_too_much(files, given, reject, said):
    wrong = [Class(name, [files["red"][0]] * shots) for name, shots in given.items()]
    with pytest.raises(Unfit, match=said):
        adapt(learner(), wrong, reject=reject)


def test_too_many_questions_and_too_many_pixels(files, monkeypatch):
    task = adapt(learner(), classes(files))
    with pytest.raises(Unfit, match=f"{MOST_IMAGES} at most"):
        ask(task, files["red"][:1] * (MOST_IMAGES + 1))
    monkeypatch.setenv("DFML_MOST_PIXELS", "100")
    (answer,) = ask(task, files["red"][:1])
    assert "20 x 24" in answer.label or "24 x 20" in answer.label
