"""From a recipe and overrides to one method object.

A recipe is TOML with the sections ``[run] [method] [replay] [recovery] [learner] [network]``. What a section may hold,
and within which bounds, is read from the constructor of the class that it names, so a hyper-parameter is declared in
one place: the signature. Which sections a method takes is read from the types of its own arguments.
"""

import contextlib
import difflib
import hashlib
import inspect
import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from dfml.announced import with_announced
from dfml.bounds import Share
from dfml.compute.devices import Accelerator
from dfml.errors import InputError
from dfml.files import regular
from dfml.learners import learners
from dfml.methods import METHODS
from dfml.methods.base import AbstractMethod
from dfml.nn import ARCHITECTURES
from dfml.recovery import RECOVERIES, AbstractRecovery
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from dfml.zoo.told import Told

STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True, protected_namespaces=(), allow_inf_nan=False)
SECTIONS = ("run", "method", "replay", "recovery", "learner", "network")
NAMED = ("method", "recovery", "learner")  # sections whose ``name`` chooses a class
BUDGET = (
    "minutes",
    "steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "accelerator",
    "threads",
    "compile",
    "cache",
)  # may change on resume
Sections = dict[str, dict[str, Any]]
Constructor = Callable[..., Any]  # a class, or a partial of one


def _answers(name: str) -> str:
    try:
        Told.named(name)
    except InputError as error:
        raise ValueError(f"not {error.wanted}") from error
    return name


class RunOptions(BaseModel):
    """How long, how often, where: everything in ``[run]``, none of it part of a method.

    ``canvas`` is the size of the images that are recovered and learned from, in pixels (None: what suits the zoo);
    ``cache`` the share of this machine's memory in which teachers stay, at least 256 MiB. ``answers`` makes black boxes
    of the zoo, for experiments: ``labels``, ``top3``, ``rounded`` or ``probabilities`` (`dfml.zoo.told.Told.named`).
    """

    model_config = STRICT
    seed: int = Field(0, ge=0)
    minutes: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    val_every: int = Field(20, gt=0)
    checkpoint_minutes: float = Field(2.0, ge=0)
    keep_checkpoints: int = Field(2, gt=0)
    accelerator: Accelerator = "cpu"
    threads: int | None = Field(None, gt=0)
    compile: bool = False
    canvas: int | None = Field(None, ge=8, le=512)
    cache: Share = 0.1
    answers: Annotated[str, AfterValidator(_answers)] | None = None

    @property
    def told(self) -> Told | None:
        """What ``answers`` says; None is all that the models give."""
        return None if self.answers is None else Told.named(self.answers)


def _network(name: str) -> str:
    prefix, _, rest = name.partition(":")
    if name not in ARCHITECTURES and not (prefix in ("timm", "teacher") and rest):
        raise ValueError(f"one of {', '.join(ARCHITECTURES)}, timm:NAME, or teacher:ID for a copy of a teacher")
    return name


class NetworkOptions(BaseModel):
    """The learner's backbone; ``width`` None is the architecture's usual one.

    ``timm:NAME`` is a network of timm; ``teacher:ID`` begins as a copy of a teacher (consolidation).
    """

    model_config = STRICT
    name: Annotated[str, AfterValidator(_network)] = "conv4"
    width: int | None = Field(None, gt=0)


@dataclass(frozen=True)
class Config:
    """A resolved configuration: every value of every section, valid."""

    recipe: str
    sections: Sections

    @property
    def run(self) -> RunOptions:
        """The section ``[run]``."""
        with self._read():
            return RunOptions(**self.sections["run"])

    @property
    def hash(self) -> str:
        """sha256 of all values: the ``recipe_hash`` of results."""
        return "sha256:" + hashlib.sha256(json.dumps(self.sections, sort_keys=True).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """What must agree for a run to be continued: everything but budget and housekeeping, as ``section.key``."""
        pairs = {f"{s}.{k}": v for s, values in self.sections.items() for k, v in values.items()}
        return {k: v for k, v in pairs.items() if not (k.startswith("run.") and k[4:] in BUDGET)}

    def to_toml(self) -> str:
        """The configuration as a recipe."""
        blocks = []
        for section, values in self.sections.items():
            lines = [f"{k} = {json.dumps('none' if v is None else v)}" for k, v in values.items()]
            blocks.append("\n".join([f"[{section}]", *lines]))
        return "\n\n".join(blocks) + "\n"

    def build(self) -> AbstractMethod:
        """The method, from plain keyword arguments.

        Raises:
            InputError: names or values that it does not take, as after a change of a run's config.json by hand.
        """
        with self._read():
            method = registry("method")[self.sections["method"]["name"]]
            parts = parts_of(method)
            built = {name: self._part(kind) for name, kind in parts.items() if kind.sections <= self.sections.keys()}
            return method(**self._typed("method", method, skip=tuple(parts)), **built)

    @contextmanager
    def _read(self) -> Iterator[None]:
        """Inside, what is wrong with a section is said of the configuration."""
        try:
            yield
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            if isinstance(error, ValidationError):
                what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise InputError(
                f"configuration {self.recipe!r}: {what}",
                "sections, names and values as `dfml train --show` prints them",
                "undo the change in the run's config.json, or train anew",
            ) from error

    def _part(self, kind: "Part") -> Any:
        named = {s: self.sections[s].get("name") for s in kind.sections}
        values = {s: self._typed(s, section_class(s, named[s])) for s in kind.sections}
        return kind.build(named, values)

    def _typed(self, section: str, cls: Constructor, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        """The section's values in the constructor's types (a JSON list back to a tuple, say)."""
        kept = {k: v for k, v in self.sections[section].items() if k != "name" or section not in NAMED}
        return options_model(cls, skip)(**kept).model_dump()


@dataclass(frozen=True)
class Part:
    """An argument of a method that is built from sections of its own: from their names and their values."""

    sections: frozenset[str]
    build: Callable[[dict[str, Any], dict[str, dict[str, Any]]], Any]


def _recovery(named: dict[str, Any], values: dict[str, dict[str, Any]]) -> AbstractRecovery:
    return registry("recovery")[named["recovery"]](**values["recovery"])


def _model(named: dict[str, Any], values: dict[str, dict[str, Any]]) -> ModelOptions:
    network = values["network"]
    return ModelOptions(named["learner"], values["learner"], network["name"], network["width"])


PARTS: dict[type, Part] = {
    AbstractRecovery: Part(frozenset({"recovery"}), _recovery),
    ModelOptions: Part(frozenset({"learner", "network"}), _model),
    ReplayOptions: Part(frozenset({"replay"}), lambda named, values: ReplayOptions(**values["replay"])),
}
"""By the type of an argument."""
NETWORK = {
    "network": Part(frozenset({"network"}), lambda named, values: values["network"]["name"]),
    "width": Part(frozenset({"network"}), lambda named, values: values["network"]["width"]),
}
"""By its name: of methods that take an architecture alone."""


def parts_of(method: Constructor) -> dict[str, Part]:
    """The arguments of a method that have sections of their own."""
    hints = get_type_hints(getattr(method, "func", method).__init__)
    parts = {}
    for name in inspect.signature(method).parameters:
        kinds = [get_origin(kind) or kind for kind in (*get_args(hints.get(name)), hints.get(name))]
        found = [p for cls, p in PARTS.items() if any(isinstance(k, type) and issubclass(k, cls) for k in kinds)]
        if found or name in NETWORK:
            parts[name] = found[0] if found else NETWORK[name]
    return parts


def section_class(section: str, name: str | None) -> Constructor:
    """What a section's values are for."""
    fixed: dict[str, Constructor] = {"replay": ReplayOptions, "network": NetworkOptions}
    return fixed.get(section) or registry(section)[str(name)]


@cache
def registry(section: str) -> dict[str, Constructor]:
    """Name -> class of everything that ``section`` may name, with what other packages announce.

    Their entry points are in the groups ``dfml.methods``, ``dfml.recoveries`` and ``dfml.learners``.
    """
    if section == "learner":
        return cast(dict[str, Constructor], learners())
    own, group = {"method": (METHODS, "dfml.methods"), "recovery": (RECOVERIES, "dfml.recoveries")}[section]
    return with_announced(cast(dict[str, Constructor], own), group)


def options_model(cls: Constructor, skip: tuple[str, ...] = ()) -> type[BaseModel]:
    """A pydantic model of the constructor's keyword-only arguments and those with defaults, except ``skip``."""
    target = getattr(cls, "func", cls)  # of a functools.partial, as a registry may hold
    if isinstance(target, type) and issubclass(target, BaseModel):
        return target
    hints = get_type_hints(target.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for p in inspect.signature(cls).parameters.values():
        required = p.default is inspect.Parameter.empty
        if p.name in skip or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or (required and p.kind != p.KEYWORD_ONLY):
            continue
        fields[p.name] = (hints.get(p.name, Any), ... if required else p.default)
    return create_model(f"{target.__name__}Options", __config__=STRICT, **fields)


def recipe_names() -> list[str]:
    """The recipes that the package ships."""
    return sorted(
        p.name.removesuffix(".toml") for p in files("dfml").joinpath("recipes").iterdir() if p.name.endswith(".toml")
    )


def load_recipe(recipe: str | Path) -> Sections:
    """A shipped recipe by name, or a TOML file by path.

    Raises:
        InputError: no such recipe, or not TOML.
    """
    known = recipe_names()
    path = Path(recipe)
    try:
        if str(recipe) in known:
            return tomllib.loads(files("dfml").joinpath("recipes", f"{recipe}.toml").read_text())
        return tomllib.loads(regular(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest(str(recipe), known)
        raise InputError(
            f"recipe {str(recipe)!r}: no such recipe or readable file{hint}",
            f"one of {', '.join(known)}, or the path of a .toml file",
            "correct --recipe",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error})", "sections [run], [method], ...", "correct the file") from error


def nearest(word: str, known: list[str]) -> str:
    """``" (did you mean 'x'?)"``, or nothing when no known word is near."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def read_value(value: Any, annotation: Any) -> Any:
    """Text from a command line or ``"none"`` from TOML, as what the annotation wants; anything else unchanged."""
    if not isinstance(value, str):
        return value
    candidates: list[Any] = [None] if value.lower() == "none" else []
    with contextlib.suppress(tomllib.TOMLDecodeError):
        candidates.append(tomllib.loads(f"v = {value}")["v"])
    if annotation is Any:
        return [*candidates, value][0]
    for candidate in [value, *candidates]:
        try:
            TypeAdapter(annotation, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(candidate)
        except ValidationError:
            continue
        return candidate
    return value
