import torch
import torch.nn.functional as F

from dfml.functional.priors import boundary_disagreement
from dfml.functional.zeroth_order import random_directions, zeroth_order_gradient
from toys import toy_teacher

SHAPE = (3, 2, 4, 4)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _estimate(loss, images, directions, radius):
    after = torch.stack([loss(images + radius * u) for u in directions])
    return zeroth_order_gradient(loss(images), after, directions, radius)


def test_directions_are_unit_vectors_that_point_everywhere():
    drawn = random_directions(4000, SHAPE, _generator()).flatten(2)
    assert torch.allclose(drawn.norm(dim=2), torch.ones(4000, 3))
    assert float(drawn.mean(0).abs().max()) < 0.01
    covariance = torch.einsum("qnd,qne->nde", drawn, drawn) / 4000 * 32
    assert torch.allclose(covariance, torch.eye(32).expand(3, -1, -1), atol=0.15)
    assert not torch.equal(drawn[:, 0], drawn[:, 1]), "each image has directions of its own"


def test_it_is_the_plain_sum_over_directions():
    before, after = torch.rand(3), torch.rand(5, 3)
    directions = random_directions(5, SHAPE, _generator())
    naive = torch.zeros(SHAPE)
    for n in range(3):
        for j in range(5):
            naive[n] += 32 / 5 * (after[j, n] - before[n]) / 0.3 * directions[j, n]
    assert torch.allclose(zeroth_order_gradient(before, after, directions, 0.3), naive, atol=1e-5)


def test_orthogonal_directions_give_the_gradient_of_a_linear_loss_exactly():
    gradient, images = torch.randn(SHAPE).double(), torch.rand(SHAPE).double()
    basis, _ = torch.linalg.qr(torch.randn(3, 32, 32).double())  # of each image its own
    directions = basis.transpose(0, 1).reshape(32, *SHAPE)
    estimate = _estimate(lambda x: (x * gradient).flatten(1).sum(1), images, directions, 0.7)
    assert torch.allclose(estimate, gradient)


def test_on_a_linear_loss_it_comes_nearer_with_more_directions():
    gradient, images = torch.randn(SHAPE), torch.rand(SHAPE)

    def error(count: int) -> float:
        directions = random_directions(count, SHAPE, _generator(1))
        estimate = _estimate(lambda x: (x * gradient).flatten(1).sum(1), images, directions, 1.0)
        return float((estimate - gradient).norm() / gradient.norm())

    few, many = error(100), error(10000)
    assert 0.3 < few < 0.9  # sqrt((d - 1) / q) = 0.56
    assert many < 0.15 * few  # a tenth of it


def test_its_mean_is_the_gradient_of_a_teachers_loss():
    teacher = toy_teacher()
    teacher.network.double()
    images, labels = torch.rand(2, 3, 16, 16).double(), torch.tensor([0, 1])

    def loss(x):
        return F.cross_entropy(teacher.network(x), labels, reduction="none")

    x = images.clone().requires_grad_()
    (true,) = torch.autograd.grad(loss(x).sum(), [x])
    with torch.no_grad():
        directions = random_directions(20000, images.shape, _generator(2)).double()
        moved = torch.cat([(images + 1e-4 * part).flatten(0, 1) for part in directions.split(1000)])
        after = torch.cat([loss_of(teacher, part, labels) for part in moved.split(2000)]).view(-1, 2)
        estimate = zeroth_order_gradient(loss(images), after, directions, 1e-4)
    error = (estimate - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)
    assert float(error.max()) < 0.3  # sqrt(768 / 20000) = 0.2
    along = (estimate * true).flatten(1).sum(1) / true.flatten(1).square().sum(1)
    assert torch.allclose(along, torch.ones(2).double(), atol=0.05)  # unbiased: no shorter, no longer


def loss_of(teacher, images, labels):
    return F.cross_entropy(teacher.network(images), labels.repeat(len(images) // 2), reduction="none")


def test_boundary_disagreement_is_the_l1_distance_where_both_answer_alike():
    teacher = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]], requires_grad=True)
    student = torch.tensor([[1.0, 0.5, 0.0], [4.0, 0.0, 0.0]], requires_grad=True)
    value = boundary_disagreement(teacher, student)
    naive = sum(abs(p - q) for p, q in zip(teacher[0].softmax(0).tolist(), student[0].softmax(0).tolist(), strict=True))
    assert torch.allclose(value.detach(), torch.tensor([-naive, 0.0]))
    stacked = boundary_disagreement(teacher.expand(4, 2, 3), student.expand(4, 2, 3))
    assert torch.equal(stacked, value.expand(4, 2))
    assert all(float(g.abs().sum()) > 0 for g in torch.autograd.grad(value.sum(), [teacher, student]))
