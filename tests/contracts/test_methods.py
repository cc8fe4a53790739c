"""What every registered method and recovery promises. Names come from the registries: a new one needs no edit here."""

import copy
import inspect

import pytest
import torch

from dfml.learners import AbstractLearner
from dfml.methods.base import Role, teachers_of
from dfml.randomness import Rng
from dfml.recipes.options import load_recipe, parts_of, recipe_names, registry
from dfml.recipes.resolving import resolve
from dfml.recovery import Visit
from dfml.runs.train import check_capabilities
from dfml.zoo.card import Capability
from toys import SPEC, ToyZoo, toy_teacher

METHODS, RECOVERIES = registry("method"), registry("recovery")
DATA_FREE = [name for name, recovery in RECOVERIES.items() if not recovery.uses_data]
SMALL = {
    "batch_size": 8, "capacity": 100, "directions": 3, "episodes": 1, "images_per_class": 6, "latent": 8, "limit": 1,
    "patience": 1, "queries": 2, "rounds": 1, "steps": 1, "updates": 2, "validation_episodes": 2, "warmup_steps": 1,
    "way": 3, "width": 4,
}  # fmt: skip
"""For every hyper-parameter of that name: a method is tested as the recipe that ships with it, made small."""


def _build(name: str):
    shipped = [load_recipe(recipe) for recipe in recipe_names()]
    sections = next((s for s in shipped if s["method"]["name"] == name), {"method": {"name": name}})
    if "recovery" in {s for part in parts_of(METHODS[name]).values() for s in part.sections}:
        sections.setdefault("recovery", {"name": DATA_FREE[0]})
    full = resolve(sections | {"run": {"steps": 3}}, label=name).sections
    small = {f"{s}.{k}": SMALL[k] for s in full if s != "run" for k in full[s] if k in SMALL}
    return resolve(full, small, label=name).build()


def _recovery(name: str):
    known = inspect.signature(RECOVERIES[name]).parameters
    return RECOVERIES[name](**{k: v for k, v in SMALL.items() if k in known})


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def _steps(method, state, zoo, first: int, last: int) -> None:
    for n in range(first, last):
        rng = Rng(0).at("step", n)
        report = method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng)
        assert all(isinstance(v, float) for v in report.metrics().values())


@pytest.mark.parametrize("name", METHODS)
def test_hyper_parameters_are_keyword_only_and_have_defaults_and_documentation(name):
    method = METHODS[name]
    for p in inspect.signature(method).parameters.values():
        assert p.kind is p.KEYWORD_ONLY
        assert p.default is not p.empty or p.name in parts_of(method)
        assert f"{p.name}:" in inspect.getdoc(method), p.name
    text = " ".join(inspect.getdoc(method).split())
    assert "http" in text
    assert "*Deviations from the published code*" in text


@pytest.mark.parametrize("name", METHODS)
def test_it_says_what_it_needs_of_teachers_in_each_role_and_a_zoo_that_has_it_is_accepted(name, zoo):
    method = _build(name)
    assert all(isinstance(r, Role) and isinstance(c, Capability) for r, c in method.requires().items())
    assert set(method.plan(method.init(zoo, Rng(0)), zoo, Rng(0))) <= set(method.requires())
    check_capabilities(method, zoo)


@pytest.mark.parametrize("name", METHODS)
def test_a_learner_comes_out_and_the_teachers_stay_as_they_are(name, zoo):
    method = _build(name)
    before = {i: copy.deepcopy(zoo.network(i).state_dict()) for i in zoo.ids}
    state = method.init(zoo, Rng(0))
    if method.trains:
        _steps(method, state, zoo, 0, 2)
        assert state.step == 2
    learner = method.learner(state)
    assert isinstance(learner, AbstractLearner)
    predictor = learner.adapt(torch.rand(6, 3, 16, 16), torch.arange(3).repeat(2))
    assert predictor.probabilities(torch.rand(2, 3, 16, 16)).shape == (2, 3)
    for i, weights in before.items():
        assert all(torch.equal(v, weights[k]) for k, v in zoo.network(i).state_dict().items())
        assert not zoo.network(i).training


@pytest.mark.parametrize("name", METHODS)
def test_a_state_travels_and_the_run_goes_on_to_the_same_bits(name, zoo):
    """The second state is made by the same object: what is learned is in the state alone."""
    method, states = _build(name), []
    for split in (False, True):
        state = method.init(zoo, Rng(0))
        if method.trains:
            _steps(method, state, zoo, 0, 2)
        if split:
            saved = copy.deepcopy(state.state_dict())
            state = method.init(zoo, Rng(0))
            state.load_state_dict(saved)
        if method.trains:
            _steps(method, state, zoo, 2, 3)
        states.append(method.learner(state).state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.trains])
def test_a_teacher_that_is_set_aside_is_asked_no_more(name, zoo):
    method = _build(name)
    state = method.init(zoo, Rng(0))
    _steps(method, state, zoo, 0, 2)
    planned = method.plan(state, zoo, Rng(0))
    if not (used := [i for ids in planned.values() for i in ids]):
        return  # no teacher is asked at all
    state.aside = {used[0]: "for the test"}
    for n in range(3):
        assert all(used[0] not in ids for ids in method.plan(state, zoo, Rng(0).at("step", n)).values())
    _steps(method, state, zoo, 2, 3)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves_and_builds(name):
    config = resolve(name)
    assert isinstance(config.build(), METHODS[config.sections["method"]["name"]])


@pytest.mark.parametrize("name", RECOVERIES)
def test_a_recovery_says_what_it_needs(name):
    assert isinstance(RECOVERIES[name]().requires(), Capability)


@pytest.mark.parametrize("name", DATA_FREE)
def test_a_recovery_gives_images_with_their_labels_and_named_terms(name):
    """Labels are the wanted ones, or those that the teacher answers: all that can be had without gradients."""
    recovery = _recovery(name)
    state = recovery.init(SPEC, Rng(0))
    visits = [
        Visit(toy_teacher("a"), torch.arange(3).repeat(4)),
        Visit(toy_teacher("b", ("x", "y"), seed=1), torch.arange(2).repeat(5)),
    ]
    for shown, visit in zip(recovery.recover(state, visits, rng=Rng(1)), visits, strict=True):
        if Capability.GRADIENTS in recovery.requires() or not torch.equal(
            shown.labels, visit.teacher.answers(shown.images, "labels")
        ):
            assert torch.equal(shown.labels, visit.labels)
        assert shown.images.shape == (len(visit.labels), 3, 16, 16)
        assert shown.images.dtype == torch.float32
        assert 0 <= float(shown.images.min()) <= float(shown.images.max()) <= 1
        assert shown.terms
        assert not shown.images.requires_grad


@pytest.mark.parametrize("name", DATA_FREE)
def test_a_recovery_that_does_not_learn_leaves_its_state_alone_and_is_repeatable(name):
    recovery = _recovery(name)
    state = recovery.init(SPEC, Rng(0))
    before = copy.deepcopy(state.state_dict())
    first, second = (recovery.show(state, [toy_teacher()], 4, Rng(2))[0] for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert all(torch.equal(v, before["generator"][k]) for k, v in state.state_dict().get("generator", {}).items())
