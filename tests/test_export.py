"""A predictor as one file, which says what the predictor says."""

import io
import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dfml.cli import main
from dfml.errors import InputError
from dfml.export import export
from dfml.export.writing import drawn_bytes
from dfml.learners import LEARNERS
from dfml.learners.predictor_file import save_predictor
from dfml.learners.task_classifier import TaskClassifier
from dfml.nn import AnsweringBackbone
from toys import toy_encoder

SUPPORT, LABELS = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1])


def classifier(*, floor=None, answering=False) -> TaskClassifier:
    encoder = toy_encoder()
    if answering:
        encoder.backbone = AnsweringBackbone(encoder.backbone, ([4, 0, 1], [1, 2]), hidden=8).eval()
    return TaskClassifier(LEARNERS["ridge"](encoder).adapt(SUPPORT, LABELS), ["cat", "dog"], floor=floor)


def label(script, image, capsys, monkeypatch) -> str:
    monkeypatch.setattr(sys, "argv", [str(script), str(image)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script))
    assert end.value.code == 0
    return capsys.readouterr().out.split("\t")[1]


@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_the_file_is_checked_and_its_script_labels_images(ending, tmp_path, capsys, monkeypatch):
    if ending == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    made = classifier(answering=True)
    written = export(made, tmp_path / f"net.{ending}")
    assert written.difference <= 1e-4
    assert written.agreement == 100
    pixels = drawn_bytes(2, made, "test")
    Image.fromarray(pixels[0].numpy()).save(tmp_path / "0.png")
    wanted = made.predict_files([tmp_path / "0.png"]).labels[0]
    assert label(written.loader, tmp_path / "0.png", capsys, monkeypatch) == wanted
    export(classifier(floor=1e9), tmp_path / f"net.{ending}")
    assert label(written.loader, tmp_path / "0.png", capsys, monkeypatch) == "none of these"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", f"net.{ending}", f"net_{ending}.py"]


def test_the_script_sees_what_is_transparent_on_white_and_names_what_it_cannot_read(tmp_path, capsys, monkeypatch):
    made = classifier()
    script = export(made, tmp_path / "net.pt2").loader
    pixels = drawn_bytes(8, made, "test").numpy()
    for number, image in enumerate(pixels):
        alpha = np.zeros(image.shape[:2], np.uint8)
        alpha[: 2 * number] = 255
        Image.fromarray(np.dstack([image, alpha])).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    monkeypatch.setattr(sys, "argv", ["net_pt2.py", str(tmp_path / "broken.png"), *map(str, paths)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script))
    told = capsys.readouterr()
    said, wanted = told.out.splitlines(), made.predict_files(paths)
    assert [line.split("\t")[1] for line in said] == wanted.labels
    shares = [float(line.split("\t")[2].removesuffix(" %")) for line in said]
    assert shares == pytest.approx((100 * wanted.probabilities.max(-1).values).tolist(), abs=0.06)
    assert (end.value.code, "broken.png" in told.err) == (1, True)


def test_a_file_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("dfml.export.writing.AGREEMENT", -1.0)
    with pytest.raises(InputError, match="away from the predictor's"):
        export(classifier(), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_script_and_refuses_other_names(tmp_path, capsys):
    made = classifier()
    save_predictor(made.predictor, tmp_path / "p", made.class_names)
    assert main(["export", str(tmp_path / "p"), str(tmp_path / "net.pt2")]) == 0
    assert "with_name('net.pt2')" in capsys.readouterr().out
    kept = {"dfml": ""}
    torch.export.load(io.BytesIO((tmp_path / "net.pt2").read_bytes()), extra_files=kept)
    assert json.loads(kept["dfml"]) == {
        "input": [16, 16, 3],
        "class_names": ["cat", "dog"],
        "floor": None,
        "none": "none of these",
    }
    for words in (["net.bin"], ["net.pt2", "--int8"]):
        assert main(["export", str(tmp_path / "p"), str(tmp_path / words[0]), *words[1:]]) == 2
        assert "ends in .onnx" in capsys.readouterr().err


def test_eight_bits_agree_mostly(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert export(classifier(), tmp_path / "net.onnx", int8=True).agreement >= 80


@pytest.mark.slow
def test_the_script_runs_without_torch(tmp_path):
    """In an environment of numpy, onnxruntime and pillow alone; skipped where none can be made."""
    pytest.importorskip("onnxscript")
    made = classifier()
    written = export(made, tmp_path / "net.onnx")
    Image.fromarray(drawn_bytes(1, made, "test")[0].numpy()).save(tmp_path / "0.png")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "onnxruntime", "pillow"]).returncode:
        pytest.skip("packages cannot be fetched")
    shown = subprocess.run([python, written.loader, tmp_path / "0.png"], capture_output=True, text=True, check=True)
    assert shown.stdout.split("\t")[1] == made.predict_files([tmp_path / "0.png"]).labels[0]
