"""A zoo: a folder of ``<id>.safetensors`` and ``<id>.json`` cards with an index, opened lazily.

The index ``zoo.json`` holds what a whole zoo is asked for (ids, classes, hashes, accuracies), so that opening ten
thousand models reads one file; cards and weights are read when they are first needed. The package carries one zoo,
``Zoo.open("glyphs")``: 16 Conv4 teachers of the embedded glyph characters, rebuilt by

    dfml zoo build --data glyphs --arch conv4 --models 16 --seed 0 --no-flips --out OUT
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.errors import InputError
from dfml.files import content_hash
from dfml.nn import Classifier, InputSpec
from dfml.zoo.card import CHANGE, ModelCard
from dfml.zoo.files import pack, read_network, write_packed
from dfml.zoo.index import INDEX, Entry, Index
from dfml.zoo.teacher import LocalTeacher

CACHE_BYTES = 256 * 2**20
EMBEDDED = {"glyphs": Path(__file__).parent / "glyphs"}


class _Cards(Mapping[str, ModelCard]):
    """Cards by id, read and checked whenever they are asked for: a teacher keeps its own, nobody keeps them all."""

    def __init__(self, folder: Path, entries: dict[str, Entry], names: dict[str, str]):
        self._folder, self._entries, self._names = folder, entries, names

    def __getitem__(self, key: str) -> ModelCard:
        entry = self._entries[key]
        path = self._folder / f"{key}.json"
        card = ModelCard.read(path, seal=entry.card)
        names = tuple(self._names[c] for c in entry.class_ids)
        given = (card.id, card.class_ids, card.class_names, card.sha256)
        if given != (entry.id, entry.class_ids, names, entry.sha256):
            raise InputError(
                f"{path}: id, classes or sha256 differ from those in {INDEX}",
                "a card that agrees with the index",
                CHANGE,
            )
        return card

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Zoo:
    """Frozen classifiers with their cards; open one with `Zoo.open`.

    Args:
        path: the folder.
        index: its index.
        device: where its teachers answer.

    Raises:
        InputError: no model in the index.
    """

    def __init__(self, path: Path, index: Index, device: torch.device | None = None):
        if not index.models:
            raise InputError(
                f"{path}: a zoo without models",
                "at least one model",
                "if its build was stopped, run the same `dfml zoo build` again: it continues",
            )
        self.path, self.index, self.name = path, index, index.name
        self.device = device or torch.device("cpu")
        self._entries = {m.id: m for m in index.models}
        self.ids = list(self._entries)
        self.cards: Mapping[str, ModelCard] = _Cards(path, self._entries, index.classes)
        self._teachers: OrderedDict[str, LocalTeacher] = OrderedDict()
        self._cached_bytes = 0

    def __reduce__(self):
        """For another process: from where it may work in another folder, and without models, which it reads itself."""
        return Zoo, (Path(self.path).resolve(), self.index)

    @staticmethod
    def open(source: str | Path) -> "Zoo":
        """Open a folder, or where there is none an embedded zoo by name (``glyphs``); reads the index only.

        Raises:
            InputError: no index there, a damaged one, or one without models.
        """
        folder = Path(source)
        if isinstance(source, str) and not folder.exists():
            folder = EMBEDDED.get(source, folder)
        return Zoo(folder, Index.read(folder))

    def subset(self, ids: Iterable[str]) -> "Zoo":
        """A zoo of these models alone, in this order, over the same files; with a hash of its own.

        Raises:
            InputError: an unknown model, or none.
        """
        return Zoo(self.path, replace(self.index, models=tuple(self.entry(i) for i in ids)), self.device)

    def on(self, device: torch.device) -> "Zoo":
        """The same zoo with its teachers on a device."""
        return self if device == self.device else Zoo(self.path, self.index, device)

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
        """The model, its file checked; the ones asked for last stay in memory, up to 256 MiB and at least one.

        Raises:
            InputError: no such model; a missing, truncated or other weight file; weights that do not fit the card.
        """
        self.entry(model)
        if model in self._teachers:
            self._teachers.move_to_end(model)
        else:
            card = self.cards[model]
            self._teachers[model] = LocalTeacher(card, read_network(self.path, card).to(self.device))
            self._cached_bytes += self._teachers[model].nbytes
            while len(self._teachers) > 1 and self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._teachers.popitem(last=False)[1].nbytes
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
