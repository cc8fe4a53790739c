"""A zoo: a folder of ``<id>.safetensors`` and ``<id>.json`` cards with an index, opened lazily.

The index ``zoo.json`` holds what a whole zoo is asked for (ids, classes, hashes, accuracies), so that opening ten
thousand models reads one file; cards and weights are read when they are first needed. The package carries one zoo,
``Zoo.open("glyphs")``: 16 Conv4 teachers of the embedded glyph characters, rebuilt by

    dfml zoo build --data glyphs --arch conv4 --models 16 --seed 0 --no-flips --out OUT
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.errors import InputError
from dfml.nn import Classifier, InputSpec
from dfml.zoo.card import ModelCard
from dfml.zoo.files import content_hash, pack, read_network, write_atomic, write_packed
from dfml.zoo.teacher import LocalTeacher

INDEX = "zoo.json"
INDEX_SCHEMA = 1
CACHE_BYTES = 256 * 2**20
EMBEDDED = {"glyphs": Path(__file__).parent / "glyphs"}


@dataclass(frozen=True)
class Entry:
    """One model in the index."""

    id: str
    architecture: str
    class_ids: tuple[str, ...]
    sha256: str
    accuracy: dict[str, float]


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
        """Write ``zoo.json`` atomically."""
        values = {"schema": INDEX_SCHEMA} | asdict(self)
        write_atomic(folder / INDEX, json.dumps(values, indent=1).encode())

    @staticmethod
    def read(folder: Path) -> "Index":
        """Read ``zoo.json``.

        Raises:
            InputError: no index, or not one of this schema.
        """
        path = folder / INDEX
        if not path.is_file():
            raise InputError(
                f"{folder}: no {INDEX} in it",
                "a folder made by `dfml zoo build`, or the name of an embedded zoo: " + ", ".join(EMBEDDED),
                "check the path; for a folder of cards and weights call dfml.zoo.write_index",
            )
        try:
            values = json.loads(path.read_text())
            schema = values.pop("schema", None)
            if schema != INDEX_SCHEMA:
                raise ValueError(f"schema {schema!r}, not {INDEX_SCHEMA}")
            models = tuple(Entry(**m | {"class_ids": tuple(m["class_ids"])}) for m in values.pop("models"))
            index = Index(**values, models=models)
            index._check()
            return index
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: not a zoo index ({type(error).__name__}: {error})",
                "the index that `dfml zoo build` writes",
                "run the same `dfml zoo build` again, or call dfml.zoo.write_index on the folder",
            ) from error

    def _check(self) -> None:
        ids = [m.id for m in self.models]
        classes = [c for m in self.models for c in m.class_ids]
        if len(set(ids)) != len(ids) or any(Path(i).name != i for i in ids):
            raise ValueError("model ids must be distinct file names")
        if not set(classes) <= self.classes.keys():
            raise ValueError(f"class {min(set(classes) - self.classes.keys())!r} has no name under classes")
        if not self.shared_classes and len(set(classes)) != len(classes):
            raise ValueError("a class id stands in two models, but shared_classes is false")


class _Cards(Mapping[str, ModelCard]):
    """Cards by id, read when first asked for."""

    def __init__(self, folder: Path, entries: dict[str, Entry]):
        self._folder, self._entries = folder, entries
        self._read: dict[str, ModelCard] = {}

    def __getitem__(self, key: str) -> ModelCard:
        if key not in self._read:
            entry = self._entries[key]
            card = ModelCard.read(self._folder / f"{key}.json")
            if (card.id, card.class_ids, card.sha256) != (entry.id, entry.class_ids, entry.sha256):
                raise InputError(
                    f"{self._folder / key}.json: id, classes or sha256 differ from those in {INDEX}",
                    "a card that agrees with the index",
                    "undo the change, or call dfml.zoo.write_index on the folder",
                )
            self._read[key] = card
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Zoo:
    """Frozen classifiers with their cards; open one with `Zoo.open`.

    Args:
        path: the folder.
        index: its index.

    Raises:
        InputError: no model in the index.
    """

    def __init__(self, path: Path, index: Index):
        if not index.models:
            raise InputError(
                f"{path}: a zoo without models",
                "at least one model",
                "if its build was stopped, run the same `dfml zoo build` again: it continues",
            )
        self.path, self.index, self.name = path, index, index.name
        self._entries = {m.id: m for m in index.models}
        self.ids = list(self._entries)
        self.cards: Mapping[str, ModelCard] = _Cards(path, self._entries)
        self._teachers: OrderedDict[str, LocalTeacher] = OrderedDict()

    @staticmethod
    def open(source: str | Path) -> "Zoo":
        """Open a folder, or an embedded zoo by name (``glyphs``); reads the index only.

        Raises:
            InputError: no index there, a damaged one, or one without models.
        """
        folder = EMBEDDED.get(source) if isinstance(source, str) else None
        folder = folder or Path(source)
        return Zoo(folder, Index.read(folder))

    @staticmethod
    def write_model(folder: str | Path, card: ModelCard, network: Classifier, *, half: bool = True) -> ModelCard:
        """Write weights, then card; returns the card with the weight file's sha256. The index is left as it is.

        Raises:
            InputError: the folder cannot be written.
        """
        card, content = pack(card, network, half=half)
        write_packed(Path(folder), card, content)
        return card

    def __len__(self) -> int:
        return len(self.ids)

    def entry(self, model: str) -> Entry:
        """What the index says of a model, without reading its card.

        Raises:
            InputError: no such model.
        """
        if model not in self._entries:
            raise InputError(f"model {model!r}", f"a model of zoo {self.name}, as {self.ids[0]}", "see `dfml zoo list`")
        return self._entries[model]

    @cached_property
    def class_ids(self) -> tuple[str, ...]:
        """Every class that some model knows, sorted: the rows of the zoo-wide class head."""
        return tuple(sorted({c for m in self.index.models for c in m.class_ids}))

    @property
    def class_names(self) -> dict[str, str]:
        """Name of every class id."""
        return {c: self.index.classes[c] for c in self.class_ids}

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {c: row for row, c in enumerate(self.class_ids)}

    def rows(self, model: str) -> Int[Tensor, " classes"]:
        """Rows of the zoo-wide class head, in the order of the model's outputs."""
        return torch.tensor([self._row_of[c] for c in self.entry(model).class_ids])

    def teacher(self, model: str) -> LocalTeacher:
        """The model, its file checked; the latest ones stay in memory (up to 256 MiB of them).

        Raises:
            InputError: no such model; a missing, truncated or other weight file; weights that do not fit the card.
        """
        self.entry(model)
        if model in self._teachers:
            self._teachers.move_to_end(model)
        else:
            card = self.cards[model]
            self._teachers[model] = LocalTeacher(card, read_network(self.path, card))
            sizes = {k: sum(4 * v.numel() for v in t.network.state_dict().values()) for k, t in self._teachers.items()}
            while len(sizes) > 1 and sum(sizes.values()) > CACHE_BYTES:
                sizes.pop(self._teachers.popitem(last=False)[0])
        return self._teachers[model]

    @cached_property
    def input_spec(self) -> InputSpec:
        """Of the first model."""
        return self.cards[self.ids[0]].input_spec

    @cached_property
    def hash(self) -> str:
        """Content: model ids, hashes of their weights, and class ids in output order."""
        return content_hash(sorted([m.id, m.sha256, list(m.class_ids)] for m in self.index.models))

    @property
    def recipe_hash(self) -> str:
        """Of the recipe in the index: data, seed, training."""
        return content_hash(self.index.recipe)


def write_index(
    folder: str | Path,
    *,
    name: str,
    shared_classes: bool,
    recipe: dict[str, Any] | None = None,
    ids: Iterable[str] | None = None,
) -> Index:
    """Make ``zoo.json`` from the cards in a folder: all of them, or those with these ``ids``.

    Raises:
        InputError: a card that cannot be read; one id with two names; ids that meet without ``shared_classes``.
    """
    folder = Path(folder)
    paths = (
        [p for p in folder.glob("*.json") if p.name != INDEX] if ids is None else [folder / f"{i}.json" for i in ids]
    )
    cards = [ModelCard.read(path) for path in sorted(paths)]
    classes: dict[str, str] = {}
    for card in cards:
        for class_id, class_name in zip(card.class_ids, card.class_names, strict=True):
            if classes.setdefault(class_id, class_name) != class_name:
                raise InputError(
                    f"card {card.id}: class id {class_id!r} is {class_name!r}, elsewhere {classes[class_id]!r}",
                    "one name for one class id",
                    "correct the class_ids or class_names in the cards",
                )
    models = tuple(Entry(c.id, c.architecture, c.class_ids, c.sha256, c.accuracy) for c in cards)
    index = Index(name, shared_classes, recipe or {}, dict(sorted(classes.items())), models)
    try:
        index._check()
    except ValueError as error:
        raise InputError(
            f"{folder}: {error}", "cards that make one zoo", "correct the cards or shared_classes"
        ) from error
    index.write(folder)
    return index
