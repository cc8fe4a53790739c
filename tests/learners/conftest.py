"""Small encoders whose BatchNorm statistics are not the initial ones."""

import pytest
import torch

from dfml.nn import BatchNorm2d, Encoder, InputSpec, build_backbone


@pytest.fixture
def make_encoder():
    def make(seed: int = 0, architecture: str = "conv4", size: int = 16) -> Encoder:
        torch.manual_seed(seed)
        spec = InputSpec(size=size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
        encoder = Encoder(build_backbone(architecture, image_size=size, width=8), spec)
        for layer in encoder.modules():
            if isinstance(layer, BatchNorm2d):
                layer.running_mean.uniform_(-0.3, 0.3)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.uniform_(-0.2, 0.2)
        return encoder.eval()

    return make


@pytest.fixture
def support():
    """Uneven shots of three classes."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(7, 3, 16, 16, generator=generator), torch.tensor([0, 1, 1, 2, 0, 2, 2])


@pytest.fixture
def queries():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(6))
