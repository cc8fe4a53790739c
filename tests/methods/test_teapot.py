import copy

import pytest
import torch

from dfml.errors import InputError, NotFinite
from dfml.methods.base import Role, teachers_of
from dfml.methods.teapot import TEAPOT
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, RealImages
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from toys import ToyZoo, run_steps

QUICK = {"images_per_class": 6, "teachers_per_step": 2, "reward_episodes": 2, "validation_episodes": 2}
REPLAY = {"patience": 1, "limit": 2, "episodes": 2, "way": 3, "queries": 2}


def _method(*, learner: str = "protonet", replay: dict | None = None, recovery=None, **options) -> TEAPOT:
    return TEAPOT(
        recovery=recovery or MetaGenerator(latent=8, steps=1, adversarial_weight=0.0),
        model=ModelOptions(learner, width=4),
        replay=ReplayOptions(**REPLAY | (replay or {})),
        **QUICK | options,
    )


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


@pytest.mark.parametrize("learner", ["maml", "anil", "protonet"])
def test_every_learner_trains(zoo, learner):
    method = _method(learner=learner)
    state = method.init(zoo, Rng(0))
    before = copy.deepcopy(state.learner.state_dict())
    metrics = run_steps(method, state, zoo, 0, 2)[-1]
    assert metrics["distillation"] > 0
    assert metrics["memory"] > 0
    assert 0 <= metrics["reward"] <= 100
    assert any(not torch.equal(v, before[k]) for k, v in state.learner.state_dict().items())


def test_a_learner_that_episodes_do_not_move_is_refused(zoo):
    with pytest.raises(InputError, match="learner ridge"):
        _method(learner="ridge").init(zoo, Rng(0))


def test_what_can_never_work_is_refused_before_any_work():
    with pytest.raises(InputError, match=r"replay.patience 0"):
        _method(replay={"patience": 0})
    with pytest.raises(InputError, match="6 recovered images per class for 7 of a task"):
        _method(replay={"shot": 5})
    with pytest.raises(InputError, match="something that rewards a choice"):
        _method(validation_teachers=0)
    _method(validation_teachers=0, selection="uniform")


def test_each_step_has_fresh_generators_and_every_teachers_images_are_remembered(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    plan = method.plan(state, zoo, Rng(0))
    method.step(state, teachers_of(zoo, plan), Rng(0))
    assert state.bank.givers() == {zoo.number_of[name] for name in plan[Role.VISIT]}
    held_out = [zoo.class_ids.index(c) for c in state.validation.class_ids]
    assert held_out
    assert state.bank.written[held_out].sum() == 0
    sheets = [method.recovered_sheet(state, [zoo.teacher("t0")], Rng(s))[0].images for s in (1, 1, 2)]
    assert torch.equal(sheets[0], sheets[1])
    assert not torch.equal(sheets[0], sheets[2])


def test_rounds_end_when_the_reward_does_not_rise(zoo, monkeypatch):
    method = _method(replay={"patience": 2, "limit": None})
    readings = iter([50.0, 60.0, 60.0, 59.0])
    monkeypatch.setattr(method, "_reward", lambda *_: next(readings))
    state = method.init(zoo, Rng(0))
    (metrics,) = run_steps(method, state, zoo, 0, 1)
    assert metrics["rounds"] == 4
    assert metrics["reward"] == pytest.approx(57.25)


@pytest.mark.parametrize("reward", [70.0, 10.0])
def test_the_reward_is_credited_to_the_models_that_were_drawn(zoo, monkeypatch, reward):
    method = _method()
    monkeypatch.setattr(method, "_reward", lambda *_: reward)
    state = method.init(zoo, Rng(0))
    state.policy.baseline = 50.0
    plan = method.plan(state, zoo, Rng(0))
    report = method.step(state, teachers_of(zoo, plan), Rng(0))
    assert report.scores["advantage"] == pytest.approx(reward - 50)
    trust = state.trust()
    drawn, left = ({i: trust[i] for i in trust if (i in plan[Role.VISIT]) == was} for was in (True, False))
    assert sum(trust.values()) == pytest.approx(1)
    assert drawn
    assert left
    assert min(drawn.values()) > max(left.values()) if reward > 50 else max(drawn.values()) < min(left.values())


def test_uniform_selection_learns_no_preferences(zoo):
    method = _method(selection="uniform")
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 3)
    assert torch.equal(state.policy.logits, torch.zeros(5))
    assert all("advantage" not in m and "reward" in m for m in metrics)


def test_a_reward_from_real_images_is_said_and_needs_no_validation_teachers(zoo, shades):
    method = _method(data=shades, validation_teachers=0, replay={"queries": 2})
    assert method.uses_data
    state = method.init(zoo, Rng(0))
    assert {e.way for e in state.real} == {2}, "the validation classes of the folder"
    (metrics,) = run_steps(method, state, zoo, 0, 1)
    assert metrics["reward"] >= 50
    assert not _method().uses_data
    assert _method(recovery=RealImages()).uses_data


def test_held_out_teachers_whose_images_are_no_numbers_give_no_reward(zoo, monkeypatch):
    method = _method(replay={"limit": None, "patience": 3})
    state = method.init(zoo, Rng(0))

    def broken(*_, **__):
        raise NotFinite("images that are NaN")

    monkeypatch.setattr(state.validation, "accuracy", broken)
    (metrics,) = run_steps(method, state, zoo, 0, 1)
    assert "reward" not in metrics
    assert metrics["rounds"] == 3
    assert torch.equal(state.policy.logits, torch.zeros(5))


def test_resuming_from_a_state_dict_continues_to_the_same_bits(zoo):
    ends = []
    for split in (None, 2):
        method = _method()
        state = method.init(zoo, Rng(0))
        run_steps(method, state, zoo, 0, split or 4)
        if split:
            saved = copy.deepcopy(state.state_dict())
            state = method.init(zoo, Rng(0))
            state.load_state_dict(saved)
            run_steps(method, state, zoo, split, 4)
        ends.append(state)
    assert ends[0].policy.logits.abs().sum() > 0
    assert torch.equal(ends[0].policy.logits, ends[1].policy.logits)
    for a, b in zip(ends[0].average.state_dict().values(), ends[1].average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
