"""Inner loop and alignment against finite differences and algebra, in float64."""

import itertools

import torch

from dfml.functional.inner import displaced_gradient, gradient_steps, sequential_displacement, summed_gradient


def _quadratic(seed: int, size: int = 4):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=g, dtype=torch.float64)
    hessian, centre = root @ root.T / size, torch.randn(size, generator=g, dtype=torch.float64)
    return hessian, centre, lambda p: 0.5 * (p["w"] - centre) @ hessian @ (p["w"] - centre)


def _central_differences(f, w: torch.Tensor, h: float = 1e-5) -> torch.Tensor:
    out = torch.zeros_like(w)
    for i in range(len(w)):
        e = torch.zeros_like(w)
        e[i] = h
        out[i] = (f(w + e) - f(w - e)) / (2 * h)
    return out


def _cubic_task():
    """A loss whose Hessian changes, so that second order matters."""
    g = torch.Generator().manual_seed(7)
    a, b = torch.randn(6, 4, generator=g, dtype=torch.float64), torch.randn(6, generator=g, dtype=torch.float64)
    return lambda p: ((torch.tanh(a @ p["w"]) - b) ** 2).mean()


def test_second_order_meta_gradient_matches_central_differences():
    inner, outer = _cubic_task(), _quadratic(1)[2]
    w = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def meta(x: torch.Tensor) -> torch.Tensor:
        start = {"w": x if x.requires_grad else x.clone().requires_grad_()}
        return outer(gradient_steps(inner, start, steps=3, lr=0.1, second_order=True))

    x = w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(meta(x), x)
    torch.testing.assert_close(gradient, _central_differences(lambda v: meta(v).detach(), w), atol=1e-7, rtol=1e-6)


def test_first_order_meta_gradient_is_the_outer_gradient_at_the_adapted_point():
    inner, (hessian, centre, outer) = _cubic_task(), _quadratic(1)
    x = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    adapted = gradient_steps(inner, {"w": x}, steps=3, lr=0.1, second_order=False)
    (gradient,) = torch.autograd.grad(outer(adapted), x)
    torch.testing.assert_close(gradient, hessian @ (adapted["w"] - centre))


def _mean_displacement(tasks, w: torch.Tensor, lr: float) -> torch.Tensor:
    orders = list(itertools.permutations(tasks))
    total = sum(sequential_displacement([t[2] for t in order], {"w": w}, lr=lr)[0]["w"] for order in orders)
    return total / len(orders)


def _aligned_gradient(tasks, w: torch.Tensor, lr: float) -> torch.Tensor:
    """Gradient of sum_i L_i - (lr/2) sum_{i<j} <g_i, g_j>; for quadratics grad <g_i, g_j> = H_i g_j + H_j g_i."""
    g = [h @ (w - c) for h, c, _ in tasks]
    out = sum(g)
    for i, j in itertools.combinations(range(len(tasks)), 2):
        out = out - lr / 2 * (tasks[i][0] @ g[j] + tasks[j][0] @ g[i])
    return out


def test_alignment_direction_is_exact_for_two_quadratics():
    tasks = [_quadratic(1), _quadratic(2)]
    w = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(
        _mean_displacement(tasks, w, 0.2), _aligned_gradient(tasks, w, 0.2), rtol=1e-10, atol=1e-10
    )


def test_alignment_remainder_falls_as_the_square_of_the_step_for_three():
    tasks = [_quadratic(1), _quadratic(2), _quadratic(3)]
    w = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    remainder = [
        float((_mean_displacement(tasks, w, lr) - _aligned_gradient(tasks, w, lr)).norm()) for lr in (0.1, 0.05, 0.025)
    ]
    for coarse, fine in itertools.pairwise(remainder):
        assert 3.6 < coarse / fine < 4.4, remainder


def test_displacement_of_a_tiny_step_is_the_plain_sum():
    tasks = [_quadratic(s) for s in range(4)]
    w = torch.randn(4, dtype=torch.float64)
    losses = [t[2] for t in tasks]
    plain, met = summed_gradient(losses, {"w": w})
    sequential, _ = sequential_displacement(losses, {"w": w}, lr=1e-6)
    torch.testing.assert_close(sequential["w"], plain["w"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain["w"], sum(h @ (w - c) for h, c, _ in tasks))
    torch.testing.assert_close(met, torch.stack([loss({"w": w}) for loss in losses]))


def _with_penalty(losses, w: torch.Tensor, weight: float) -> torch.Tensor:
    """sum_i L_i + weight sum_i |g_i - mean g|^2."""
    w = w.clone().requires_grad_()
    g = [torch.autograd.grad(loss({"w": w}), w, create_graph=True)[0] for loss in losses]
    mean = torch.stack(g).mean(0)
    return (sum(loss({"w": w}) for loss in losses) + weight * sum(((x - mean) ** 2).sum() for x in g)).detach()


def test_displaced_gradients_descend_the_sum_and_the_variance_of_the_gradients():
    """Exact for quadratics: the gradient, by central differences, of the losses and lr/2 times the squares."""
    losses = [_quadratic(s)[2] for s in (1, 2, 3)]
    w = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found, met = displaced_gradient(losses, {"w": w}, lr=0.3)
    wanted = _central_differences(lambda v: _with_penalty(losses, v, 0.15), w)
    torch.testing.assert_close(found["w"], wanted, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(met, torch.stack([loss({"w": w}) for loss in losses]))
    doubled = _central_differences(lambda v: _with_penalty(losses, v, 0.3), w)
    assert float((found["w"] - doubled).norm()) > 0.1 * float(wanted.norm())


def test_displaced_gradients_by_the_formula():
    losses = [_cubic_task(), *(_quadratic(s)[2] for s in (1, 2))]
    w = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def gradient(loss, at: torch.Tensor) -> torch.Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(loss({"w": at}), at)[0]

    g = [gradient(loss, w) for loss in losses]
    mean = sum(g) / 3
    wanted = sum(gradient(loss, w - 0.2 * (mean - x)) for loss, x in zip(losses, g, strict=True))
    torch.testing.assert_close(displaced_gradient(losses, {"w": w}, lr=0.2)[0]["w"], wanted)


def test_remainder_of_displaced_gradients_falls_as_the_square_of_the_step():
    losses = [_cubic_task(), *(_quadratic(s)[2] for s in (1, 2))]
    w = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    remainder = [
        float(
            (
                displaced_gradient(losses, {"w": w}, lr=lr)[0]["w"]
                - _central_differences(lambda v, lr=lr: _with_penalty(losses, v, lr / 2), w)
            ).norm()
        )
        for lr in (0.1, 0.05, 0.025)
    ]
    for coarse, fine in itertools.pairwise(remainder):
        assert 3.0 < coarse / fine < 5.0, remainder


def test_one_loss_has_no_variance():
    (loss,) = [_cubic_task()]
    w = torch.randn(4, dtype=torch.float64)
    displaced, _ = displaced_gradient([loss], {"w": w}, lr=0.5)
    torch.testing.assert_close(displaced["w"], summed_gradient([loss], {"w": w})[0]["w"])
