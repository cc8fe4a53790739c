"""Labelling many images, and judging on one's own folder: whatever names and files there are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dfml.cli import main
from dfml.errors import InputError
from dfml.learners.predictor_file import load_predictor
from dfml.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def predictor(place, run):
    out = place / "predictor-of-many"
    assert main(["adapt", str(run), "--support", str(place / "data" / "test"), "--out", str(out)]) == 0
    return out


@pytest.fixture
def image(place):
    return sorted((place / "data" / "test").glob("*/0.png"))[0]


def test_one_bad_file_does_not_cost_the_answers_of_the_good_ones(predictor, image, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    words = [str(image), str(tmp_path / "broken.png"), str(tmp_path / "missing.png"), str(image)]
    assert main(["predict", str(predictor), *words]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("%") == 2
    assert "2 not labelled" in shown.err
    assert "broken.png: not a readable image" in shown.err
    assert "missing.png: no such file\n    wanted: an image file that is there\n    to do:  check the path" in shown.err


def test_folders_and_patterns(predictor, place, image, capsys):
    folder = place / "data" / "test"
    count = 2 * len(list(folder.glob("*/*.png")))
    assert main(["predict", str(predictor), str(folder), str(folder)]) == 0
    assert capsys.readouterr().out.count("%") == count > 64, "more than one batch"
    assert main(["predict", str(predictor), str(image.parent / "[01].*")]) == 0
    assert capsys.readouterr().out.count("%") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.png", "no such file"),
        ("missing", "no such file"),
        ("missing/*.png", "no such file"),
        ("empty", "a folder without images"),
        ("texts", "a folder without images"),
        ("texts/notes.txt", "not a readable image"),
        ("texts/cut.png", "not a readable image"),
    ],
)
def test_a_name_that_gives_no_image_says_why_alone_and_beside_others(predictor, image, tmp_path, capsys, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no image")
    if name.endswith("cut.png"):
        (tmp_path / name).write_bytes(image.read_bytes()[:40])
    assert main(["predict", str(predictor), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / name}: {said}" in error
    assert error.count("wanted:") == error.count("to do:") == 1
    assert main(["predict", str(predictor), str(tmp_path / name), str(image)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("%") == 1
    assert f"1 not labelled:\n  {tmp_path / name}: {said}" in shown.err


def test_a_folder_named_as_a_file_is_told_from_one_without_images(predictor, image):
    with pytest.raises(InputError, match=r"a folder\n.*image files\n.*name the files in it"):
        load_predictor(predictor).predict_files([image.parent])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8:strict", "ascii"])
def test_names_that_cannot_be_printed_are_escaped(predictor, place, run, image, tmp_path, encoding):
    names = ["图.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        shutil.copy(image, tmp_path / name)
    environment = os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "dfml"]

    def ran(*words: object) -> bytes:
        done = subprocess.run([*command, *map(str, words)], env=environment, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ran("predict", predictor, *names).count(b"%") == 2
    lines = [json.loads(line.decode("utf-8")) for line in ran("predict", predictor, *names, "--json").splitlines()]
    assert [line["image"] for line in lines] == names
    if encoding == "utf-8:strict":
        support = tmp_path / "support"
        shutil.copytree(image.parent, support / os.fsdecode(b"caf\xe9"))
        shutil.copytree(image.parent, support / "b")
        assert b"2 classes" in ran("adapt", run, "--support", support, "--out", tmp_path / "p")
        assert b"%" in ran("predict", tmp_path / "p", names[0])


def test_adapt_prints_the_images_of_each_class_and_what_it_leaves_out(place, run, image, tmp_path, capsys):
    support = tmp_path / "support"
    for name, count in (("one", 1), ("three", 3)):
        (support / name).mkdir(parents=True)
        for i in range(count):
            shutil.copy(image, support / name / f"{i}.png")
    (support / "three" / "day2").mkdir()
    shutil.copy(image, support / "three" / "day2" / "4.png")
    assert main(["adapt", str(run), "--support", str(support), "--out", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr()
    assert "adapted to 2 classes (images of each): one (1), three (3)" in shown.out
    assert shown.err.count("warning:") == 1
    assert "1 file left out" in shown.err
    assert "three/day2/4.png" in shown.err


def test_transparency_shows_on_a_ground_of_choice(place, run, tmp_path, capsys):
    for name, box in (("bar", (2, 2, 6, 14)), ("dot", (9, 9, 14, 14))):
        (tmp_path / "s" / name).mkdir(parents=True)
        picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
        picture.paste((0, 0, 0, 255), box)
        picture.save(tmp_path / "s" / name / "0.png")
    assert main(["adapt", str(run), "--support", str(tmp_path / "s"), "--out", str(tmp_path / "p")]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "p"), *(str(tmp_path / "s" / n / "0.png") for n in ("bar", "dot"))]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == ["bar", "dot"]
    black = ["adapt", str(run), "--support", str(tmp_path / "s"), "--out", str(tmp_path / "q"), "--ground", "purplish"]
    assert main(black) == 2
    assert "'purplish'" in capsys.readouterr().err


def test_ones_own_folder_of_new_classes_is_judged_whole(place, run, tmp_path, capsys):
    own = tmp_path / "own"
    for path in sorted((place / "data" / "test").glob("*/*.png")):
        (own / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((40, 40)).save(own / path.parent.name / path.name)
    words = ["evaluate", str(run), "--data", str(own), "--queries", "4", "--episodes", "5", "--baselines"]
    assert main(words) == 0, capsys.readouterr().err
    assert "5-way" in capsys.readouterr().out
    assert main([*words, "--size", "24"]) == 0


def test_a_card_is_changed_by_a_command_and_a_run_by_an_explicit_override(place, run, tmp_path, capsys):
    zoo = shutil.copytree(place / "zoo", tmp_path / "zoo")
    assert main(["zoo", "edit", str(zoo), "toy-1", "--set", "licence=MIT", "input_spec.mean=[0.4,0.4,0.4]"]) == 0
    assert '"licence": "MIT"' in (zoo / "toy-1.json").read_text()
    copied = shutil.copytree(run, tmp_path / "run")
    again = ["train", "--out", str(copied), "--resume", "--steps", "4"]
    assert main([*again, "--zoo", str(zoo)]) == 2
    assert "say something else" in capsys.readouterr().err
    changed = [*again, "--zoo", str(place / "zoo"), "--method.fast-lr", "0.02"]
    assert main(changed) == 2
    assert "add --override" in capsys.readouterr().err
    assert main([*changed, "--override"]) == 0
    noted = [(c["key"], c["new"], c["after"]) for c in RunFolder(copied).about["changes"]]
    assert noted == [("method.fast_lr", 0.02, 3), ("run.steps", 4, 3)]
    assert Path(copied / "metrics.jsonl").read_text().count("\n") == 4


def test_hidden_images_are_left_out_and_patterns_meet_folders(predictor, image, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/deep/er/b.png", "photos/.thumbnails/a.png", "photos/deep/.b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, name)
    for word, names in (
        ("photos", ["photos/a.png", "photos/deep/er/b.png"]),
        ("photos/d*", ["photos/deep/er/b.png"]),
        ("photos/**", ["photos/a.png", "photos/deep/er/b.png"]),
    ):
        assert main(["predict", str(predictor), word]) == 0
        assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == names


def test_a_name_with_a_line_break_stays_on_its_line(predictor, image, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(image, "two\nlines\x1b[31m.png")
    Path("bro\nken.png").write_text("no image")
    assert main(["predict", str(predictor), "two\nlines\x1b[31m.png", "bro\nken.png"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("two\\nlines\\x1b[31m.png\t")
    assert "bro\\nken.png: not a readable image" in shown.err
