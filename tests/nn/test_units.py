import pytest
import torch
from torch import nn

from dfml.errors import InputError
from dfml.functional.matching import matching, reordered
from dfml.nn import build_backbone, norm_layers
from dfml.nn.units import interchangeable_units


def _network(architecture: str) -> nn.Module:
    """With statistics and weights of BatchNorm that tell its channels apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_backbone(architecture, image_size=16, width=4).eval()
        for layer in norm_layers(network):
            for tensor in (layer.weight, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


@pytest.mark.parametrize("architecture", ["conv4", "conv4_growing", "resnet10", "resnet12", "resnet18"])
def test_channels_change_places_and_the_features_follow_and_matching_brings_them_back(architecture):
    network, groups = _network(architecture), interchangeable_units(_network(architecture))
    floats = {k: v for k, v in network.state_dict().items() if v.is_floating_point()}
    written = [name for writes, _ in groups for name in writes]
    assert sorted(written) == sorted(floats)  # each tensor's own channels belong to one group
    images = torch.rand(3, 3, 16, 16)
    features = network(images)
    orders = [torch.randperm(len(floats[writes[0]])) for writes, _ in groups]
    assert any(not torch.equal(order, order.sort().values) for order in orders)
    copy = _network(architecture)
    copy.load_state_dict(reordered(floats, groups, orders), strict=False)
    by_channel = features.unflatten(1, (len(orders[-1]), -1))
    torch.testing.assert_close(copy(images), by_channel[:, orders[-1]].flatten(1), rtol=1e-4, atol=1e-4)
    moved = {k: v for k, v in copy.state_dict().items() if v.is_floating_point()}
    back = reordered(moved, groups, matching(moved, floats, groups))
    assert all(torch.equal(v, floats[k]) for k, v in back.items())


def test_another_network_is_refused():
    with pytest.raises(InputError, match="a Flatten, whose channels"):
        interchangeable_units(nn.Flatten())
