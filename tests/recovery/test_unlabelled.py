import numpy as np
import pytest
import torch
from PIL import Image

from dfml.data.unlabelled import UnlabelledImages
from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.recovery import Unlabelled, Visit
from dfml.recovery.unlabelled import surest
from toys import SPEC, toy_teacher


@pytest.fixture
def folder(tmp_path):
    """Pictures of the shades 0, 20 .. 180, some of them in a folder of the folder."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for k in range(10):
        place = tmp_path / "pictures" / ("more" if k % 2 else "") / f"{k}.png"
        Image.fromarray(np.full((20, 24, 3), 20 * k, np.uint8)).save(place)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def test_pictures_of_a_folder_and_its_folders_are_fitted_when_they_are_drawn(folder):
    images = UnlabelledImages(folder, InputSpec(size=16))
    assert len(images) == 10
    drawn = images.batch(torch.arange(10))
    assert drawn.shape == (10, 3, 16, 16)
    assert sorted((255 * drawn.mean((1, 2, 3))).round().tolist()) == [20 * k for k in range(10)]


def test_labels_of_an_npz_file_are_not_looked_at(shades):
    images = UnlabelledImages(f"{shades}/train.npz", SPEC)
    assert len(images) == 9
    assert images.batch(torch.tensor([8])).mean() == pytest.approx(40 / 255)


@pytest.mark.parametrize(("name", "said"), [("nowhere", "no such file or folder"), ("empty", "no picture in it")])
def test_no_pictures(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        UnlabelledImages(tmp_path / name, SPEC)


def test_a_picture_that_is_gone_is_named(folder):
    images = UnlabelledImages(folder, SPEC)
    (folder / "more" / "1.png").unlink()
    with pytest.raises(InputError, match=r"more/1\.png"):
        images.batch(torch.arange(10))


def test_the_surest_of_each_class_are_taken_once():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.95, 0.05]])
    assert surest(probabilities, torch.tensor([0, 1, 0, 1])).tolist() == [4, 2, 0, 3]


def test_pictures_are_labelled_as_the_teacher_answers_and_classes_are_evener_with_candidates(folder):
    teacher, wanted = toy_teacher("t"), torch.arange(3).repeat(4)
    agreed = {}
    for candidates in (1, 8):
        recovery = Unlabelled(data=str(folder), candidates=candidates)
        state = recovery.init(SPEC, Rng(0))
        (shown,) = recovery.recover(state, [Visit(teacher, wanted)], rng=Rng(0))
        assert shown.varied
        assert torch.equal(shown.labels, teacher.answers(shown.images, "labels"))
        agreed[candidates] = shown.terms["wanted"]
    assert agreed[8] >= agreed[1]


def test_a_share_of_the_visits_recovers(folder):
    recovery = Unlabelled(data=str(folder), recovered=0.5)
    state = recovery.init(SPEC, Rng(0))
    visits = [Visit(toy_teacher(f"t{k}"), torch.arange(3).repeat(2)) for k in range(12)]
    shown = recovery.recover(state, visits, rng=Rng(0))
    recovered = [r for r in shown if "drawn" in r.terms]
    assert 0 < len(recovered) < 12
    assert all(("wanted" in r.terms) != ("drawn" in r.terms) for r in shown)


def test_rows_say_that_pictures_without_labels_were_seen(folder):
    method = resolve("best", {"recovery": "unlabelled", "recovery.data": str(folder)}).build()
    assert method.uses_data == "unlabelled"
