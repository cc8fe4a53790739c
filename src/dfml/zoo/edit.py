"""Changes of a card on purpose: card and index are written together, and both stay sealed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import check_seal, seal_of, sealed, write_json
from dfml.lock import only_writer
from dfml.zoo.card import CHANGE, ModelCard, card_of, card_values
from dfml.zoo.files import read_network
from dfml.zoo.index import Index, index_of

FIXED = ("schema", "seal", "id", "sha256")  # say which file a card belongs to
OPEN = ("accuracy", "provenance")  # take new keys


def read_changes(words: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as key -> text.

    Raises:
        InputError: none, or one without ``=``.
    """
    pairs = [word.partition("=") for word in words]
    if not pairs or not all(equals and key for key, equals, _ in pairs):
        raise InputError(f"changes {list(words)}", "at least one KEY=VALUE", "add --set licence=MIT, for example")
    return {key: value for key, _, value in pairs}


def edit_card(folder: str | Path, model: str, changes: Mapping[str, str]) -> ModelCard:
    """Change fields of a card, by name (``licence``) or path (``input_spec.mean``); the index follows.

    Args:
        folder: of the zoo.
        model: its id.
        changes: key -> JSON, or plain text; lists also as ``a,b,c``.

    Raises:
        InputError: no such zoo, model or key; a card that does not fit its weights, or the other cards, any more.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder", "the folder of a zoo", "copy an embedded zoo before you change it"
        )
    index = Index.read(folder)
    if model not in {entry.id for entry in index.models}:
        raise InputError(f"model {model!r}", f"a model of zoo {index.name}", "see `dfml zoo list`")
    with only_writer(folder, "written"):
        path = folder / f"{model}.json"
        values = check_seal(path, card_values(path), CHANGE)
        for key, text in changes.items():
            _change(values, key, text, path)
        card = card_of(path, values)
        read_network(folder, card)
        cards = [_read(folder, entry.id) if entry.id != model else (card, seal_of(values)) for entry in index.models]
        shared = index.shared_classes
        changed = index_of(folder, cards, name=index.name, shared_classes=shared, recipe=index.recipe)
        write_json(path, sealed(values))
        changed.write(folder)
    return card


def _read(folder: Path, model: str) -> tuple[ModelCard, str]:
    path = folder / f"{model}.json"
    values = card_values(path)
    return card_of(path, check_seal(path, values, CHANGE)), seal_of(values)


def _change(values: dict[str, Any], key: str, text: str, path: Path) -> None:
    *parents, name = key.split(".")
    place: Any = values
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    known = isinstance(place, dict) and (name in place or (bool(parents) and parents[0] in OPEN))
    if not known or key in FIXED:
        keys = [k for k in values if k not in FIXED]
        keys += [f"{k}.{inner}" for k, v in values.items() if isinstance(v, dict) for inner in v]
        raise InputError(f"{path}: {key!r} is no field to change", f"one of {', '.join(keys)}", "correct the key")
    place[name] = _value(place.get(name), text)


def _value(old: Any, text: str) -> Any:
    """The text as the kind of value that stands there."""
    if isinstance(old, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if isinstance(old, list):
            return [_value(old[0] if old else "", part.strip()) for part in text.split(",")]
        return text
