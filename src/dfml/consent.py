"""Whose code a model runs, and that the user agreed to it: nothing of a stranger's runs unasked.

What was agreed to is kept in the user's own configuration, never beside a model, so that a zoo from elsewhere cannot
bring its own consent. It holds for one call with its arguments, or for one file's content, not for a name.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dfml.errors import NotAtHand
from dfml.files import content_hash, locked, read_json, to_json, write_atomic, writing

_held: ContextVar[dict[str, str] | None] = ContextVar("consent that is not written yet", default=None)


def consent_file() -> Path:
    """Where consent is kept: below ``DFML_CONFIG``, else ``XDG_CONFIG_HOME``, else ``~/.config``."""
    base = os.environ.get("DFML_CONFIG")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dfml"
    return (Path(base) if base else home) / "trusted.json"


def _given() -> dict[str, str]:
    try:
        values = read_json(consent_file())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def give_consent(code: Mapping[str, Any], what: str) -> None:
    """Remember that the user trusts this code.

    Args:
        code: ``source`` and ``options`` of the model that runs it.
        what: it is, for people who read the file.

    Raises:
        InputError: the file cannot be written.
    """
    if (held := _held.get()) is not None:
        held[_key(code)] = what
    else:
        _write({_key(code): what})


@contextmanager
def held_consent() -> Iterator[Callable[[], None]]:
    """Inside, consent that is given holds for what is done inside; calling what is yielded writes it.

    So what fails before that call leaves no consent behind.
    """
    held: dict[str, str] = {}
    before = _held.set(held)
    try:
        yield lambda: _write(held)
    finally:
        _held.reset(before)


def _write(more: dict[str, str]) -> None:
    if not more:
        return
    path = consent_file()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, "trusting"):
        write_atomic(path, to_json(_given() | more))


def has_consent(code: Mapping[str, Any]) -> bool:
    """Whether the user trusts this code."""
    return _key(code) in _given() | (_held.get() or {})


def require_consent(code: Mapping[str, Any], what: str) -> None:
    """Refuse code that the user has not agreed to; nothing to do where ``what`` is empty.

    Raises:
        NotAtHand: names the code.
    """
    if what and not has_consent(code):
        raise NotAtHand(
            f"a model that runs code which is not dfml's: {what}",
            "your consent, because that code can do whatever you can",
            "if you trust who made it: --trust when a model is added, `dfml trust FOLDER` for a zoo or predictor from "
            "elsewhere",
        )


def _key(code: Mapping[str, Any]) -> str:
    return content_hash([code["source"], code["options"]])


def models_in(values: Any) -> Iterator[dict[str, Any]]:
    """Every description of a model, with ``source`` and ``options``, in the values of a JSON file."""
    if isinstance(values, dict):
        if isinstance(values.get("source"), str) and isinstance(values.get("options"), dict):
            yield values
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from models_in(value)
