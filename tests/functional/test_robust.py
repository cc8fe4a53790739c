import pytest
import torch

from dfml.functional.robust import worst_nearby


def test_ascent_follows_the_penalised_loss_step_by_step():
    a, centre = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[0.2, 0.1], [-1.0, 2.0]])
    point = centre.clone()
    for _ in range(3):  # grad of |x - a|^2 - p |x - c|^2
        point = point + 0.05 * (2 * (point - a) - 2 * 4.0 * (point - centre))
    found = worst_nearby(lambda x: ((x - a) ** 2).sum(-1), centre, penalty=4.0, steps=3, lr=0.05)
    torch.testing.assert_close(found, point)


def test_it_converges_to_the_supremum_where_the_penalty_makes_it_concave_and_stays_for_no_steps():
    a, centre = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.2, 0.1]])
    found = worst_nearby(lambda x: ((x - a) ** 2).sum(-1), centre, penalty=4.0, steps=500, lr=0.05)
    torch.testing.assert_close(found, (4 * centre - a) / 3)  # where 2 (x - a) = 2 p (x - c)
    assert torch.equal(worst_nearby(lambda x: x.sum(-1), centre, penalty=1.0, steps=0, lr=1.0), centre)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_a_higher_penalty_moves_less(penalty):
    centre = torch.zeros(4, 3)
    near, far = (
        worst_nearby(lambda x: x.sum(-1), centre, penalty=p, steps=50, lr=0.02) for p in (2 * penalty, penalty)
    )
    assert float(near.norm()) < float(far.norm())


def test_what_is_learned_is_left_alone():
    centre = torch.zeros(1, 2, requires_grad=True)
    found = worst_nearby(lambda x: x.sum(-1), centre, penalty=1.0, steps=2, lr=0.1)
    assert not found.requires_grad
    assert centre.grad is None
