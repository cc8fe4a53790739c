"""A zoo of four toy teachers and image folders of unseen classes, 16 pixels: enough for every command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dfml.zoo import Zoo, write_index
from toys import toy_teacher

SERIAL = Path(__file__).parent
FREE = {
    "method.warmup_steps": 1,
    "method.images_per_class": 6,
    "method.teachers_per_step": 2,
    "replay.limit": 1,
    "replay.episodes": 1,
    "replay.way": 3,
    "replay.queries": 3,
    "method.validation_episodes": 2,
    "recovery.steps": 1,
    "recovery.latent": 8,
    "learner": "protonet",
    "network.width": 4,
    "run.val_every": 2,
}
CONSOLIDATE = {
    "method.images_per_class": 6,
    "method.updates": 3,
    "method.batch_size": 8,
    "method.capacity": 100,
    "recovery.latent": 8,
    "recovery.steps": 1,
    "network.width": 4,
}
OPTIONS = ["--recipe", "free"] + [
    word for name, value in FREE.items() for word in (f"--{name.replace('_', '-')}", str(value))
]


def run_script(name: str, *arguments: object) -> Any:
    """The JSON that a script of this folder prints, in a process of its own."""
    paths = os.pathsep.join([str(SERIAL), str(SERIAL.parent), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, SERIAL / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def make_zoo(folder: Path) -> Path:
    for i in range(4):
        teacher = toy_teacher(f"toy-{i}", tuple(f"known-{(2 * i + k) % 8}" for k in range(3)), seed=i)
        Zoo.write_model(folder, teacher.card, teacher.network)
    write_index(folder, name="toys", shared_classes=True)
    return folder


def make_data(folder: Path, *, prefix: str = "new", images: int = 9) -> Path:
    """``train``, ``val`` and ``test`` with a folder per class, one colour a class."""
    generator = torch.Generator().manual_seed(3)
    for k, split in enumerate(("train", "val", "test")):
        for c in range(5):
            colour = torch.rand(3, generator=generator)
            place = folder / split / f"{prefix}-{5 * k + c}"
            place.mkdir(parents=True)
            for i in range(images):
                pixels = (colour + 0.05 * torch.randn(16, 16, 3, generator=generator)).clamp(0, 1)
                Image.fromarray((255 * pixels).numpy().astype(np.uint8)).save(place / f"{i}.png")
    return folder
