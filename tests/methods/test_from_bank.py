"""Pre-inversion, DF-MAML and DF-ProtoNet."""

import copy

import pytest
import torch

from dfml.errors import InputError
from dfml.methods.base import Role, teachers_of
from dfml.methods.memory_replay import MemoryReplay
from dfml.methods.pre_inversion import PreInversion
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.recovery import DeepInversion, MetaGenerator
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from toys import ToyZoo, run_steps

REPLAY = ReplayOptions(patience=2, limit=2, episodes=2, way=3, queries=2)
PARTS = {"model": ModelOptions("protonet", {}, "conv4", 4), "replay": REPLAY, "images_per_class": 4}


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def _pre_inversion(**changed) -> PreInversion:
    return PreInversion(**{**PARTS, "recovery": DeepInversion(steps=2), "teachers_per_step": 3} | changed)


def _memory_replay(**changed) -> MemoryReplay:
    recovery = MetaGenerator(latent=8, steps=1, adversarial_weight=0.0)
    return MemoryReplay(**{**PARTS, "recovery": recovery, "teachers_per_step": 2} | changed)


def test_every_model_is_inverted_once_a_few_a_step_and_then_none_is_asked_again(zoo):
    method = _pre_inversion()
    state = method.init(zoo, Rng(0))
    wanted, visited = state.validation.visited_ids, []
    for step in range(4):
        planned = method.plan(state, zoo, Rng(0).at("step", step))[Role.VISIT]
        before = copy.deepcopy(state.current.state_dict())
        (metrics,) = run_steps(method, state, zoo, step, step + 1)
        moved = any(not torch.equal(v, before[k]) for k, v in state.current.state_dict().items())
        assert moved == (not planned)  # nothing is learned before all are inverted
        assert metrics["images"] == sum(12 - 4 * _held_out(state, zoo, name) for name in planned)
        visited.append(planned)
    assert sorted(name for step in visited for name in step) == sorted(wanted)
    assert visited[-1] == []
    asked = zoo.tally.queries
    run_steps(method, state, zoo, 4, 6)
    assert zoo.tally.queries == asked


def _held_out(state, zoo, name: str) -> int:
    """Of its classes, those that training may not see."""
    return len(set(state.validation.class_ids) & set(zoo.entry(name).class_ids))


def test_held_out_classes_are_in_no_bank(zoo):
    for method in (_pre_inversion(), _memory_replay()):
        state = method.init(zoo, Rng(0))
        run_steps(method, state, zoo, 0, 4)
        rows = {row for row, c in enumerate(zoo.class_ids) if c in state.validation.class_ids}
        assert rows
        assert not rows & set(state.bank.ready(1))


def test_a_model_that_is_set_aside_is_left_out_and_the_others_are_still_inverted(zoo):
    method = _pre_inversion()
    state = method.init(zoo, Rng(0))
    bad = method.plan(state, zoo, Rng(0))[Role.VISIT][0]
    state.aside = {bad: "for the test"}
    run_steps(method, state, zoo, 0, 3)
    assert sorted([*state.inverted, bad]) == sorted(state.validation.visited_ids)
    assert state.trained


def test_a_run_that_stops_while_models_are_left_has_no_learner_and_goes_on_where_it_stopped(zoo):
    method = _pre_inversion(teachers_per_step=1)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 2)
    with pytest.raises(InputError, match="2 models were inverted and 2 are left"):
        method.learner(state)
    second = method.init(zoo, Rng(0))
    second.load_state_dict(copy.deepcopy(state.state_dict()))
    for s in (state, second):
        run_steps(method, s, zoo, 2, 6)
    ours, theirs = (method.learner(s).state_dict() for s in (state, second))
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())


def test_memory_replay_recovers_and_trains_in_every_step_and_asks_for_no_answers(zoo):
    method = _memory_replay()
    state = method.init(zoo, Rng(0))
    rng = Rng(0).at("step", 0)
    asked = zoo.tally.queries
    report = method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng)
    assert zoo.tally.queries - asked == 2 * report.images  # one step and the reading of the generator: no distillation
    metrics = run_steps(method, state, zoo, 1, 4)
    assert all(m["images"] > 0 and m["replay_batches"] == 2 for m in metrics)
    assert len({tuple(method.plan(state, zoo, Rng(0).at("step", n))[Role.VISIT]) for n in range(8)}) > 1


def test_training_on_memory_learns_its_classes(zoo):
    method = _memory_replay(
        recovery=DeepInversion(steps=10),
        replay=ReplayOptions(patience=20, limit=20, episodes=4, way=3, queries=2, lr=5e-3),
        teachers_per_step=4,
    )
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 4)
    assert metrics[-1]["replay_loss"] < 0.8 * metrics[0]["replay_loss"]


def test_a_memory_that_is_too_small_for_an_episode_has_no_learner(zoo):
    method = _memory_replay(images_per_class=1)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 1)
    assert state.trained == 0
    with pytest.raises(InputError, match="a run of 1 steps, with images of"):
        method.learner(state)


@pytest.mark.parametrize(("recipe", "learner"), [("df_maml", "maml"), ("df_protonet", "protonet")])
def test_the_recipe_says_which_learner(recipe, learner):
    assert resolve(recipe).build().model.learner == learner
