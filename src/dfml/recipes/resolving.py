"""Checks a recipe with its overrides and collects every problem before it raises."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dfml.errors import InputError
from dfml.recipes.options import (
    NAMED,
    SECTIONS,
    Config,
    Constructor,
    RunOptions,
    Sections,
    load_recipe,
    nearest,
    options_model,
    parts_of,
    read_value,
    recipe_names,
    registry,
    section_class,
)


def resolve(recipe: str | Path | Sections, overrides: Mapping[str, Any] | None = None, *, label: str = "") -> Config:
    """Recipe and overrides to a configuration.

    Args:
        recipe: a shipped recipe's name, a path, or sections already read.
        overrides: ``section.key`` or a key that only one section has -> value; strings are read by the key's type.
            ``method``, ``recovery``, ``learner`` and ``network`` alone mean that section's ``name``; naming another
            class than the recipe's starts from that class's defaults. ``steps`` without ``minutes`` replaces the
            recipe's minutes, and the other way round.
        label: the recipe's name for messages, when sections are given.

    Raises:
        InputError: everything that is wrong, at once.
    """
    if isinstance(recipe, dict):
        return Resolver(label or "given", recipe).resolve(overrides or {})
    return resolver(recipe).resolve(overrides or {})


def resolver(recipe: str | Path) -> "Resolver":
    """Of a shipped recipe's name or a path.

    Raises:
        InputError: no such recipe, or not TOML.
    """
    name = str(recipe) if str(recipe) in recipe_names() else Path(recipe).name
    return Resolver(name, load_recipe(recipe))


class Resolver:
    """One use: ``Resolver(name, sections).resolve(overrides)``; ``problems`` is what stood in the way.

    Args:
        recipe: its name, for messages.
        sections: what the recipe says.
    """

    def __init__(self, recipe: str, sections: Sections):
        self.recipe = recipe
        self.problems: list[str] = []
        self.values: Sections = {}
        for section, values in sections.items():
            if section not in SECTIONS:
                self.problems.append(f"[{section}]: no such section{nearest(section, list(SECTIONS))}")
            elif not isinstance(values, dict):
                self.problems.append(f"{section} = {values!r}: not in a section; sections are {', '.join(SECTIONS)}")
            else:
                self.values[section] = dict(values)

    def resolve(self, overrides: Mapping[str, Any]) -> Config:
        """See `resolve`."""
        given = {key.replace("-", "_"): value for key, value in overrides.items()}
        renamed = self._take_names(given)
        models = self._models(dropping="method" in renamed)
        placed = self._place(given, models)
        self._budget(placed)
        sections: Sections = {}
        for section, model in models.items():
            recipe, changes = self.values.get(section, {}), placed.get(section, {})
            named = {"name": recipe.get("name")} if section in NAMED else {}
            merged = {k: v for k, v in (recipe | changes).items() if not (named and k == "name")}
            sections[section] = named | self._validate(section, model, merged, set(changes))
        run = sections.get("run", {})
        if not self.problems and run["minutes"] is None and run["steps"] is None:
            self.problems.append("[run] neither minutes nor steps: give one, for example --minutes 5")
        if self.problems:
            raise InputError(
                f"recipe {self.recipe}: {len(self.problems)} problem(s)" + "".join(f"\n  - {p}" for p in self.problems),
                "known names with values of their types",
                "correct the recipe or the options; `dfml train --recipe NAME --show` prints every name and value",
            )
        return Config(self.recipe, sections)

    def _take_names(self, given: dict[str, Any]) -> set[str]:
        """Move ``method``, ``learner.name``, ... from the overrides to the sections; the sections that changed."""
        renamed = set()
        for section in ("method", "recovery", "learner", "network"):
            for key in (section, f"{section}.name"):
                if key not in given:
                    continue
                name = given.pop(key)
                if section == "network":
                    self.values.setdefault(section, {})["name"] = name
                elif name != self.values.get(section, {}).get("name"):
                    self.values[section] = {"name": name}
                    renamed.add(section)
        return renamed

    def _models(self, dropping: bool) -> dict[str, type[BaseModel]]:
        """The model of each section that the method uses; ``dropping`` forgets the sections that it does not use."""
        models: dict[str, type[BaseModel]] = {"run": RunOptions}
        method = self._class("method")
        if method is None:
            return models
        parts = parts_of(method)
        models["method"] = options_model(method, skip=tuple(parts))
        arguments = inspect.signature(method).parameters
        for section in SECTIONS[2:]:
            users = [name for name, part in parts.items() if section in part.sections]
            if not users:
                if section in self.values and not dropping:
                    self.problems.append(f"[{section}]: method {self.values['method']['name']!r} takes none")
                self.values.pop(section, None)
            elif section not in self.values and "network" in users and arguments["network"].default is None:
                continue  # the method chooses
            elif section not in NAMED or self._class(section):
                models[section] = options_model(section_class(section, self.values.get(section, {}).get("name")))
        return models

    def _class(self, section: str) -> Constructor | None:
        known = registry(section)
        name = self.values.get(section, {}).get("name")
        if name is None:
            self.problems.append(f"[{section}] name: missing; one of {', '.join(known)}")
        elif not isinstance(name, str) or name not in known:
            self.problems.append(
                f"[{section}] name = {name!r}: not one of {', '.join(known)}{nearest(str(name), list(known))}"
            )
        return known.get(name) if isinstance(name, str) else None

    def _place(self, given: Mapping[str, Any], models: dict[str, type[BaseModel]]) -> Sections:
        """Overrides to their sections."""
        placed: Sections = {}
        every = [f"{s}.{k}" for s, model in models.items() for k in model.model_fields]
        for key, value in given.items():
            section, _, leaf = key.rpartition(".")
            homes = [e for e in every if e == key or (not section and e.split(".")[1] == leaf)]
            if len(homes) > 1:
                self.problems.append(f"--{key}: in several sections; say one of " + ", ".join(f"--{h}" for h in homes))
            elif not homes:
                pool = every if section else sorted({*SECTIONS[1:]} | {e.split(".")[1] for e in every})
                self.problems.append(f"--{key}: no such name{nearest(key, pool)}")
            else:
                home, _, leaf = homes[0].partition(".")
                placed.setdefault(home, {})[leaf] = value
        return placed

    def _budget(self, placed: Sections) -> None:
        """The one of minutes and steps that is given on the command line replaces the recipe's other one."""
        run = placed.get("run", {})
        for one, other in (("minutes", "steps"), ("steps", "minutes")):
            if one in run and other not in run:
                self.values.setdefault("run", {}).pop(other, None)

    def _validate(
        self, section: str, model: type[BaseModel], values: dict[str, Any], overridden: set[str]
    ) -> dict[str, Any]:
        """The section's values, complete; problems are collected."""
        fields = model.model_fields
        read = {k: read_value(v, fields[k].annotation if k in fields else Any) for k, v in values.items()}
        try:
            return model(**read).model_dump(mode="json")
        except ValidationError as error:
            for e in error.errors():
                key = str(e["loc"][0])
                where = f"--{section}.{key}" if key in overridden else f"[{section}] {key}"
                if e["type"] == "extra_forbidden":
                    self.problems.append(f"{where}: no such name{nearest(key, list(fields))}")
                elif e["type"] == "missing":
                    self.problems.append(f"{where}: missing")
                else:
                    self.problems.append(f"{where} = {e['input']!r}: {e['msg'].lower()}")
            return dict(values) | {"minutes": 1, "steps": 1} if section == "run" else dict(values)
