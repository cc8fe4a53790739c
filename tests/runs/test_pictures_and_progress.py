import io
from dataclasses import replace

import pytest
import torch
from fakes import fake_config
from PIL import Image
from rich.console import Console

from dfml.runs.budget import Update
from dfml.runs.plots import Sheet, contact_sheet, plot_curves
from dfml.runs.progress import clock, console_progress, is_term, json_progress, tensorboard

UPDATE = Update(
    30,
    60.0,
    fake_config(steps=120).run,
    {"class": 0.5, "images": 400.0, "distillation": 1.25},
    {"pseudo_val": 61.0},
    33.0,
)


def test_curves(tmp_path):
    metrics = [{"schema": 1, "step": i, "seconds": i / 2, "class": 1 / i, "bn": 0.1 * i} for i in range(1, 40)]
    metrics[19]["pseudo_val"], metrics[38]["pseudo_val"] = 40.0, 55.0
    metrics[3]["class"] = float("nan")
    assert [p.name for p in plot_curves(metrics, tmp_path)] == ["losses.png", "pseudo_val.png"]
    assert all(Image.open(tmp_path / n).size[0] > 300 for n in ("losses.png", "pseudo_val.png"))
    assert plot_curves([], tmp_path) == []


def test_contact_sheet_has_a_row_per_class_in_any_channel_count(tmp_path):
    labels = torch.tensor([0, 0, 1])
    sheets = [
        Sheet(str(c), torch.rand(3, c, 8, 8), labels, ("a $ name", "a very long name of a class")) for c in (1, 3, 3)
    ]
    path = contact_sheet(sheets, tmp_path / "deep" / "sheet.png", columns=4)
    assert Image.open(path).size[0] > 200
    titled = contact_sheet(sheets, tmp_path / "titled.png", columns=4, title="3 of 7 teachers")
    assert Image.open(titled).size[1] > Image.open(path).size[1]


def test_plain_lines_outside_a_terminal():
    out = io.StringIO()
    with console_progress(Console(file=out)) as progress:
        progress(UPDATE)
        progress(UPDATE)  # too soon for another line
    text = out.getvalue()
    assert text.count("step 30/120") == 1
    for part in ("class 0.5", "distillation 1.25", "pseudo-val 61.0 %", "33 images/s", "3:00 left"):
        assert part in text
    assert "images 400" not in text


def test_a_bar_in_a_terminal():
    out = io.StringIO()
    with console_progress(Console(file=out, force_terminal=True, width=160)) as progress:
        progress(UPDATE)
    assert "step 30/120" in out.getvalue()


def test_json_has_an_object_a_step_and_one_a_note():
    lines = []
    told = json_progress(lines.append)
    told(replace(UPDATE, metrics={}, notes=("twelve models answer",)))
    told(replace(UPDATE, metrics={"class": float("nan")}))
    assert lines[0] == {"note": "twelve models answer"}
    assert lines[1]["step"] == 30
    assert lines[1]["seconds_left"] == 180.0
    assert lines[1]["pseudo_val"] == 61.0
    assert lines[1]["class"] is None  # JSON knows no NaN


def test_tensorboard_reads_what_was_written_and_forgets_steps_that_are_taken_again(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError)
    for steps in ((1, 2, 3), (2, 3)):  # stopped after the third, resumed from the first
        with tensorboard(tmp_path / "run" / "tensorboard") as progress:
            progress(replace(UPDATE, metrics={}))
            for step in steps:
                progress(replace(UPDATE, step=step, metrics={"class": step / 2 + len(steps)}))
    written = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    written.Reload()
    assert [(e.step, e.value) for e in written.Scalars("class")] == [(1, 3.5), (2, 3.0), (3, 3.5)]


def test_names_and_clock():
    assert [n for n in ("class", "recover_seconds", "replay_accuracy", "bn", "images") if is_term(n)] == ["class", "bn"]
    assert clock(185.9) == "3:05"
