"""From a recipe and overrides to one method object.

A recipe is TOML with the sections ``[run] [method] [recovery] [learner] [network]``. What a section may hold is read
from the constructor of the class that it names, so a hyper-parameter is declared in one place: the signature.
"""

import contextlib
import difflib
import hashlib
import inspect
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from dfml.compute.devices import Accelerator
from dfml.errors import InputError
from dfml.methods.base import AbstractMethod
from dfml.nn import ARCHITECTURES

STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True, protected_namespaces=())
PARTS = (
    "recovery",
    "learner",
    "learner_options",
    "network",
    "width",
)  # of a method, built here from their own sections
BUDGET = (
    "minutes",
    "steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "accelerator",
    "threads",
    "compile",
)  # may change on resume
Sections = dict[str, dict[str, Any]]
Constructor = Callable[..., Any]  # a class, or a partial of one


class RunOptions(BaseModel):
    """How long, how often, where: everything in ``[run]``, none of it part of a method."""

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


class NetworkOptions(BaseModel):
    """The learner's backbone; ``width`` None is the architecture's usual one."""

    model_config = STRICT
    name: Literal[tuple(ARCHITECTURES)] = "conv4"  # type: ignore[valid-type]
    width: int | None = Field(None, gt=0)


@dataclass(frozen=True)
class Config:
    """A resolved configuration: every value of every section, valid."""

    recipe: str
    sections: Sections

    @property
    def run(self) -> RunOptions:
        """The section ``[run]``."""
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
        """The method, from plain keyword arguments."""
        method = registry("method")[self.sections["method"]["name"]]
        options = self._typed("method", method, skip=PARTS)
        if "recovery" in self.sections:
            recovery = registry("recovery")[self.sections["recovery"]["name"]]
            options["recovery"] = recovery(**self._typed("recovery", recovery))
        if "learner" in self.sections:
            name = self.sections["learner"]["name"]
            options |= {"learner": name, "learner_options": self._typed("learner", registry("learner")[name])}
        if network := self.sections.get("network"):
            options |= {"network": network["name"], "width": network["width"]}
        wanted = inspect.signature(method).parameters
        return method(**{k: v for k, v in options.items() if k in wanted})

    def _typed(self, section: str, cls: Constructor, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        """The section's values in the constructor's types (a JSON list back to a tuple, say)."""
        values = {k: v for k, v in self.sections[section].items() if k != "name"}
        return options_model(cls, skip)(**values).model_dump()


@cache
def registry(section: str) -> dict[str, Constructor]:
    """Name -> class of everything that ``section`` may name, packages that announce ``dfml.methods`` included."""
    if section == "recovery":
        from dfml.recovery import RECOVERIES

        return dict(RECOVERIES)
    if section == "learner":
        from dfml.learners import LEARNERS

        return cast(dict[str, Constructor], LEARNERS)
    from dfml.methods import METHODS

    return dict(METHODS) | {e.name: e.load() for e in entry_points(group="dfml.methods") if e.name not in METHODS}


def options_model(cls: Constructor, skip: tuple[str, ...] = ()) -> type[BaseModel]:
    """A pydantic model of the constructor's keyword-only arguments and those with defaults, except ``skip``."""
    target = getattr(cls, "func", cls)  # of a functools.partial, as a registry may hold
    hints = get_type_hints(target.__init__)
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
        return tomllib.loads(path.read_text())
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
