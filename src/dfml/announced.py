"""What other packages announce: entry points of a group, beside what dfml has itself."""

import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


def with_announced(own: Mapping[str, T], group: str) -> dict[str, T]:
    """Name -> object of dfml's own and of every installed package.

    What cannot be imported is left out with a warning, so that one broken package does not stop the others; a name
    that dfml has is dfml's.

    Args:
        own: dfml's.
        group: of entry points: ``dfml.methods``, ``dfml.recoveries``, ``dfml.learners`` or ``dfml.loaders``.
    """
    known = dict(own)
    for entry in entry_points(group=group):
        if entry.name in known:
            _warn(entry, "its name is taken")
        elif (found := _loaded(entry)) is not None:
            known[entry.name] = found
    return known


def _loaded(entry: EntryPoint) -> T | None:
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        _warn(entry, f"it cannot be imported ({type(error).__name__}: {error})")
        return None


def _warn(entry: EntryPoint, why: str) -> None:
    package = entry.dist.name if entry.dist else "a package"
    warnings.warn(f"{entry.group} {entry.name} = {entry.value} of {package} is left out: {why}", stacklevel=4)
