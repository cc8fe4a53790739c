import pytest
import torch
from test_train_one import coloured

from dfml.nn import Classifier, build_backbone
from dfml.randomness import Rng
from dfml.zoo_building.train_one import scale, train_classifier
from dfml.zoo_building.train_together import train_together
from tiny_zoo import SPEC

SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 0.01, "flips": True, "shift": 2}


def networks(architecture):
    torch.manual_seed(0)
    backbones = [build_backbone(architecture, image_size=16, width=4) for _ in range(3)]
    return [Classifier(backbone, 3).double() for backbone in backbones]


@pytest.mark.parametrize(("architecture", "optimiser"), [("conv4", "adam"), ("conv4", "sgd"), ("resnet10", "sgd")])
def test_together_is_one_after_another(architecture, optimiser, monkeypatch):
    """In float64: Adam makes steps of the rounding in gradients that are zero, as those of biases before BatchNorm."""
    for module in ("train_one", "train_together"):
        monkeypatch.setattr(f"dfml.zoo_building.{module}.scale", lambda images, spec: scale(images, spec).double())
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    data = [coloured(13, seed=i) for i in range(3)]  # 39 images: batches of 13
    rngs = [Rng(i) for i in range(3)]
    one_by_one, together = networks(architecture), networks(architecture)
    settings = SETTINGS | {"optimiser": optimiser}
    for (images, labels), network, rng in zip(data, one_by_one, rngs, strict=True):
        train_classifier(images, labels, network, SPEC, rng=rng, **settings)
    images, labels = (torch.stack(parts) for parts in zip(*data, strict=True))
    train_together(images, labels, together, SPEC, rngs=rngs, **settings)
    for ours, theirs in zip(together, one_by_one, strict=True):
        assert not ours.training
        state, expected = ours.state_dict(), theirs.state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
