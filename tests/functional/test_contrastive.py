import pytest
import torch

from dfml.functional.contrastive import supervised_contrastive

FEATURES = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 2, 2, 2], [0, 1, 0, 1, 1, 3, 2]])
def test_it_is_the_mean_over_those_who_have_others_of_their_class(labels):
    unit = FEATURES / FEATURES.norm(dim=1, keepdim=True)
    each = []
    for i, own in enumerate(labels):
        others = [p for p, label in enumerate(labels) if label == own and p != i]
        total = sum((unit[i] @ unit[a] / 0.3).exp() for a in range(7) if a != i)
        if others:
            each.append(-sum(((unit[i] @ unit[p] / 0.3).exp() / total).log() for p in others) / len(others))
    found = supervised_contrastive(FEATURES, torch.tensor(labels), temperature=0.3)
    torch.testing.assert_close(found, sum(each) / len(each))


def test_nobody_with_others_of_its_class_makes_zero():
    assert float(supervised_contrastive(FEATURES, torch.arange(7), temperature=0.3)) == 0


def test_its_gradient_matches_differences():
    labels = torch.tensor([0, 1, 0, 1, 1, 3, 2])
    features = FEATURES.clone().requires_grad_()
    torch.autograd.gradcheck(lambda f: supervised_contrastive(f, labels, temperature=0.3), (features,))


def test_classes_that_lie_together_lose_less_than_classes_that_are_mixed():
    directions = torch.eye(2).repeat_interleave(3, 0) + 0.1 * FEATURES[:6, :2].float()
    together, mixed = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 0, 1])
    loss = [float(supervised_contrastive(directions, y, temperature=0.3)) for y in (together, mixed)]
    assert loss[0] < loss[1] / 2
