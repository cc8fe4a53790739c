import pytest
import torch
import torch.nn.functional as F

from dfml.nn import pooling
from dfml.nn.pooling import MaxPool2x2

pool = MaxPool2x2()


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    monkeypatch.setattr(pooling, "SMALL", 0)


def images(*shape, dtype=torch.float32, channels_last=True):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (2, 4, 7, 9), (1, 1, 2, 3), (2, 3, 5, 4)])
def test_values_and_gradient_are_those_of_torch(shape, dtype, channels_last):
    x = images(*shape, dtype=dtype, channels_last=channels_last).requires_grad_()
    ours, theirs = pool(x), F.max_pool2d(x, 2)
    assert torch.equal(ours, theirs)
    assert torch.equal(pool(x.detach()), theirs)
    weights = torch.randn_like(theirs)
    (a,), (b,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, theirs))
    if dtype == torch.bfloat16:  # equal neighbours, where either may win
        assert (a != b).float().mean() < 0.05
        assert torch.equal(F.avg_pool2d(a, 2), F.avg_pool2d(b, 2))
    else:
        assert torch.equal(a, b)


def test_second_derivative():
    x = images(2, 3, 5, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v: pool(v).pow(3), x)


def test_gradient_of_ties_goes_to_one_place():
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    pool(x).sum().backward()
    assert x.grad.sum() == 4
    assert (x.grad == 1).sum() == 4


def test_infinite_and_negative_zero():
    x = torch.tensor([[[[-0.0, 0.0], [-torch.inf, torch.inf]]]], requires_grad=True)
    pool(x).sum().backward()
    assert torch.equal(x.grad, torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]))


def test_under_vmap():
    x = images(4, 3, 6, 6)
    assert torch.equal(torch.vmap(lambda v: pool(v[None])[0])(x), F.max_pool2d(x, 2))
