import numpy as np
import pytest
import torch
from PIL import Image

from dfml.data import ImageSet


def _random_set(
    name: str, class_names, per_class: int = 3, size: int = 8, channels: int = 3, seed: int = 0
) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    count = len(class_names) * per_class
    images = torch.randint(256, (count, channels, size, size), generator=generator).to(torch.uint8)
    return ImageSet(name, images, torch.arange(len(class_names)).repeat_interleave(per_class), tuple(class_names))


@pytest.fixture(scope="session")
def random_set():
    """``random_set(name, class_names, per_class=3, size=8, channels=3, seed=0)``: an ImageSet of random bytes."""
    return _random_set


@pytest.fixture
def save_image():
    """Write a random picture of (width, height) to a path, folders included."""

    def save(path, size=(8, 8), mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(array, mode).save(path)

    return save
