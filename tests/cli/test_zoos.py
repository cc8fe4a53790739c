"""Commands that take models in, look at them and use them untrained."""

import json
import shutil

import pytest

from dfml.cli import main
from dfml.zoo import Zoo

NET = ["python:foreign_models:Net", "--size", "16", "--mean", "0.5", "--std", "0.25", "--trust"]


def test_models_are_added_and_those_that_cannot_be_are_named(tmp_path, capsys):
    assert main(["zoo", "add", str(tmp_path / "zoo"), *NET, "--classes", "ant,bee,cow", "--id", "mine"]) == 0
    out = capsys.readouterr().out
    assert "added mine: python:foreign_models:Net, 3 classes, labels, probabilities" in out
    assert "1 BatchNorm layers" in out
    (tmp_path / "notes.txt").write_text("no model")
    card = Zoo.open("glyphs").path / f"{Zoo.open('glyphs').ids[0]}.json"
    assert main(["zoo", "add", str(tmp_path / "zoo"), str(card), str(tmp_path / "notes.txt")]) == 1
    given = capsys.readouterr()
    assert "added conv4-00" in given.out
    assert "1 of 2 not added" in given.err
    assert "notes.txt: no model" in given.err
    assert Zoo.open(tmp_path / "zoo").ids == ["conv4-00", "mine"]


def test_cards_and_their_weights_may_be_named_together(tmp_path, capsys):
    zoo = Zoo.open("glyphs")
    files = [str(zoo.path / f"{zoo.ids[0]}.{kind}") for kind in ("json", "safetensors")]
    assert main(["zoo", "add", str(tmp_path / "zoo"), *files]) == 0
    assert main(["zoo", "add", str(tmp_path / "other"), files[1]]) == 2  # alone, it does not say of which network
    assert Zoo.open(tmp_path / "zoo").ids == zoo.ids[:1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arguments", "{"], "--arguments"),
        (["--arguments", "[1]"], "JSON object"),
        (["--classes", "2"], "3 classes in its answers"),
        ([], "--classes 3"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_in_words_of_the_command_line(tmp_path, capsys, words, said):
    assert main(["zoo", "add", str(tmp_path / "zoo"), *NET, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


def test_a_model_is_inspected(tmp_path, capsys):
    picture = tmp_path / "model.png"
    assert main(["zoo", "inspect", "glyphs", "conv4-00", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    for words in ("dfml:conv4", "bn_statistics", "drawn images", "in the wanted class"):
        assert words in out
    assert f"picture: {picture}" in out
    assert picture.stat().st_size > 5000
    for name, said in (("file/model.png", "cannot be written"), ("model.odd", "a picture's ending")):
        (tmp_path / "file").write_text("")
        assert main(["zoo", "inspect", "glyphs", "conv4-00", "--out", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_a_picture_lies_with_its_zoo_and_never_where_one_happens_to_be(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    zoo = shutil.copytree(place / "zoo", tmp_path / "zoo")
    assert main(["zoo", "inspect", str(zoo), "toy-1"]) == 0
    assert f"picture: {zoo / 'plots' / 'toy-1.png'}" in capsys.readouterr().out
    assert (zoo / "plots" / "toy-1.png").exists()
    assert Zoo.open(zoo).teacher("toy-1").card.id == "toy-1"  # the zoo is what it was
    assert main(["zoo", "inspect", "glyphs", "conv4-00"]) == 0
    (picture,) = tmp_path.glob("dfml-*/conv4-00.png")
    assert f"picture: {picture}" in capsys.readouterr().out
    assert not list((tmp_path / "here").iterdir())


def test_verdicts_of_an_audit_are_written_and_taken_back(place, tmp_path, capsys):
    folder = tmp_path / "zoo"
    shutil.copytree(place / "zoo", folder)
    broken = Zoo.open(folder).ids[1]
    (folder / f"{broken}.safetensors").write_bytes(b"x")
    assert main(["zoo", "audit", str(folder), "--set-aside"]) == 0
    assert f"{broken}  broken" in capsys.readouterr().out
    zoo = Zoo.open(folder)
    assert broken in zoo.aside
    assert broken not in zoo.ids
    assert "set aside: broken" in _listed(folder, capsys)
    assert main(["zoo", "edit", str(folder), broken, "--set", "aside=null"]) == 0
    assert broken in Zoo.open(folder).ids


@pytest.mark.parametrize("flips", [True, False])
def test_a_zoo_that_is_built_says_that_its_images_are_mirrored_and_how_not_to(place, tmp_path, capsys, flips):
    words = ["zoo", "build", "--data", str(place / "data"), "--out", str(tmp_path / "zoo"), "--models", "1"]
    words += ["--way", "2", "--epochs", "1", "--width", "4", "--jobs", "1"]
    assert main([*words, *([] if flips else ["--no-flips"])]) == 0
    assert ("Images are mirrored in training; give --no-flips" in capsys.readouterr().out) == flips
    assert Zoo.open(tmp_path / "zoo").index.recipe["training"]["flips"] is flips


def _listed(folder, capsys):
    capsys.readouterr()
    assert main(["zoo", "list", str(folder)]) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("compare", [None, "features", "answers", "posterior"])
def test_a_zoo_adapts_without_training_and_the_predictor_needs_it_no_more(place, tmp_path, capsys, compare):
    words = ["adapt", str(place / "zoo"), "--support", str(place / "data" / "test"), "--out", str(tmp_path / "p")]
    assert main([*words, *(["--compare", compare] if compare else [])]) == 0
    assert "untrained" in capsys.readouterr().out
    image = sorted((place / "data" / "test").glob("*/0.png"))[0]
    assert main(["predict", str(tmp_path / "p"), str(image), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == image.parent.name
    assert main(["adapt", str(place / "zoo"), "--support", "x", "--out", "y", "--models", "99"]) == 2
