from functools import partial
from typing import Any, Literal

import pytest

from dfml.bounds import StepSize
from dfml.errors import InputError
from dfml.methods.base import AbstractMethod
from dfml.recipes import options as configuration
from dfml.recipes import resolving
from dfml.recipes.options import load_recipe, options_model
from dfml.recipes.resolving import resolve
from dfml.recovery import AbstractRecovery
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions


class Recovery:
    uses_data = False

    def __init__(
        self, *, steps: int = 5, lr: float = 0.1, kind: Literal["a", "none"] = "a", sizes: tuple[int, ...] = (1, 2)
    ):
        self.steps, self.lr, self.kind, self.sizes = steps, lr, kind, sizes


class Learner:
    def __init__(
        self, encoder, *, inner_lr: float = 0.01, second_order: bool = True, adapts: Literal["all", "head"] = "all"
    ):
        pass


class Other:
    def __init__(self, encoder, *, scale: float = 1.0):
        pass


class Method:
    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        model: ModelOptions | None = None,
        replay: ReplayOptions | None = None,
        lr: StepSize = 0.5,
        limit: int | None = None,
        shot: Literal[1, 5] = 1,
        free: Any = None,
    ):
        self.seen = {k: v for k, v in locals().items() if k != "self"}


class Plain:
    def __init__(self, *, teacher: str = "first"):
        self.teacher = teacher


class Narrow:
    def __init__(self, *, network: str = "conv4", width: int | None = None):
        self.network, self.width = network, width


AbstractMethod.register(Method)
AbstractRecovery.register(Recovery)
AbstractMethod.register(Plain)
AbstractMethod.register(Narrow)

RECIPE = {
    "run": {"minutes": 3},
    "method": {"name": "method"},
    "recovery": {"name": "recovery"},
    "learner": {"name": "one", "inner_lr": 0.02},
    "network": {"name": "conv4"},
}


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    known = {
        "method": {"method": Method, "plain": Plain, "narrow": Narrow},
        "recovery": {"recovery": Recovery},
        "learner": {"one": Learner, "other": Other, "part": partial(Learner, adapts="head")},
    }
    monkeypatch.setattr(configuration, "registry", known.__getitem__)
    monkeypatch.setattr(resolving, "registry", known.__getitem__)


def problems(recipe, overrides=None) -> str:
    with pytest.raises(InputError) as error:
        resolve(recipe, overrides)
    return str(error.value)


def test_builder_gives_plain_keyword_arguments():
    method = resolve(RECIPE, {"method.lr": "0.25", "kind": "none", "sizes": "[4, 5]", "method.shot": "5"}).build()
    assert method.seen["lr"] == 0.25
    assert method.seen["shot"] == 5
    assert method.seen["model"].learner == "one"
    assert method.seen["model"].learner_options == {"inner_lr": 0.02, "second_order": True, "adapts": "all"}
    assert method.seen["replay"] == ReplayOptions()
    assert (method.seen["recovery"].kind, method.seen["recovery"].sizes) == ("none", (4, 5))


def test_leaf_names_and_none():
    config = resolve(
        RECIPE,
        {
            "method.limit": "none",
            "inner-lr": "1e-3",
            "second_order": "false",
            "width": "64",
            "free": "[1]",
            "replay.way": "3",
        },
    )
    assert config.sections["learner"] == {"name": "one", "inner_lr": 1e-3, "second_order": False, "adapts": "all"}
    assert config.sections["method"]["limit"] is None
    assert config.sections["method"]["free"] == [1]
    assert config.sections["network"] == {"name": "conv4", "width": 64}
    assert config.build().seen["model"].width == 64
    assert config.build().seen["replay"].way == 3


def test_naming_another_class_starts_from_its_defaults():
    assert resolve(RECIPE, {"learner": "other"}).sections["learner"] == {"name": "other", "scale": 1.0}
    assert resolve(RECIPE, {"learner.name": "part"}).sections["learner"]["adapts"] == "head"
    assert set(resolve(RECIPE, {"method": "plain"}).sections) == {"run", "method"}


def test_a_budget_on_the_command_line_replaces_the_other():
    assert resolve(RECIPE, {"run.steps": 7}).run.minutes is None
    both = resolve(RECIPE, {"run.steps": 7, "minutes": 2}).run
    assert (both.steps, both.minutes) == (7, 2)
    assert "neither minutes nor steps" in problems(RECIPE | {"run": {}})


def test_all_problems_at_once_with_the_nearest_names():
    text = problems(
        RECIPE | {"method": {"name": "method", "limt": 3}, "lerner": {}, "recovery": {"name": "recovery", "kind": "b"}},
        {"inner_lrr": 1, "method.lr": "fast", "lr": 1, "network": "conv5"},
    )
    for part in (
        "[lerner]: no such section (did you mean 'learner'?)",
        "[method] limt: no such name (did you mean 'limit'?)",
        "--inner_lrr: no such name (did you mean 'inner_lr'?)",
        "--lr: in several sections; say one of --method.lr, --replay.lr, --recovery.lr",
        "--method.lr = 'fast'",
        "[recovery] kind = 'b': input should be 'a' or 'none'",
        "[network] name = 'conv5'",
        "7 problem(s)",
    ):
        assert part in text, text


def test_a_method_may_take_an_architecture_alone():
    narrow = resolve({"run": {"steps": 1}, "method": {"name": "narrow"}}, {"width": "8"}).build()
    assert (narrow.network, narrow.width) == ("conv4", 8)


@pytest.mark.parametrize("value", ["1e30", "0", "-1", "nan", "inf"])
def test_values_out_of_bounds_are_refused(value):
    assert "--method.lr = " in problems(RECIPE, {"method.lr": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"method.lr": "1e30"}, {"method.temperature": 0}, {"method.mixed": 1.5}, {"method.average_decay": 1},
        {"recovery.meta_lr": "1e30"}, {"recovery.bn_weight": -1}, {"method.updates": 0}, {"network.width": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_so_are_those_of_the_shipped_recipes(monkeypatch, wrong):
    monkeypatch.undo()
    assert f"--{next(iter(wrong))} = " in problems("best", wrong)


def test_unknown_classes():
    assert "not one of method, plain, narrow (did you mean 'method'?)" in problems(RECIPE, {"method": "metod"})
    assert "name = {'a': 1}: not one of" in problems(RECIPE | {"method": {"name": {"a": 1}}})
    assert "[method] name: missing" in problems({"run": {"steps": 1}})
    assert "takes none" in problems({"run": {"steps": 1}, "method": {"name": "plain"}, "learner": {"name": "one"}})


def test_hash_is_of_every_value_and_identity_ignores_the_budget():
    one, two, three = resolve(RECIPE), resolve(RECIPE, {"minutes": 4}), resolve(RECIPE, {"inner_lr": 1})
    assert one.hash != two.hash
    assert one.identity() == two.identity() != three.identity()


def test_toml_round_trip(tmp_path):
    config = resolve(RECIPE, {"sizes": "[4]", "method.limit": "none"})
    path = tmp_path / "again.toml"
    path.write_text(config.to_toml())
    assert resolve(path).hash == config.hash


def test_recipes_are_found_by_name_and_path(tmp_path):
    assert load_recipe("free")["method"]["name"] == "free"
    with pytest.raises(InputError, match="did you mean 'free'"):
        load_recipe("fre")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(InputError, match="not TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_required_arguments_are_asked_for():
    class Needs:
        def __init__(self, *, rate: float):
            pass

    assert options_model(Needs).model_fields["rate"].is_required()
