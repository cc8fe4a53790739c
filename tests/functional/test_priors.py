import numpy as np
import torch
from torch import nn

from dfml.functional.priors import (
    BatchNormStatistics,
    _Moments,
    batchnorm_alignment,
    batchnorm_norms,
    capture_statistics,
    disagreement,
    total_variation,
)
from dfml.nn import Classifier, build_backbone


def _network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_backbone("conv4", image_size=16, width=4), 5).eval()


def _match(network: nn.Module, images: torch.Tensor) -> None:
    """Set every BatchNorm's running statistics to those of ``images``, layer by layer."""
    for layer in [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]:
        with capture_statistics(network) as captured:
            network(images)
        position = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)].index(layer)
        layer.running_mean.copy_(captured[position].mean.detach())
        layer.running_var.copy_(captured[position].variance.detach())


def test_alignment_is_zero_on_matched_statistics_and_positive_elsewhere():
    network, images = _network(), torch.rand(12, 3, 16, 16)
    _match(network, images)
    with capture_statistics(network) as captured:
        network(images)
    assert float(batchnorm_alignment(captured)) < 1e-8
    assert float(batchnorm_norms(captured)) < 1e-4
    with capture_statistics(network) as captured:
        network(images * 0.5)
    assert float(batchnorm_alignment(captured)) > 1e-3


def test_alignment_equals_naive_recomputation():
    g = torch.Generator().manual_seed(1)
    layers = [BatchNormStatistics(*(torch.rand(c, generator=g) + 0.1 for _ in range(4))) for c in (3, 7)]
    naive, norms = 0.0, 0.0
    for s in layers:
        terms = []
        for mu, var, mu_hat, var_hat in zip(s.mean, s.variance, s.running_mean, s.running_variance, strict=True):
            deviation = (var + 1e-5) ** 0.5 - (var_hat + 1e-5) ** 0.5
            terms.append(((mu - mu_hat) ** 2 + deviation**2) / (var_hat + 1e-5))
        naive += sum(terms) / len(terms) / len(layers)
        norms += sum((s.mean - s.running_mean) ** 2) ** 0.5 + sum((s.variance - s.running_variance) ** 2) ** 0.5
    torch.testing.assert_close(batchnorm_alignment(layers), naive)
    torch.testing.assert_close(batchnorm_norms(layers), norms)


def test_alignment_does_not_grow_with_layers_or_channels():
    def layers(count: int, channels: int) -> list[BatchNormStatistics]:
        one, zero = torch.ones(channels), torch.zeros(channels)
        return [BatchNormStatistics(one, one, zero, one) for _ in range(count)]

    torch.testing.assert_close(batchnorm_alignment(layers(2, 4)), batchnorm_alignment(layers(20, 64)))
    assert batchnorm_norms(layers(20, 64)) > 10 * batchnorm_norms(layers(2, 4))


def test_moments_and_their_gradient():
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    torch.testing.assert_close(_Moments.apply(x), (mean, variance))
    torch.autograd.gradcheck(_Moments.apply, (x,))


def test_hooks_live_only_inside_the_block():
    network, images = _network(), torch.rand(2, 3, 16, 16)
    with capture_statistics(network) as captured:
        network(images)
    assert len(captured) == 4
    network(images)
    assert len(captured) == 4
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_disagreement_counts_only_agreeing_samples_and_has_gradients_through_both():
    teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = disagreement(teacher, student)
    p, q = teacher[0].softmax(-1), student[0].softmax(-1)
    torch.testing.assert_close(value, -(p * (p / q).log()).sum() / 2)
    value.backward()
    assert teacher.grad[0].abs().sum() > 0
    assert student.grad[0].abs().sum() > 0
    assert teacher.grad[1].abs().sum() == 0


def test_total_variation_is_the_mean_of_squared_differences():
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    down = [(images[n, c, i + 1, j] - images[n, c, i, j]) ** 2 for n, c, i, j in np.ndindex(2, 3, 3, 5)]
    across = [(images[n, c, i, j + 1] - images[n, c, i, j]) ** 2 for n, c, i, j in np.ndindex(2, 3, 4, 4)]
    expected = torch.stack(down).mean() + torch.stack(across).mean()
    torch.testing.assert_close(total_variation(images), expected)
