import pytest
import torch
from sklearn.metrics import roc_auc_score

from dfml.functional.membership import area_under_curve, found_at, standard


def test_the_area_is_that_of_scikit_learn_with_ties_too():
    generator = torch.Generator().manual_seed(0)
    members = torch.randint(0, 9, (40,), generator=generator).float() + 1
    others = torch.randint(0, 9, (30,), generator=generator).float()
    truth = [1] * 40 + [0] * 30
    assert area_under_curve(members, others) == pytest.approx(roc_auc_score(truth, torch.cat([members, others])))


def test_found_counts_members_above_what_one_in_a_hundred_others_reaches():
    others = torch.arange(200.0)
    members = torch.tensor([0.0, 196.5, 197.5, 198.0, 500.0])
    assert found_at(members, others) == pytest.approx(3 / 5)  # 197 is the third highest: two of 200 lie above it
    assert (others > 197).float().mean() == 0.01
    assert found_at(members, others, false=0.5) == pytest.approx(4 / 5)


def test_standard_scores_of_the_others():
    members, others = standard(torch.tensor([4.0, 6.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert others.tolist() == [-1, 0, 1]
    assert members.tolist() == [2, 4]
