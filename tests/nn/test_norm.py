import pytest
import torch
import torch.nn.functional as F

from dfml.errors import InputError
from dfml.nn import (
    BatchNorm2d,
    Classifier,
    batch_statistics,
    build_backbone,
    given_statistics,
    is_transductive,
    record_statistics,
    write_norm,
)


def test_behaves_as_torch_outside_the_blocks():
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("architecture", ["conv4", "resnet10"])
def test_recorded_statistics_give_the_batch_answer_and_leave_the_running_ones(architecture):
    torch.manual_seed(0)
    network = build_backbone(architecture, image_size=16, width=4).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    x = torch.rand(6, 3, 16, 16)
    with batch_statistics(network):
        batch = network(x)
    with record_statistics(network) as statistics:
        recorded = network(x)
    with given_statistics(network, statistics):
        given = network(x)
        alone = network(x[:1])
    torch.testing.assert_close(batch, recorded)
    torch.testing.assert_close(batch, given, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone, given[:1], atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_gradients_flow_through_recorded_statistics():
    layer = BatchNorm2d(2)
    x = torch.randn(4, 2, 3, 3, requires_grad=True)
    with record_statistics(layer) as statistics:
        layer(x)
    with given_statistics(layer, statistics):
        layer(torch.ones(1, 2, 3, 3)).sum().backward()
    assert x.grad.abs().sum() > 0


def test_sizes_that_a_network_cannot_take_are_refused():
    with pytest.raises(InputError, match="image size 8 for conv4"):
        build_backbone("conv4", image_size=8)
    with pytest.raises(InputError, match="one of conv4"):
        build_backbone("conv5", image_size=32)


def test_parameter_counts_of_the_papers():
    conv4 = Classifier(build_backbone("conv4", image_size=32), 5)
    assert sum(p.numel() for p in conv4.parameters()) == 29_541
    large = Classifier(build_backbone("conv4", image_size=84), 5)
    assert sum(p.numel() for p in large.parameters()) == 32_901
    resnet = Classifier(build_backbone("resnet10", image_size=32), 5)
    assert 4.8e6 < sum(p.numel() for p in resnet.parameters()) < 5.0e6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_frozen_layer_gives_the_numbers_and_input_gradients_of_torch_and_keeps_bfloat16(dtype):
    torch.manual_seed(0)
    ours = BatchNorm2d(3)
    ours(torch.randn(50, 3, 4, 4) * 3 + 1)
    ours.eval().requires_grad_(False).weight.copy_(torch.tensor([2.0, -1.0, 0.5]))
    theirs = torch.nn.BatchNorm2d(3).eval()
    theirs.load_state_dict(ours.state_dict())
    x, pull = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    if dtype == torch.float64:
        ours, theirs, x, pull = ours.double(), theirs.double(), x.double(), pull.double()
    given = x.to(dtype).requires_grad_()
    expected = x.to(dtype).to(x.dtype).requires_grad_()
    answer, truth = ours(given), theirs(expected)
    assert answer.dtype == dtype
    tolerance = {"atol": 2e-2, "rtol": 1e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(answer.to(truth.dtype), truth, **tolerance)
    (ours_at,), (theirs_at,) = (
        torch.autograd.grad(answer, given, pull.to(answer)),
        torch.autograd.grad(truth, expected, pull),
    )
    torch.testing.assert_close(ours_at.to(x.dtype), theirs_at, **tolerance)


def test_inside_vmap_batch_statistics_come_from_the_standard_layout(monkeypatch):
    """CUDA's BatchNorm fails on a channels-last tensor of vmap; a CPU would not show it."""
    layouts, batch_norm = [], F.batch_norm
    monkeypatch.setattr(F, "batch_norm", lambda x, *rest: layouts.append(x.is_contiguous()) or batch_norm(x, *rest))
    layer = BatchNorm2d(4)
    images = torch.rand(2, 3, 4, 5, 5).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    with batch_statistics(layer):
        torch.func.vmap(layer)(images)
    assert layouts == [True]


def foreign_network():
    """With torch's own BatchNorm, in two and in one dimension."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
    layers += [torch.nn.Linear(4 * 36, 5), torch.nn.BatchNorm1d(5)]
    network = torch.nn.Sequential(*layers)
    for _ in range(3):
        network.train()(torch.randn(8, 3, 8, 8))
    return network.eval()


def by_hand(network, support, images):
    """Layer by layer, every BatchNorm by the mean and variance of what the support is there."""
    for layer in network:
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            dims = [d for d in range(support.ndim) if d != 1]
            shape = [1, -1] + [1] * (support.ndim - 2)
            mean, variance = support.mean(dims).view(shape), support.var(dims, correction=0).view(shape)
            scale = layer.weight.view(shape) / (variance + layer.eps).sqrt()
            support, images = (scale * (x - mean) + layer.bias.view(shape) for x in (support, images))
        else:
            support, images = layer(support), layer(images)
    return images


def test_a_policy_acts_on_networks_of_others():
    support, images = torch.randn(6, 3, 8, 8) * 3, torch.randn(4, 3, 8, 8)
    network = foreign_network()
    running = network(images)
    given = write_norm(network, "support", support)
    torch.testing.assert_close(given, by_hand(foreign_network(), support, support))
    torch.testing.assert_close(network(images), by_hand(foreign_network(), support, images))
    assert (network(images) - running).abs().max() > 0.1
    assert not is_transductive(network)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))
    write_norm(network, "query_batch", support)
    assert is_transductive(network)
    torch.testing.assert_close(network(images), by_hand(foreign_network(), images, images))


def test_a_policy_without_anything_to_act_on_is_refused():
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(write_norm(plain, "running", images), plain(images))
    for norm in ("support", "query_batch"):
        with pytest.raises(InputError, match="without BatchNorm"):
            write_norm(plain, norm, images)


def test_training_by_episodes_refuses_statistics_without_gradients():
    with pytest.raises(InputError, match="BatchNorm2d"), batch_statistics(foreign_network()):
        pass
