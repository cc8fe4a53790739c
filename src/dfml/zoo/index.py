"""The index of a zoo, ``zoo.json``: what a whole zoo is asked for, so that opening it reads one file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import SEAL, check_seal, seal_of, sealed, write_json
from dfml.zoo.card import CHANGE, ModelCard, card_of, card_values

INDEX = "zoo.json"
INDEX_SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One model in the index."""

    id: str
    architecture: str
    class_ids: tuple[str, ...]
    sha256: str
    accuracy: dict[str, float]
    card: str = ""
    """The seal of its card; none in an index by an older dfml."""


@dataclass(frozen=True)
class Index:
    """What ``zoo.json`` holds.

    Args:
        name: of the zoo.
        shared_classes: states that equal class ids in different models mean the same class; else none is equal.
        recipe: plain values that built the zoo, or empty.
        classes: name of every class id.
        models: one entry a model, in order.
    """

    name: str
    shared_classes: bool
    recipe: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    models: tuple[Entry, ...] = ()

    def write(self, folder: Path) -> None:
        """Write ``zoo.json`` atomically, sealed."""
        values = {"schema": INDEX_SCHEMA} | asdict(self)
        write_json(folder / INDEX, sealed(values))

    @staticmethod
    def read(folder: Path) -> "Index":
        """Read ``zoo.json``.

        Raises:
            InputError: no index, not one of this schema, or changed since it was sealed.
        """
        path = folder / INDEX
        if not path.is_file():
            raise InputError(
                f"{folder}: no {INDEX} in it",
                "a folder made by `dfml zoo build`, or `glyphs`, the embedded zoo",
                "check the path; for a folder of cards and weights call dfml.zoo.write_index",
            )
        try:
            values = check_seal(path, json.loads(path.read_text(encoding="utf-8")), CHANGE)
            schema = values.pop("schema", None)
            if schema != INDEX_SCHEMA:
                raise ValueError(f"schema {schema!r}, not {INDEX_SCHEMA}")
            models = tuple(Entry(**m | {"class_ids": tuple(m["class_ids"])}) for m in values.pop("models"))
            index = Index(**values, models=models)
            index.check()
            return index
        except InputError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: not a zoo index ({type(error).__name__}: {error})",
                "the index that `dfml zoo build` writes",
                "copy it again from where the zoo came from, or call dfml.zoo.write_index on the folder",
            ) from error

    def check(self) -> None:
        """Raise ValueError where ids, names and ``shared_classes`` do not go together."""
        ids = [m.id for m in self.models]
        classes = [c for m in self.models for c in m.class_ids]
        if len(set(ids)) != len(ids) or any(Path(i).name != i for i in ids):
            raise ValueError("model ids must be distinct file names")
        if not set(classes) <= self.classes.keys():
            raise ValueError(f"class {min(set(classes) - self.classes.keys())!r} has no name under classes")
        if not self.shared_classes and len(set(classes)) != len(classes):
            raise ValueError("a class id stands in two models, but shared_classes is false")


def write_index(
    folder: str | Path,
    *,
    name: str,
    shared_classes: bool,
    recipe: dict[str, Any] | None = None,
    ids: Iterable[str] | None = None,
) -> Index:
    """Make ``zoo.json`` from the cards in a folder: all of them, or those with these ``ids``.

    Cards are taken as they are, also those that somebody wrote or changed by hand, and sealed.

    Raises:
        InputError: a card that cannot be read; one id with two names; ids that meet without ``shared_classes``.
    """
    folder = Path(folder)
    paths = (
        [p for p in folder.glob("*.json") if p.name != INDEX] if ids is None else [folder / f"{i}.json" for i in ids]
    )
    cards = [sealed_card(path) for path in sorted(paths)]
    index = index_of(folder, cards, name=name, shared_classes=shared_classes, recipe=recipe or {})
    index.write(folder)
    return index


def sealed_card(path: Path) -> tuple[ModelCard, str]:
    """A card and its seal, which the file is given where it carries none or another one."""
    values = card_values(path)
    card, seal = card_of(path, values), seal_of(values)
    if values.get(SEAL) != seal:
        write_json(path, sealed(values))
    return card, seal


def index_of(
    folder: Path, cards: Sequence[tuple[ModelCard, str]], *, name: str, shared_classes: bool, recipe: dict[str, Any]
) -> Index:
    """The index of cards and their seals.

    Raises:
        InputError: one id with two names; ids that meet without ``shared_classes``.
    """
    classes: dict[str, str] = {}
    for card, _ in cards:
        for class_id, class_name in zip(card.class_ids, card.class_names, strict=True):
            if classes.setdefault(class_id, class_name) != class_name:
                raise InputError(
                    f"card {card.id}: class id {class_id!r} is {class_name!r}, elsewhere {classes[class_id]!r}",
                    "one name for one class id",
                    "correct the class_ids or class_names in the cards",
                )
    models = tuple(Entry(c.id, c.architecture, c.class_ids, c.sha256, c.accuracy, seal) for c, seal in cards)
    index = Index(name, shared_classes, recipe, dict(sorted(classes.items())), models)
    try:
        index.check()
    except ValueError as error:
        raise InputError(
            f"{folder}: {error}", "cards that make one zoo", "correct the cards or shared_classes"
        ) from error
    return index
