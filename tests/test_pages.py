"""Every block of README and docs is executed as it stands, by bash or Python, on small things and for two steps.

`test_docs.py` executes docs/models.md, and holds the lines on tasks of one's own to it in the default suite.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from built_zoo import build, image_set
from dfml import DataSplits, Zoo, evaluate_run, save_learner, train
from dfml.learners import LEARNERS
from foreign_models import CLASSES, Net
from outsiders import install_newcomer
from tiny_zoo import card, network
from toys import toy_encoder

TESTS = Path(__file__).parent
ROOT = TESTS.parent
BLOCK = re.compile(r"(?:<!-- (needs) (\S+) -->\n)?```(bash|zsh|fish|python)\n(.*?)```", re.S)
BLOCKS = {
    str(page.relative_to(ROOT)): BLOCK.findall(page.read_text(encoding="utf-8"))
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if page.name != "models.md"
}
ELSEWHERE = {  # programs that the pages name, and where they are tried
    "make": "what runs these tests",
    "pip": "CI, on a clean machine",
    "pytest": "what holds the newcomer to the contracts: tests/contracts/test_outsiders.py",
    "ray": "tests/compute/test_ray_executor.py",
    "srun": "tests/integration/test_many_processes.py",
    "reproduce/": "hours; test_docs.py reads whether they know their options",
}
IMAGES = {
    "few_images": ("red", "blue"),
    "more_images": ("red", "green"),
    "photos": ("",),
    "unknown": ("",),
    "FOLDER": ("red", "blue"),
}
BEFORE = {"bash": ["-c", "set -eo pipefail\n"], "zsh": ["-c", "autoload -U compinit; compinit -u\n"]}
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 200, 30), "": (190, 30, 40)}


def programs_of(python: str) -> dict[str, str]:
    """What stands before the reader's programs, as lines of sh."""
    return {name: "" for name in ELSEWHERE if not name.endswith("/")} | {
        "dfml": f'exec {python} {TESTS}/shortened.py "$@"',
        "python": f'case "$1" in reproduce/*) exit 0;; esac\nexec {python} "$@"',
        "torchrun": f'rm -r RUN\nexec {python} -m torch.distributed.run "$@" --steps 2',
        "git": f'[ "$1" = clone ] && ln -sfn . dfml || exec {shutil.which("git")} "$@"',
        "python3": "mkdir -p .venv/bin\ntouch .venv/bin/activate",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the pages say that the reader has: a zoo, its data, a learner, runs, folders of images, files of weights."""
    place = tmp_path_factory.mktemp("reader")
    data = DataSplits("toys", image_set("train", 12, per_class=150), image_set("val", 12), image_set("test", 12))
    build(place / "ZOO", data, models=5, way=5)
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        (place / "DATA").mkdir(exist_ok=True)
        images = np.ascontiguousarray(part.images.permute(0, 2, 3, 1).numpy())
        np.savez(place / f"DATA/{name}.npz", images=images, labels=part.labels.numpy(), class_names=part.class_names)
    (place / "IMAGES").symlink_to("DATA")
    (place / "reproduce/zoos").mkdir(parents=True)
    (place / "reproduce/zoos/cifar_fs_conv4").symlink_to("../../ZOO")
    for folder, classes in IMAGES.items():
        for name in classes:
            (place / folder / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (20, 20), COLOURS[name]).save(place / folder / name / f"{number}.png")
    for name in ("unknown.png", "image.jpg"):
        Image.new("RGB", (20, 20), COLOURS["red"]).save(place / name)
    save_learner(LEARNERS["ridge"](toy_encoder()).eval(), place / "learner/learner")
    Zoo.write_model(place / "my_models", card("mine", ("ant", "bee", "cow")), network(1))
    example, shapes = (torch.rand(2, 3, 16, 16),), ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Net(seed=2).eval(), example, dynamic_shapes=shapes), place / "exported.pt2")
    install_newcomer(place / "site")
    (place / "names.txt").write_text("\n".join(CLASSES))
    if find_spec("timm"):
        import timm

        torch.save(timm.create_model("resnet18", num_classes=len(CLASSES)).state_dict(), place / "mine.pth")
    run = train(Zoo.open(place / "ZOO"), out=place / "RUN", recipe="fast", steps=2)
    evaluate_run(run, place / "DATA", episodes=10)
    for name in ("runs/a", "runs/b", "runs/c", "runs/mine", "demo/run"):
        shutil.copytree(place / "RUN", place / name)
    return place


@pytest.fixture
def reader(made, tmp_path):
    """A copy of it, and the environment of somebody who has installed dfml; what serves ends with the test."""
    place, programs = tmp_path / "reader", tmp_path / "bin"
    shutil.copytree(made, place, symlinks=True)
    for name in ("benchmarks", "examples"):
        (place / name).symlink_to(ROOT / name)
    programs.mkdir()
    for name, text in programs_of(sys.executable).items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    own = {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(place / "site"), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }
    yield place, os.environ | own
    for file in place.glob("*.pid"):
        os.kill(int(file.read_text()), signal.SIGINT)


def as_typed(block: str) -> str:
    """Optional parts are taken, and what the reader is to fill in is."""
    text = re.sub(r"\[(--[^]]*)\]", r"\1", block).replace("<this repository>", "dfml").replace(" ... ", " ")
    return re.sub(r"minutes=\d+", "steps=2", text)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_every_block_runs(page, reader):
    place, environment = reader
    for word, value, language, block in BLOCKS[page]:
        program = sys.executable if language == "python" else shutil.which(language)
        if not program or (word == "needs" and not find_spec(value)):
            continue
        text = as_typed(block)
        command = [program, *BEFORE.get(language, ["-c", ""])]
        command[-1] += text
        ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{text}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"
