"""Every command, on toys; what a person meets when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfml.cli import main, read_overrides
from dfml.errors import InputError
from dfml.runs.per_episode import read_per_episode

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from small import OPTIONS

COMMANDS = [
    "demo",
    "data glyphs",
    "zoo build",
    "zoo add",
    "train",
    "sweep",
    "evaluate",
    "compare",
    "adapt",
    "predict",
    "export",
    "push",
    "trust",
]


def test_help_is_quick_and_names_every_command():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "dfml", "--help"], capture_output=True, text=True)
    assert time.monotonic() - start < 10
    assert done.returncode == 0
    assert " torch" not in done.stderr, "help must not wait for torch"
    for name in (*COMMANDS, "zoo list", "recover"):
        assert name in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert "usage: dfml " + command in capsys.readouterr().out


def test_a_learner_needs_neither_run_nor_zoo(place, run, tmp_path, capsys):
    for name in ("learner.json", "learner.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    support = place / "data" / "test"
    for given, out in ((tmp_path / "learner.json", "alone"), (run, "run")):
        assert main(["adapt", str(given), "--support", str(support), "--out", str(tmp_path / out)]) == 0
        said = capsys.readouterr().out
        assert "adapted to" in said
        assert (f"dfml adapt {place / 'zoo'}" in said) == (given == run)  # the other way, where there is one
    alone, of_run = ((tmp_path / out / "predictor.safetensors").read_bytes() for out in ("alone", "run"))
    assert alone == of_run


def test_the_whole_job(place, run, capsys):
    assert main(["zoo", "list", str(place / "zoo")]) == 0
    assert "toy-3" in capsys.readouterr().out
    words = ["evaluate", str(run), "--data", str(place / "data"), "--queries", "4", "--shots", "1", "3"]
    assert main([*words, "--episodes", "10", "--baselines"]) == 0
    table = capsys.readouterr().out
    for name in ("random", "mean single teacher", "free", "zoo ensemble", "1-shot", "3-shot", "paired", "±"):
        assert name in table
    assert json.loads((run / "result.json").read_text())["schema"] == 1
    assert main(["recover", str(run), "--teachers", "toy-1"]) == 0
    assert (run / "plots" / "recovered" / "toy-1.png").exists()
    support, predictor = str(place / "data" / "test"), str(place / "predictor")
    assert main(["adapt", str(run), "--support", support, "--out", predictor]) == 0
    capsys.readouterr()
    image = sorted(Path(support).glob("*/0.png"))[0]
    assert main(["predict", predictor, str(image), str(image), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0]["label"] in lines[0]["probabilities"]
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert main(["predict", predictor, str(image)]) == 0
    assert "%" in capsys.readouterr().out


def test_sigterm_leaves_a_checkpoint_and_resume_goes_on(place, tmp_path):
    out = tmp_path / "run"
    words = [sys.executable, "-m", "dfml", "train", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen(
        [*words, "--zoo", str(place / "zoo"), "--steps", "100000", *OPTIONS],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        assert begun.poll() is None, begun.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    begun.send_signal(signal.SIGTERM)
    _, errors = begun.communicate(timeout=60)
    assert begun.returncode == 143
    assert "continue with --resume" in errors
    assert "Traceback" not in errors
    step = len(metrics.read_text().splitlines())
    assert main(["train", "--out", str(out), "--resume", "--steps", str(step + 2)]) == 0
    assert len(metrics.read_text().splitlines()) == step + 2


FREE = ["train", "--out", "{new}", "--recipe", "free"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["did you mean 'train'"]),
        (["zoo", "lost"], ["did you mean 'zoo list'"]),
        (["train"], ["no --out"]),
        (
            ["train", "--out", "{new}", "--recipe", "free", "--learnr", "maml"],
            ["--learnr: no such name (did you mean 'learner'?)"],
        ),
        (
            [*FREE, "--learner", "maml", "--learner.inner-lrr", "1"],
            ["no such name (did you mean 'learner.inner_lr'?)"],
        ),
        (["train", "--out", "{new}", "--steps", "0"], ["--run.steps", "greater than 0"]),
        (
            ["train", "--out", "{new}", "--recipe", "free", "--shot", "many", "--width", "-1"],
            ["2 problem(s)", "shot", "width"],
        ),
        (["train", "--out", "{new}", "--recipe", "fre"], ["did you mean 'free'"]),
        (["train", "--out", "{new}", "stray"], ["'stray' belongs to no option"]),
        (["train", "--out", "{file}/run", "--zoo", "{zoo}"], ["cannot be written", "change --out"]),
        (["train", "--out", "{run}", "--zoo", "{zoo}"], ["holds a run already", "--resume"]),
        (["train", "--out", "{run}", "--resume", "--seed", "7"], ["run.seed: 0 there, 7 here"]),
        (["train", "--out", "{new}", "--resume"], ["no such folder"]),
        (["train", "--out", "{new}", "--zoo", "{new}"], ["no such folder", "dfml zoo add"]),
        (["evaluate", "{new}", "--data", "glyphs"], ["no such folder"]),
        (
            ["adapt", "{new}", "--support", "{run}", "--out", "{new}"],
            ["no such file or folder", "a run, a learner's files, or a zoo"],
        ),
        (["recover", "{run}", "--teachers", "toy-9"], ["toy-9"]),
        (["adapt", "{run}", "--support", "{new}", "--out", "{new}"], ["wanted:", "to do:"]),
        (["predict", "{new}", "a.png"], ["no such folder", "a folder with a predictor"]),
        (["predict", "{run}", "a.png"], ["no predictor.json in it", "`dfml adapt` makes a predictor"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_input_is_explained(words, parts, place, run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    names = {"new": tmp_path / "new", "file": tmp_path / "file", "run": run, "zoo": place / "zoo"}
    assert main([word.format(**names) for word in words]) == 2
    error = capsys.readouterr().err
    for part in (*parts, "wanted:", "to do:"):
        assert part in error, error
    assert not (tmp_path / "new").exists()


def test_show_prints_the_resolved_recipe(capsys):
    assert (
        main(
            [
                "train",
                "--show",
                "--recipe",
                "free",
                "--learner",
                "anil",
                "--set",
                "learner.inner_lr=0.5",
                "--minutes",
                "3",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "inner_lr = 0.5" in shown
    assert 'adapts = "head"' in shown
    assert "minutes = 3.0" in shown


def test_overrides():
    words = ["--lr", "0.1", "--method.way=3", "--set", "a.b=c", "--flag", "--no-other", "--last", "-1"]
    expected = {"lr": "0.1", "method.way": "3", "a.b": "c", "flag": "true", "other": "false", "last": "-1"}
    assert read_overrides(words) == expected
    with pytest.raises(InputError):
        read_overrides(["word"])


def test_glyphs_are_written(tmp_path, capsys):
    assert main(["data", "glyphs", str(tmp_path / "npz"), "--as", "npz"]) == 0
    assert {p.name for p in (tmp_path / "npz").iterdir()} == {"train.npz", "val.npz", "test.npz"}


def test_compare_prints_and_writes_a_table(place, run, tmp_path, capsys):
    words = ["evaluate", str(run), "--data", str(place / "data"), "--queries", "4", "--shots", "1", "--episodes", "8"]
    assert main(words) == 0
    assert read_per_episode(run, json.loads((run / "result.json").read_text())["per_episode"]).keys() == {
        (1, "inductive"),
        (1, "transductive"),
    }
    written = [str(tmp_path / f"table{ending}") for ending in (".md", ".csv", ".tex")]
    capsys.readouterr()
    assert main(["compare", str(run), "--out", *written, "--plot", str(tmp_path / "cost.png")]) == 0
    shown = capsys.readouterr().out
    for part in ("free", "1-shot", "seconds", "questions", f"written: {written[2]}"):
        assert part in shown
    assert (tmp_path / "table.md").read_text().startswith("| recipe | 1-shot |")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", str(run), "--out", str(tmp_path / "table.xls")]) == 2
    assert ".md, .csv, .tex" in capsys.readouterr().err
