from dataclasses import replace

import pytest
import torch

from dfml.methods import tgr
from dfml.methods.base import Role, teachers_of
from dfml.methods.tgr import RENEW, TGR
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.recovery import ByTeacher, MetaGenerator
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from dfml.zoo.teacher import LocalTeacher
from dfml.zoo.views import BlackBox
from toys import ToyZoo, run_steps

QUICK = {"images_per_class": 6, "validation_episodes": 3, "rounds": 2, "teachers_per_step": 2, "groups": 2}
REPLAY = {"patience": 1, "episodes": 2, "way": 3, "queries": 2}


def _method(recovery=None, *, learner: str = "protonet", replay: dict | None = None, **options) -> TGR:
    return TGR(
        recovery=recovery or MetaGenerator(latent=8, steps=1, adversarial_weight=0.0),
        model=ModelOptions(learner, width=4),
        replay=ReplayOptions(**REPLAY | (replay or {})),
        **QUICK | options,
    )


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def _visited(method, state, zoo, step: int) -> list[str]:
    """One step; whom it visited."""
    rng = Rng(0).at("step", step)
    plan = method.plan(state, zoo, rng)
    method.step(state, teachers_of(zoo, plan), rng)
    return plan[Role.VISIT]


def test_nobody_is_embedded_before_the_first_step_and_everybody_before_there_are_groups(zoo):
    method = _method(validation_teachers=0)
    before = zoo.tally.queries
    state = method.init(zoo, Rng(0))
    assert zoo.tally.queries == before, "whatever takes time is a step"
    assert not state.grouping.embeddings
    visited = []
    for step in range(3):
        assert not state.grouping.groups
        visited += _visited(method, state, zoo, step)
    assert sorted(visited) == zoo.ids, "each once"
    assert state.grouping.groups.keys() == set(zoo.ids)
    assert len(set(state.grouping.groups.values())) == 2


def test_a_step_visits_and_reviews_one_group_and_nobody_twice(zoo):
    method = _method(validation_teachers=0, rounds=3)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 3)
    state.grouping.groups = {"t0": 0, "t1": 1, "t2": 0, "t3": 1, "t4": 0}
    seen = set()
    for n in range(12):
        plan = method.plan(state, zoo, Rng(n))
        (group,) = {state.grouping.groups[i] for ids in plan.values() for i in ids}
        seen.add(group)
        assert len(set(plan[Role.VISIT])) == 2
        assert len(plan[Role.REVIEW]) == 4
        assert all(len(set(plan[Role.REVIEW][k : k + 2])) == 2 for k in (0, 2))
    assert seen == {0, 1}


def test_of_a_large_zoo_some_are_compared_and_now_and_then_others(zoo):
    method = _method(validation_teachers=0, embedded=3)
    state = method.init(zoo, Rng(0))
    for step in range(RENEW):
        _visited(method, state, zoo, step)
        assert len(state.grouping.embeddings) <= 3
        if state.grouping.groups and step < RENEW - 1:
            assert set(method.plan(state, zoo, Rng(step))[Role.VISIT]) <= set(state.grouping.groups)
    assert state.grouping.groups
    new = set(zoo.ids) - set(state.grouping.embeddings)
    assert set(method.plan(state, zoo, Rng(0))[Role.VISIT]) == new
    _visited(method, state, zoo, RENEW)
    assert new <= set(state.grouping.embeddings)


def test_the_model_follows_the_mean_of_the_displaced_gradients(zoo, monkeypatch):
    """Of the losses that a step makes, recomputed by the formula."""
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    method = _method(rounds=1, displacement=0.1, replay={"patience": 0}, teachers_per_step=3)
    state, caught = method.init(zoo, Rng(0)), []

    def caught_align(model, losses, outer, **kwargs):
        model.train()
        g = [_gradient(loss, model.distilled_parameters()) for loss in losses]
        mean = {k: sum(x[k] for x in g) / len(g) for k in g[0]}
        start = {k: p.detach() for k, p in model.distilled_parameters().items()}
        displaced = [
            _gradient(loss, {k: start[k] - 0.1 * (mean[k] - x[k]) for k in start})
            for loss, x in zip(losses, g, strict=True)
        ]
        caught.append(({k: sum(x[k] for x in displaced) / len(g) for k in start}, mean))
        return real(model, losses, outer, **kwargs)

    real = tgr.align
    monkeypatch.setattr("dfml.methods.tgr.align", caught_align)
    run_steps(method, state, zoo, 0, 1)
    ((wanted, mean),) = caught
    for k, p in state.model.distilled_parameters().items():
        torch.testing.assert_close(p.grad, wanted[k], rtol=1e-3, atol=1e-5)
    assert max(float((wanted[k] - mean[k]).norm() / mean[k].norm().clamp(min=1e-3)) for k in mean) > 0.01


def _gradient(loss, parameters):
    theta = {k: p.detach().clone().requires_grad_() for k, p in parameters.items()}
    return dict(zip(theta, torch.autograd.grad(loss(theta), list(theta.values())), strict=True))


def test_held_out_teachers_are_neither_embedded_nor_learned_from(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 5)
    held_out = [zoo.class_ids.index(c) for c in state.validation.class_ids]
    assert held_out
    assert state.bank.written[held_out].sum() == 0
    assert not set(state.validation.ids) & state.grouping.embeddings.keys()
    assert method.validate(state, Rng(9)).keys() == {"pseudo_val", "pseudo_val_chance"}


def test_models_that_give_labels_alone_can_be_grouped(zoo):
    """Only answers are asked; the probe does the rest."""
    hidden = ToyZoo()
    hidden.teachers = {name: BlackBox(teacher, "labels") for name, teacher in hidden.teachers.items()}
    hidden.capabilities = lambda name: hidden.teachers[name].capabilities
    method = _method(ByTeacher(latent=8, steps=1), probe="conv4", validation_teachers=0)
    state = method.init(hidden, Rng(0))
    metrics = run_steps(method, state, hidden, 0, 4)[-1]
    assert metrics["embedded"] == 5
    assert metrics["groups"] >= 1
    assert metrics["imitation"] > 0


def test_architectures_and_image_sizes_mix(zoo):
    mixed = ToyZoo()
    spec = InputSpec(channels=1, size=24, mean=(0.5,), std=(0.25,))
    network = Classifier(build_backbone("resnet10", image_size=24, channels=1, width=4), 3)
    card = replace(mixed.cards["t0"], source="dfml:resnet10", input_spec=spec)
    mixed.teachers["t0"], mixed.cards["t0"] = LocalTeacher(card, network), card
    method = _method(validation_teachers=0)
    state = method.init(mixed, Rng(0))
    assert state.grouping.probe.spec == spec, "its images are fitted to the probe"
    run_steps(method, state, mixed, 0, 4)
    assert state.grouping.groups.keys() == set(mixed.ids)
    assert len({e.shape for e in state.grouping.embeddings.values()}) == 1


@pytest.mark.slow
def test_imitation_falls_over_a_few_steps(zoo):
    method = _method(MetaGenerator(latent=8, steps=5), outer_lr=0.02, replay={"patience": 0})
    state = method.init(zoo, Rng(0))
    losses = [m["imitation_fresh"] for m in run_steps(method, state, zoo, 0, 24)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("learner", ["maml", "anil"])
def test_learners_with_an_inner_loop_train(zoo, learner):
    method = _method(learner=learner)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 2)[-1]
    assert metrics["replay_batches"] >= 1
    assert method.learner(state) is state.average.learner
