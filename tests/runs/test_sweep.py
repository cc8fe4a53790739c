"""Sweeps: every combination once, what is wrong said before the first, what was cut short gone on with."""

import json
import sys
from pathlib import Path

import pytest

from dfml import InputError
from dfml.cli import main
from dfml.runs.sweep import Judging, sweep
from dfml.runs.sweep_plan import folder_name, read_grid

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from small import FREE, make_data, make_zoo


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    values = "\n".join(f"{k} = {v}" for k, v in SECTION["method"].items())
    recipe = f'[run]\nsteps = 2\nval_every = 1\nthreads = 1\n[method]\nname = "free"\n{values}\n'
    recipe += '[recovery]\nname = "meta_generator"\n'
    recipe += 'steps = 1\nlatent = 8\n[learner]\nname = "protonet"\n[network]\nname = "conv4"\nwidth = 4\n'
    (folder / "quick.toml").write_text(recipe)
    return folder


SECTION = {"method": {k.removeprefix("method."): v for k, v in FREE.items() if k.startswith("method.")}}


def run_sweep(place, out, **changes):
    options = {"recipe": place / "quick.toml", "grid": {"outer_lr": ["0.01", "0.1"]}, "seeds": (0, 1), "jobs": 1}
    return sweep(place / "zoo", out=out, **options | changes)


def test_every_combination_is_a_run_and_a_second_call_does_nothing_again(place, tmp_path):
    told = []
    judging = Judging(str(place / "data"), shots=(1,), queries=4, episodes=10)
    lines = run_sweep(place, tmp_path / "s", judging=judging, on_run=lambda *values: told.append(values[:2]))
    assert told == [(k, 4) for k in range(5)]
    names = {f"outer_lr={lr}_seed={seed}" for lr in ("0.01", "0.1") for seed in (0, 1)}
    assert {line["name"] for line in lines} == names
    assert {p.name for p in (tmp_path / "s").iterdir()} == names | {"sweep.jsonl"}
    means = [line["accuracy"]["1"]["mean"] for line in lines]
    assert means == sorted(means, reverse=True)
    assert {line["judged"]["split"] for line in lines} == {"val"}
    assert {json.loads((tmp_path / "s" / n / "result.json").read_text())["results"][0]["split"] for n in names} == {
        "val"
    }
    assert read(tmp_path / "s") == lines
    told.clear()
    assert run_sweep(place, tmp_path / "s", judging=judging, on_run=lambda *values: told.append(values[:2])) == lines
    assert told == [(4, 4)]
    more = run_sweep(place, tmp_path / "s", judging=judging, steps=3, seeds=(0,))
    assert [line["steps"] for line in more] == [3, 3], "resumed to a larger budget"


@pytest.mark.slow
def test_processes_give_the_same_lines_and_without_data_pseudo_val_decides(place, tmp_path):
    here, there = (run_sweep(place, tmp_path / f"{jobs}", jobs=jobs, seeds=(0,)) for jobs in (1, 2))
    assert [line["pseudo_val"] for line in here] == [line["pseudo_val"] for line in there]
    values = [line["pseudo_val"] for line in here]
    assert values == sorted(values, reverse=True)
    assert here[0]["accuracy"] == {}


def test_everything_that_is_wrong_is_said_before_the_first_run(place, tmp_path):
    run_sweep(place, tmp_path / "s", grid={}, seeds=(0,))
    (tmp_path / "s" / "seed=1").mkdir()
    (tmp_path / "s" / "seed=1" / "letter.txt").write_text("dear run")
    with pytest.raises(InputError) as caught:
        run_sweep(place, tmp_path / "s", grid={}, seeds=(0, 1, 1), recipe="free")
    for part in ("seed=0: network.width: 4 there", "not a run folder", "seed=1: twice"):
        assert part in str(caught.value)
    with pytest.raises(InputError) as caught:
        run_sweep(place, tmp_path / "new", grid={"outer_lr": ["fast", "0.1"], "rounds": ["-1", "none"], "wth": ["1"]})
    for part in ("outer_lr", "--wth: no such name"):
        assert str(caught.value).count(part) == 1
    assert "none has been started" in str(caught.value)
    assert not (tmp_path / "new").exists()
    known = make_data(tmp_path / "known", prefix="known", images=9)
    with pytest.raises(InputError, match="share"):
        run_sweep(place, tmp_path / "new", judging=Judging(str(known), split="val"))


def test_a_run_that_fails_stops_no_other_and_is_tried_again(place, tmp_path, capsys):
    out = tmp_path / "s"
    run_sweep(place, out, grid={}, seeds=(1,))
    (out / "sweep.jsonl").unlink()
    versions = out / "seed=1" / "versions.json"
    kept = versions.read_text()
    versions.write_text("{")  # a damage that planning does not look for
    words = ["sweep", "--zoo", str(place / "zoo"), "--out", str(out), "--recipe", str(place / "quick.toml")]
    words += ["--seeds", "0", "1", "--jobs", "1"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "1 of 2 runs failed: seed=1" in shown.err
    assert "pseudo-val" in shown.out
    assert [("error" in line) for line in read(out)] == [False, True]
    versions.write_text(kept)
    assert main(words) == 0
    assert "2/2  seed=1" in capsys.readouterr().out
    assert not any("error" in line for line in read(out))


def read(out):
    lines = [json.loads(text) for text in (out / "sweep.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seal"} for line in lines]


def test_grids_are_read_and_folders_are_named_safely():
    assert read_grid(["lr=0.1,0.2", "blocks=[1,2],[3]"]) == {"lr": ["0.1", "0.2"], "blocks": ["[1,2]", "[3]"]}
    assert folder_name({"lr": "1e-3", "path": "a/../b c", "seed": 0}) == "lr=1e-3_path=a-..-b-c_seed=0"
    for words in (["lr"], ["lr=1,,2"], ["=1"], ["lr=1", "lr=2"]):
        with pytest.raises(InputError, match="NAME=VALUE"):
            read_grid(words)
