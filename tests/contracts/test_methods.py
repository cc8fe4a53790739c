"""What every registered method and recovery promises."""

import copy
import inspect

import pytest
import torch

from dfml.learners import AbstractLearner
from dfml.methods import METHODS
from dfml.methods.base import teachers_of
from dfml.randomness import Rng
from dfml.recipes.options import recipe_names
from dfml.recipes.resolving import resolve
from dfml.recovery import RECOVERIES
from dfml.zoo.card import Capability
from toys import SPEC, ToyZoo, toy_teacher

QUICK = {
    "free": {
        "method.images_per_class": 6, "method.warmup_steps": 1, "method.rounds": 1, "method.replay_patience": 1,
        "method.replay_episodes": 1, "method.way": 3, "method.queries": 2, "method.validation_episodes": 2,
        "recovery.latent": 8, "recovery.steps": 1, "network.width": 4,
    },
    "consolidate": {
        "method.images_per_class": 6, "method.updates": 2, "method.batch_size": 8,
        "method.capacity": 100, "method.validation_episodes": 2,
        "recovery.latent": 8, "recovery.steps": 1, "network.width": 4,
    },
    "oracle_b": {"method.updates": 2, "method.batch_size": 8, "network.width": 4},
}  # fmt: skip


def _build(name: str):
    sections = {"run": {"steps": 3}, "method": {"name": name}}
    if name in QUICK:
        sections |= {"network": {"name": "conv4"}}
    if name in ("free", "consolidate"):
        sections |= {"recovery": {"name": "meta_generator"}}
    if name == "free":
        sections |= {"learner": {"name": "protonet"}}
    return resolve(sections, QUICK.get(name, {}), label=name).build()


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def _steps(method, state, zoo, first: int, last: int) -> None:
    for n in range(first, last):
        rng = Rng(0).at("step", n)
        metrics = method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng)
        assert all(isinstance(v, float) for v in metrics.values())


@pytest.mark.parametrize("name", METHODS)
def test_hyper_parameters_are_keyword_only_and_have_defaults_and_documentation(name):
    method = METHODS[name]
    for p in inspect.signature(method).parameters.values():
        assert p.kind is p.KEYWORD_ONLY
        assert p.default is not p.empty or p.name == "recovery"
        assert f"{p.name}:" in inspect.getdoc(method), p.name
    assert isinstance(method.requires, Capability)
    text = " ".join(inspect.getdoc(method).split())
    assert "http" in text
    assert "*Deviations from the published code*" in text


@pytest.mark.parametrize("name", METHODS)
def test_a_learner_comes_out_and_the_teachers_stay_as_they_are(name, zoo):
    method = _build(name)
    before = {i: copy.deepcopy(zoo.teacher(i).network.state_dict()) for i in zoo.ids}
    state = method.init(zoo, Rng(0))
    if method.trains:
        _steps(method, state, zoo, 0, 2)
        assert state.step == 2
    learner = method.learner(state)
    assert isinstance(learner, AbstractLearner)
    predictor = learner.adapt(torch.rand(6, 3, 16, 16), torch.arange(3).repeat(2))
    assert predictor.probabilities(torch.rand(2, 3, 16, 16)).shape == (2, 3)
    for i, weights in before.items():
        assert all(torch.equal(v, weights[k]) for k, v in zoo.teacher(i).network.state_dict().items())
        assert not zoo.teacher(i).network.training


@pytest.mark.parametrize("name", METHODS)
def test_a_state_travels_and_the_run_goes_on_to_the_same_bits(name, zoo):
    states = []
    for split in (False, True):
        method = _build(name)
        state = method.init(zoo, Rng(0))
        if method.trains:
            _steps(method, state, zoo, 0, 2)
        if split:
            saved = copy.deepcopy(state.state_dict())
            method = _build(name)
            state = method.init(zoo, Rng(0))
            state.load_state_dict(saved)
        if method.trains:
            _steps(method, state, zoo, 2, 3)
        states.append(method.learner(state).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves_and_builds(name):
    config = resolve(name)
    assert isinstance(config.build(), METHODS[config.sections["method"]["name"]])


@pytest.mark.parametrize("name", [n for n, r in RECOVERIES.items() if not r.uses_data])
def test_a_recovery_gives_images_with_the_wanted_labels_and_named_terms(name):
    recovery = RECOVERIES[name]()
    recovery.prepare(SPEC, Rng(0))
    teachers = [toy_teacher("a"), toy_teacher("b", ("x", "y"), seed=1)]
    labels = [torch.arange(3).repeat(4), torch.arange(2).repeat(5)]
    for shown, wanted in zip(recovery.recover(teachers, labels, rng=Rng(1)), labels, strict=True):
        assert torch.equal(shown.labels, wanted)
        assert shown.images.shape == (len(wanted), 3, 16, 16)
        assert shown.images.dtype == torch.float32
        assert 0 <= float(shown.images.min()) <= float(shown.images.max()) <= 1
        assert shown.terms
        assert not shown.images.requires_grad
