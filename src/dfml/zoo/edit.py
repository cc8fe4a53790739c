"""Changes of a card on purpose: card and index are written together, or neither."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import locked, parse_json, write_atomic
from dfml.zoo.card import CALLED, ModelCard
from dfml.zoo.index import INDEX, Index, rewrite_index
from dfml.zoo.loaders.calling import Call
from dfml.zoo.store import Zoo

EDITABLE = ("input_spec", "class_names", "class_ids", "accuracy", "licence", "provenance", "source", "options")
ANSWERS = ("input_spec", "class_names", "class_ids", "source", "options")  # of these, what fits the weights
OPEN = ("accuracy", "provenance", "options")  # take new keys


def edit_card(folder: str | Path, model: str, changes: Mapping[str, Any]) -> ModelCard:
    """Change what a card says of a model, deliberately: card and index are written and sealed anew.

    Args:
        folder: of the zoo.
        model: its id.
        changes: field, or ``field.key`` within one, -> value; for example ``input_spec.mean``. A list may be given as
            text, ``0.5,0.5,0.5``. ``aside`` is why no method is to look at the model, or None for one that all may.

    Raises:
        InputError: no such model or field, a value that a card cannot hold or that does not go with the weights or the
            other cards, or a folder that cannot be written. The zoo is as it was then.
    """
    folder, index = Path(folder), Index.read(Path(folder))
    if model not in {entry.id for entry in index.models}:
        raise InputError(f"model {model!r}", f"a model of zoo {index.name}", "see `dfml zoo list`")
    path = folder / f"{model}.json"
    read = ModelCard.read(path)
    values = read.to_dict()
    aside = dict(index.aside)
    for key, value in changes.items():
        if key == "aside":
            aside = {k: v for k, v in (aside | {model: value}).items() if v is not None}
        else:
            _change(values, key, value)
    card = ModelCard.from_dict(values, path)
    before = {file: file.read_bytes() for file in (path, folder / INDEX)}
    try:
        write_atomic(path, card.to_json().encode())
        rewrite_index(folder, index, aside=aside)
        if card.source == CALLED:
            Call.of_options(card.options).consent()  # to the address that the user has just written
        if any(key.partition(".")[0] in ANSWERS for key in changes):
            Zoo.open(folder).teacher(model)
        if card.input_spec.shape != read.input_spec.shape:
            warnings.warn(
                f"{model}: its weights take images of {card.input_spec.shape} too, which does not say that it was "
                f"trained on them; the card said {read.input_spec.shape}",
                stacklevel=2,
            )
    except BaseException:
        for file, content in before.items():
            write_atomic(file, content)
        raise
    return card


def set_aside(folder: str | Path, reasons: Mapping[str, str]) -> None:
    """Leave models out of whatever looks at the zoo, and say why in its index; those left out before stay so.

    Raises:
        InputError: no such model, or a folder that cannot be written.
    """
    folder, index = Path(folder), Index.read(Path(folder))
    if unknown := sorted(reasons.keys() - {m.id for m in index.models}):
        raise InputError(f"model {unknown[0]!r}", f"a model of zoo {index.name}", "see `dfml zoo list`")
    with locked(folder, "setting models aside"):
        rewrite_index(folder, index, aside=index.aside | dict(reasons))


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    name, _, leaf = key.partition(".")
    place: Any = values.get(name) if leaf else values
    last = leaf or name
    known = isinstance(place, dict) and (last in place or name in OPEN)
    if name not in EDITABLE or not known:
        keys = [*EDITABLE, *(f"{k}.{inner}" for k in EDITABLE if isinstance(values[k], dict) for inner in values[k])]
        raise InputError(f"{key!r} of a card", f"one of {', '.join(keys)}", "see the card's JSON file")
    if isinstance(place.get(last), list | tuple) and isinstance(value, str):
        value = [plain(part.strip()) for part in value.split(",")]
    place[last] = value


def plain(text: str) -> Any:
    """What text says as JSON, or the text itself."""
    try:
        return parse_json(text)
    except ValueError:
        return text
