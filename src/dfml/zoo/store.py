"""A zoo: a folder of ``<id>.safetensors`` and ``<id>.json`` cards with an index, opened lazily.

The index ``zoo.json`` holds what a whole zoo is asked for (ids, classes, hashes, accuracies), so that opening ten
thousand models reads one file; cards and weights are read when they are first needed. The package carries one zoo,
``Zoo.open("glyphs")``: 16 Conv4 teachers of the embedded glyph characters, rebuilt by

    dfml zoo build --data glyphs --arch conv4 --models 16 --seed 0 --no-flips --out OUT
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from dfml.errors import InputError
from dfml.files import content_hash
from dfml.nn import Classifier, InputSpec
from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.files import pack, write_packed
from dfml.zoo.index import INDEX, Entry, Index
from dfml.zoo.loaders import loader_of
from dfml.zoo.told import Told
from dfml.zoo.views import ANSWERS, BlackBox, Counted, Tally, local

CACHE_BYTES = 256 * 2**20
CANVAS_SIZE = 96  # pixels; teachers of larger images enlarge what is recovered at this size
EMBEDDED = {"glyphs": Path(__file__).parent / "glyphs"}


class _Cards(Mapping[str, ModelCard]):
    """Cards by id, read and checked whenever they are asked for: a teacher keeps its own, nobody keeps them all."""

    def __init__(self, folder: Path, entries: dict[str, Entry], names: dict[str, str]):
        self._folder, self._entries, self._names = folder, entries, names

    def __getitem__(self, key: str) -> ModelCard:
        entry = self._entries[key]
        card = ModelCard.read(self._folder / f"{key}.json")
        names = tuple(self._names[c] for c in entry.class_ids)
        given = (card.id, card.class_ids, card.class_names, card.sha256)
        if given != (entry.id, entry.class_ids, names, entry.sha256) or entry.card_hash not in (None, card.hash):
            raise InputError(
                f"{self._folder / key}.json: what it says differs from {INDEX}",
                "a card that agrees with the index",
                "undo the change, or make it with `dfml zoo edit`",
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
        canvas_size: see `canvas`; None is what suits the models.
        cache_bytes: of teachers that stay in memory; 256 MiB at least.
        told: see `as_black_boxes`; None is all that the models give.

    Raises:
        InputError: no model in the index.
    """

    def __init__(
        self,
        path: Path,
        index: Index,
        device: torch.device | None = None,
        *,
        canvas_size: int | None = None,
        cache_bytes: int | None = None,
        told: Told | None = None,
    ):
        if not index.models:
            raise InputError(
                f"{path}: a zoo without models",
                "at least one model",
                "if its build was stopped, run the same `dfml zoo build` again: it continues",
            )
        self.path, self.index, self.name = path, index, index.name
        self.device, self.canvas_size, self._cache_bytes = device or torch.device("cpu"), canvas_size, cache_bytes
        self.told = told
        self._entries = {m.id: m for m in index.models if m.aside is None}
        if not self._entries:
            raise InputError(
                f"{path}: all {len(index.models)} models are set aside",
                "a model that is not",
                "see `dfml zoo list`; take one back with `dfml zoo edit ZOO ID --set aside=null`",
            )
        self.ids = list(self._entries)
        self.aside = index.aside
        self.cards: Mapping[str, ModelCard] = _Cards(path, self._entries, index.classes)
        self._teachers: OrderedDict[str, tuple[Counted, int]] = OrderedDict()
        self._cached_bytes = 0
        self.tally = Tally()

    def __reduce__(self):
        """For another process: from where it may work in another folder, and without models, which it reads itself."""
        return partial(Zoo, canvas_size=self.canvas_size, cache_bytes=self._cache_bytes, told=self.told), (
            Path(self.path).resolve(),
            self.index,
        )

    @staticmethod
    def open(source: str | Path) -> "Zoo":
        """Open a folder, or an embedded zoo by name (``glyphs``) where no zoo lies in a folder of that name.

        Reads the index only.

        Raises:
            InputError: no index there, a damaged one, or one without models.
        """
        folder = Path(source)
        if isinstance(source, str) and source in EMBEDDED and not (folder / INDEX).exists():
            folder = EMBEDDED[source]
        return Zoo(folder, Index.read(folder))

    def subset(self, ids: Iterable[str]) -> "Zoo":
        """A zoo of these models alone, in this order, over the same files; with a hash of its own.

        Raises:
            InputError: an unknown model, or none.
        """
        return self._changed(replace(self.index, models=tuple(self.entry(i) for i in ids)), self.device)

    def on(self, device: torch.device) -> "Zoo":
        """The same zoo with its teachers on a device."""
        return self if device == self.device else self._changed(self.index, device)

    def set_up(self, *, canvas_size: int | None, cache_bytes: int | None) -> "Zoo":
        """The same zoo with another canvas or memory; None leaves it as it is."""
        if canvas_size is None and cache_bytes is None:
            return self
        sizes = {"canvas_size": canvas_size or self.canvas_size, "cache_bytes": cache_bytes or self._cache_bytes}
        return Zoo(self.path, self.index, self.device, **sizes, told=self.told)

    def as_black_boxes(self, told: Told | None) -> "Zoo":
        """The same models, of which one sees no more than these answers, as through an API; None opens them again."""
        sizes = {"canvas_size": self.canvas_size, "cache_bytes": self._cache_bytes}
        return self if told == self.told else Zoo(self.path, self.index, self.device, **sizes, told=told)

    @property
    def cache_bytes(self) -> int:
        """Of teachers that stay in memory."""
        return max(self._cache_bytes or 0, CACHE_BYTES)

    def _changed(self, index: Index, device: torch.device) -> "Zoo":
        sizes = {"canvas_size": self.canvas_size, "cache_bytes": self._cache_bytes}
        return Zoo(self.path, index, device, **sizes, told=self.told)

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
        if model in self.aside:
            raise InputError(f"model {model!r}", "one that is not set aside", f"it is, because: {self.aside[model]}")
        if model not in self._entries:
            raise InputError(f"model {model!r}", f"a model of zoo {self.name}, as {self.ids[0]}", "see `dfml zoo list`")
        return self._entries[model]

    @cached_property
    def class_ids(self) -> tuple[str, ...]:
        """Every class that some model knows, sorted: the rows of the zoo-wide class head."""
        return tuple(sorted({c for m in self._entries.values() for c in m.class_ids}))

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

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Model id -> its place in the zoo."""
        return {model: number for number, model in enumerate(self.ids)}

    def teacher(self, model: str) -> Counted:
        """The model, its file checked, on the zoo's tally; those asked for last stay in memory, or the one alone.

        Raises:
            InputError: no such model; a missing, truncated or other weight file; weights that do not fit the card.
        """
        self.entry(model)
        if model in self._teachers:
            self._teachers.move_to_end(model)
        else:
            card = self.cards[model]
            teacher = loader_of(card.source).load(Path(self.path), card, self.device)
            seen = BlackBox(teacher, self.told) if self.told else teacher
            self._teachers[model] = Counted(seen, self.tally), getattr(teacher, "nbytes", 0)
            self._cached_bytes += self._teachers[model][1]
            while len(self._teachers) > 1 and self._cached_bytes > self.cache_bytes:
                self._cached_bytes -= self._teachers.popitem(last=False)[1][1]
        return self._teachers[model][0]

    def capabilities(self, model: str) -> Capability:
        """What a model can be asked, without loading it.

        Raises:
            InputError: no such model, or no loader for its source.
        """
        entry = self.entry(model)
        able = Capability.named(entry.capabilities) or loader_of(entry.source).capabilities(entry.source)
        return able & ANSWERS[self.told.kind] if self.told else able

    def input_spec(self, model: str) -> InputSpec:
        """The images that a model takes, without reading its card where the index knows them."""
        return self.entry(model).input_spec or self.cards[model].input_spec

    def network(self, model: str) -> Classifier:
        """The model's own network, frozen: for those who look inside (`Capability.FEATURES`).

        Raises:
            InputError: see `teacher`; a model whose weights are not at hand.
        """
        teacher = local(self.teacher(model))
        if teacher is None:
            raise InputError(
                f"the network of {model}", "a model whose weights are at hand", "choose a method for black boxes"
            )
        return teacher.network

    @cached_property
    def canvas(self) -> InputSpec:
        """Channels and size of the images to recover and learn from: what all models take, where they agree.

        Else three channels as soon as one model has three, the largest size that most models resolve, `CANVAS_SIZE` at
        most unless ``canvas_size`` says another, and the models' normalisation where they share one.
        """
        specs = [self.input_spec(model) for model in self.ids]
        resolved = sorted(min(spec.shape[1:]) for spec in specs)[(len(specs) - 1) // 2]
        size = self.canvas_size or min(CANVAS_SIZE, resolved)
        channels = max(spec.channels for spec in specs)
        normalisations = {(spec.mean, spec.std) for spec in specs}
        mean, std = normalisations.pop() if len(normalisations) == 1 else ((0.5,) * channels, (0.25,) * channels)
        return InputSpec(channels, size, mean, std)

    @cached_property
    def hash(self) -> str:
        """Content: model ids, hashes of their weights, and class ids in output order."""
        return content_hash(sorted([m.id, m.sha256, list(m.class_ids)] for m in self._entries.values()))

    @cached_property
    def cards_hash(self) -> str | None:
        """Of all that the cards say, so of what `hash` leaves out, such as mean and std; None in an older index."""
        seals = sorted([m.id, m.card_hash] for m in self._entries.values() if m.card_hash)
        return content_hash(seals) if len(seals) == len(self) else None

    @property
    def recipe_hash(self) -> str:
        """Of the recipe in the index: data, seed, training."""
        return content_hash(self.index.recipe)
