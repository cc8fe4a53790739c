"""The index of a zoo, ``zoo.json``: what a whole zoo is asked for, so that opening it reads one file."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import absence, read_json, sealed, to_json, unsealed, write_atomic
from dfml.nn import InputSpec
from dfml.plain import check_types
from dfml.zoo.card import ModelCard, architecture_of

INDEX = "zoo.json"
INDEX_SCHEMA = 3
RESEAL = "undo the change; a wanted one is made by `dfml zoo edit`, or by dfml.zoo.write_index from the cards"


@dataclass(frozen=True)
class Entry:
    """One model in the index."""

    id: str
    source: str
    class_ids: tuple[str, ...]
    sha256: str
    accuracy: dict[str, float]
    input_spec: InputSpec | None = None
    """None in an index by an older dfml: the card knows."""
    card_hash: str | None = None
    """Of the whole card (`ModelCard.hash`); None in an index by an older dfml."""
    capabilities: tuple[str, ...] = ()
    """See `ModelCard.capabilities`."""
    aside: str | None = None
    """Why it is set aside: no method looks at it then."""

    @property
    def architecture(self) -> str:
        """See `ModelCard.architecture`."""
        return architecture_of(self.source)


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

    @property
    def aside(self) -> dict[str, str]:
        """Models that are set aside -> why."""
        return {m.id: m.aside for m in self.models if m.aside is not None}

    def write(self, folder: Path) -> None:
        """Write ``zoo.json`` atomically."""
        write_atomic(folder / INDEX, to_json(sealed({"schema": INDEX_SCHEMA} | asdict(self))))

    @staticmethod
    def read(folder: Path) -> "Index":
        """Read ``zoo.json``.

        Raises:
            InputError: no index, or not one of this schema.
        """
        path = folder / INDEX
        if not path.is_file():
            raise InputError(
                f"{folder}: {absence(path)}",
                "a folder made by `dfml zoo build` or `dfml zoo add`, or `glyphs`, the embedded zoo",
                "check the path; `dfml zoo add` makes a zoo of models that you have",
            )
        try:
            values = unsealed(read_json(path), path, RESEAL)
            schema = values.pop("schema", None)
            if schema not in (1, 2, INDEX_SCHEMA):
                raise ValueError(f"schema {schema!r}, not {INDEX_SCHEMA}")
            models = tuple(_entry(m) for m in values.pop("models"))
            check_types(Index, values)
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


def _entry(values: dict[str, Any]) -> Entry:
    values, spec = dict(values), values.get("input_spec")
    if "architecture" in values:  # schema 1: all networks were dfml's own
        values["source"] = f"dfml:{values.pop('architecture')}"
    check_types(Entry, values)
    known = {"class_ids": tuple(values["class_ids"]), "input_spec": InputSpec.from_dict(spec) if spec else None}
    return Entry(**values | known | {"capabilities": tuple(values.get("capabilities", ()))})


def _of_card(card: ModelCard, aside: str | None) -> Entry:
    about = (card.accuracy, card.input_spec, card.hash, card.capabilities, aside)
    return Entry(card.id, card.source, card.class_ids, card.sha256, *about)


def rewrite_index(
    folder: Path, index: Index, *, ids: Iterable[str] | None = None, aside: Mapping[str, str] | None = None
) -> Index:
    """The index anew from the cards, after models came, went or changed.

    Args:
        folder: of the zoo.
        index: as it was.
        ids: of the models now; as before unless given.
        aside: those set aside now; as before unless given.
    """
    return write_index(
        folder,
        name=index.name,
        shared_classes=index.shared_classes,
        recipe=index.recipe,
        ids=[m.id for m in index.models] if ids is None else ids,
        aside=index.aside if aside is None else aside,
    )


def write_index(
    folder: str | Path,
    *,
    name: str,
    shared_classes: bool,
    recipe: dict[str, Any] | None = None,
    ids: Iterable[str] | None = None,
    aside: Mapping[str, str] | None = None,
) -> Index:
    """Make ``zoo.json`` from the cards in a folder: all of them, or those with these ``ids``.

    Args:
        folder: of the zoo.
        name: of the zoo.
        shared_classes: see `Index`.
        recipe: see `Index`.
        ids: of the models; all unless given.
        aside: models that no method is to look at -> why.

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
    models = tuple(_of_card(card, (aside or {}).get(card.id)) for card in cards)
    index = Index(name, shared_classes, recipe or {}, dict(sorted(classes.items())), models)
    try:
        index.check()
    except ValueError as error:
        raise InputError(
            f"{folder}: {error}", "cards that make one zoo", "correct the cards or shared_classes"
        ) from error
    index.write(folder)
    return index
