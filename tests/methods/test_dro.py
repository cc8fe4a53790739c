import copy

import pytest
import torch

from dfml.errors import InputError
from dfml.functional.matching import matching, reordered
from dfml.methods.dro import DRO
from dfml.randomness import Rng
from dfml.training.weights import float_tensors
from dfml.zoo import Counted, LocalTeacher
from toys import ToyZoo, run_steps, toy_teacher


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def _learned(zoo: ToyZoo, steps: int, **changed):
    method = DRO(**{"embedding": 8, "chunk": 64, "hidden": 64, "lr": 3e-3, "updates": 40} | changed)
    state = method.init(zoo, Rng(0))
    return method, state, run_steps(method, state, zoo, 0, steps)


def test_weights_there_and_back_are_those_of_the_aligned_model(zoo):
    _, state, _ = _learned(zoo, 0)
    anchor, own = (float_tensors(zoo.network(i).backbone) for i in ("t0", "t3"))
    aligned = reordered(own, state.groups, matching(own, anchor, state.groups))
    back = state.tensors(state.weights_of(zoo.teacher("t3")))
    assert back.keys() == aligned.keys()
    for name, value in back.items():
        torch.testing.assert_close(value, aligned[name], rtol=1e-4, atol=1e-5)


def test_variances_stay_positive_whatever_is_given(zoo):
    _, state, _ = _learned(zoo, 0)
    given = state.tensors(torch.full_like(state.weights_of(zoo.teacher("t0")), -100.0))
    assert all(bool((t > 0).all()) for name, t in given.items() if name.endswith("running_var"))


def test_one_model_is_learned_by_heart():
    zoo = ToyZoo()
    for name in zoo.ids:
        zoo.teachers[name] = Counted(LocalTeacher(zoo.cards[name], copy.deepcopy(zoo.network("t0"))), zoo.tally)
    method, state, metrics = _learned(zoo, 12, teachers_per_step=2, penalty=100.0, ascent_lr=1e-3)
    assert metrics[-1]["fusion"] < 0.05 * metrics[0]["fusion"]
    (encoder,) = method.learner(state).networks
    wanted, given = (float_tensors(n)["blocks.0.weight"] for n in (zoo.network("t0").backbone, encoder.backbone))
    assert float((given - wanted).norm()) < 0.3 * float(wanted.norm())


def test_robustness_moves_embeddings_and_costs_accuracy_of_the_weights(zoo):
    plain, robust = (_learned(zoo, 6, ascent_steps=n)[2][-1] for n in (0, 5))
    assert plain["transport"] == 0
    assert robust["transport"] > 0
    assert robust["fusion"] > plain["fusion"]


def test_mixed_architectures_and_a_run_without_steps_are_refused(zoo):
    method = DRO()
    with pytest.raises(InputError, match="a run of no steps"):
        method.learner(method.init(zoo, Rng(0)))
    mixed = ToyZoo()
    mixed.teachers["t1"] = toy_teacher("t1", width=8)
    with pytest.raises(InputError, match="conv4-4, conv4-8"):
        method.init(mixed, Rng(0))
