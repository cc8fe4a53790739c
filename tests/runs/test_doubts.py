import pytest
import torch

from dfml.evaluation.score import Score
from dfml.runs.doubts import doubts
from dfml.runs.results import Evaluation


@pytest.mark.parametrize(("last", "said"), [(20.5, True), (19.0, True), (23.0, False), (None, False)])
def test_accuracy_at_chance_is_doubted(last, said):
    lines = [{"step": 1, "pseudo_val": 60.0, "pseudo_val_chance": 20.0}, {"step": 2}]
    lines += [{"step": 3, "pseudo_val": last, "pseudo_val_chance": 20.0}] if last else []
    assert ["where chance is 20 %" in sentence for sentence in doubts(lines)] == [True] * said
    assert not doubts([{"step": 1, "pseudo_val": 20.0}])


@pytest.mark.parametrize(("grows", "said"), [(1.5, True), (1.0, False), (0.8, False)])
def test_a_loss_that_grows_is_doubted(grows, said):
    lines = [{"step": k, "replay/loss": 0.5 * grows**k, "queries": 10.0**k} for k in range(25)]
    assert ["replay/loss grew from" in sentence for sentence in doubts(lines)] == [True] * said
    assert not doubts(lines[:5])


def test_an_evaluation_no_better_than_guessing_is_told():
    scores = {s: {"inductive": Score(m, 1.0, torch.tensor([m]), 0.0, "running")} for s, m in ((1, 20.9), (5, 21.1))}
    assert Evaluation("free", 1, scores, {}, []).at_chance(5) == [1]
