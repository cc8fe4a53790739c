"""Labels for many images: bad ones, folders, patterns, names of all kinds."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from dfml.cli import main
from dfml.learners.frozen import FrozenLearner
from dfml.learners.learner_file import save_learner
from dfml.learners.predictor_file import load_predictor, save_predictor
from toys import toy_encoder

LATIN1 = b"caf\xe9.png"  # a name that is no UTF-8


def picture(path, shade=90):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("RGB", (16, 16), (shade, 40, 200 - shade)).save(path, format="PNG")


@pytest.fixture
def place(tmp_path):
    learner = FrozenLearner(toy_encoder())
    save_learner(learner, tmp_path / "learner")
    images, labels = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1])
    save_predictor(learner.adapt(images, labels), tmp_path / "p", ("cat", "Ärger"))
    for i, name in enumerate(("photos/a.png", "photos/deep/er/b.PNG", "photos/.hidden/c.png", "d.png")):
        picture(tmp_path / name, 40 * i)
    (tmp_path / "photos" / "broken.png").write_text("no image")
    (tmp_path / "photos" / "notes.txt").write_text("no image either")
    return tmp_path


def run(place, *words, encoding="utf-8:strict"):
    command = [sys.executable, "-m", "dfml", *words]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, cwd=place, env=environment)


def test_a_bad_image_costs_no_other_its_answer(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["predict", "p", "lost.png", "d.png", "photos"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["d.png", "photos/a.png", "photos/deep/er/b.PNG"]
    for part in ("lost.png", "photos/broken.png", "2 of 5 images"):
        assert part in err


def test_patterns_and_folders(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    for words, names in (
        (["photos/a*", "d.png"], ["photos/a.png", "d.png"]),
        (["photos/**/*.PNG"], ["photos/deep/er/b.PNG"]),
        (["photos/d*"], ["photos/deep/er/b.PNG"]),
    ):
        assert main(["predict", "p", *words]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == names
    (place / "empty").mkdir()
    for word in ("empty", "nothing*.png"):
        assert main(["predict", "p", word]) == 2
        assert "no images" in capsys.readouterr().err


def test_more_than_a_batch_is_the_answer_of_each(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("dfml.cli.predicting.BATCH", 2)
    assert main(["predict", "p", "--json", "d.png", "photos", "d.png"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    classifier = load_predictor(place / "p")
    for line in lines:
        (row,) = classifier.predict_files([line["image"]]).probabilities.tolist()
        assert list(line["probabilities"].values()) == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8:strict", "ascii"])
def test_names_that_the_terminal_cannot_print(place, encoding):
    picture(place / "图.png")
    picture(os.path.join(os.fsencode(place), LATIN1))
    names = ["图.png", os.fsdecode(LATIN1)]
    done = run(place, "predict", "p", *names, encoding=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding.partition(":")[0])
    assert len(text.splitlines()) == 2
    assert "caf\\udce9.png" in text
    assert ("图" if "utf" in encoding else "\\u56fe") in text
    done = run(place, "predict", "p", "--json", *names, encoding=encoding)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert [line["image"] for line in lines] == names
    assert all("Ärger" in line["probabilities"] for line in lines)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8:strict"])
def test_classes_that_the_terminal_cannot_print(place, encoding):
    for name, shade in ((b"caf\xe9", 0), ("图".encode(), 200)):
        picture(os.path.join(os.fsencode(place), b"support", name, b"1.png"), shade)
    done = run(place, "adapt", "learner.json", "--support", "support", "--out", "q", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert set(load_predictor(place / "q").class_names) == {os.fsdecode(b"caf\xe9"), "图"}
    done = run(place, "predict", "q", "support", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_name_with_a_line_break_stays_on_its_line(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    picture(place / "two\nlines\x1b[31m.png")
    assert main(["predict", "p", "two\nlines\x1b[31m.png"]) == 0
    assert capsys.readouterr().out.startswith("two\\nlines\\x1b[31m.png\t")


def test_an_answer_that_is_no_number_is_no_answer(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    nothing = torch.full((1, 2), float("nan"))
    monkeypatch.setattr("dfml.learners.base.Predictor.probabilities", lambda self, images: nothing)
    assert main(["predict", "p", "--json", "d.png"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "d.png: the answer is no number" in err
