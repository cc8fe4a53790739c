import pytest
import torch

from dfml.data import ImageSet


@pytest.fixture
def image_set_of():
    """An image set of two black images of one class each."""

    def make(*names: str) -> ImageSet:
        names = (*names, "another")
        images = torch.zeros(len(names), 3, 16, 16, dtype=torch.uint8)
        return ImageSet("black", images, torch.arange(len(names)), names)

    return make
