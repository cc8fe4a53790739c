"""What goes wrong beside the work itself: results are not lost, and nothing is written where it does not belong."""

import json
import shutil

import pytest
from small import OPTIONS

from dfml import consent
from dfml.cli import main
from dfml.errors import InputError
from dfml.files import sealed
from dfml.runs import results
from dfml.stopping import Interrupted


def test_a_table_that_cannot_be_written_is_printed_first(place, run, monkeypatch, capsys):
    def refuse(*_):
        raise InputError("result.json: cannot be written (Read-only file system)", "room", "make some")

    monkeypatch.setattr(results, "write_per_episode", refuse)
    words = ["evaluate", str(run), "--data", str(place / "data"), "--queries", "2", "--shots", "1", "--episodes", "2"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "1-shot" in said.out
    assert "written:" not in said.out
    assert "result.json: cannot be written" in said.err


def test_a_predictor_is_not_written_into_a_run_or_zoo(place, run, capsys):
    for there in (run, place / "zoo"):
        before = sorted(there.iterdir())
        assert main(["adapt", str(run), "--support", str(place / "data" / "test"), "--out", str(there)]) == 2
        assert "a run or a zoo" in capsys.readouterr().err
        assert sorted(there.iterdir()) == before


def test_a_change_that_the_checkpoint_does_not_take_leaves_the_configuration_as_it_was(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    words = ["train", "--out", str(tmp_path / "run"), "--resume", "--steps", "4", "--override", "--network.width", "8"]
    assert main(words) == 2
    assert "train anew with another --out" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_misspelt_key_of_a_run_is_named_when_it_is_used(run, place, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    about["config"]["method"]["warmup_stepz"] = about["config"]["method"].pop("warmup_steps")
    (tmp_path / "run" / "config.json").write_text(json.dumps(sealed(about)))
    (tmp_path / "run" / "learner.json").unlink()
    support = str(place / "data" / "test")
    assert main(["adapt", str(tmp_path / "run"), "--support", support, "--out", str(tmp_path / "p")]) == 2
    assert "warmup_stepz: Extra inputs" in capsys.readouterr().err


def test_a_stop_before_the_first_step_leaves_no_folder(place, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise Interrupted(15)

    monkeypatch.setattr("dfml.runs.loop.Loop.start", stop)
    words = ["train", "--zoo", str(place / "zoo"), "--out", str(tmp_path / "run"), "--steps", "2", *OPTIONS]
    assert main(words) == 143
    assert "called again it begins anew" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_system_is_no_traceback(place, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "there.png")

    monkeypatch.setattr("dfml.zoo.Zoo.open", full)
    assert main(["zoo", "list", str(place / "zoo")]) == 2
    error = capsys.readouterr().err
    assert "there.png: No space left on device" in error
    assert "make room" in error


def test_names_do_not_steer_a_terminal(place, tmp_path, capsys):
    shutil.copytree(place / "zoo", tmp_path / "zoo")
    for path in (tmp_path / "zoo").glob("*.json"):
        text = path.read_text().replace('"known-0"', '"known-\\u001b[2J"')
        path.write_text(json.dumps({k: v for k, v in json.loads(text).items() if k not in ("seal", "card_hash")}))
    index = json.loads((tmp_path / "zoo" / "zoo.json").read_text())
    for model in index["models"]:
        model["card_hash"] = None
    (tmp_path / "zoo" / "zoo.json").write_text(json.dumps(index))
    assert main(["zoo", "list", str(tmp_path / "zoo")]) == 0
    said = capsys.readouterr().out
    assert "\x1b[2J" not in said
    assert "x1b" in said


def test_consent_is_given_to_all_of_a_folder_or_to_nothing(tmp_path, capsys):
    model = {"source": "python:json:loads", "options": {"arguments": {}}}
    (tmp_path / "a.json").write_text(json.dumps(model))
    (tmp_path / "b.json").write_text("{")
    assert main(["trust", str(tmp_path)]) == 2
    assert not consent.has_consent(model)
    (tmp_path / "b.json").unlink()
    assert main(["trust", str(tmp_path)]) == 0
    assert consent.has_consent(model)
    assert "trusted:" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[1]", '{"named": 1}'])
def test_lines_of_a_sweep_that_are_none_are_named(place, tmp_path, capsys, text):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.jsonl").write_text(text + "\n")
    words = ["sweep", "--zoo", str(place / "zoo"), "--out", str(tmp_path / "sweep"), "--recipe", "free", "--steps", "1"]
    assert main(words) == 2
    assert "not the lines of a sweep" in capsys.readouterr().err
