import pytest
import torch
from torch import nn

from dfml.errors import InputError
from dfml.nn import (
    ARCHITECTURES,
    NETWORKS,
    AnsweringBackbone,
    Classifier,
    SideBySide,
    build_backbone,
    build_network,
    describe,
    network_name,
)
from dfml.nn.classifier import networks_of


def backbones():
    torch.manual_seed(0)
    for name in ARCHITECTURES:
        yield build_backbone(name, image_size=16, width=4)
    conv4 = build_backbone("conv4", image_size=16, channels=1, width=4)
    yield AnsweringBackbone(conv4, [[4, 0, 1], [1, 2]], hidden=6)
    yield AnsweringBackbone(SideBySide([Classifier(conv4, 3), Classifier(conv4, 2)]), [[4, 0, 1], [1, 2]], heads=False)


@pytest.mark.parametrize("network", backbones(), ids=lambda n: describe(n)["kind"])
def test_a_network_is_built_again_from_what_it_says_of_itself(network):
    again = build_network(describe(network))
    again.load_state_dict(network.state_dict())
    assert describe(again) == describe(network)
    images = torch.rand(3, describe(networks_of(network)[0])["channels"], 16, 16)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_others_add_their_own(monkeypatch):
    class Mine(nn.Module):
        feature_size = 3

        @property
        def description(self):
            return {"kind": "mine", "scale": 2.0}

        def forward(self, x):
            return 2.0 * x.mean((2, 3))

    monkeypatch.setitem(NETWORKS, "mine", lambda values: Mine())
    assert isinstance(build_network(describe(Mine())), Mine)
    assert network_name([Mine(), build_backbone("conv4", image_size=16)]) == "conv4-32+mine"


@pytest.mark.parametrize(
    "wrong", [{"kind": "nothing"}, {}, {"kind": "conv4"}, {"kind": "conv4", "image_size": 16, "x": 1}]
)
def test_what_cannot_be_built_is_explained(wrong):
    with pytest.raises(InputError, match="conv4"):
        build_network(wrong)


def test_a_network_that_says_nothing_of_itself_is_refused():
    with pytest.raises(InputError, match="without a description"):
        describe(nn.Identity())
