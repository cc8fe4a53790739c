"""Files damaged one place at a time, and what reading makes of each: named, without effect, silent, or a traceback."""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dfml.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        name: of the kind.
        path: of one such file, which is damaged and mended again.
        read: reads it as its command does, whatever else is read with it; gives what an answer or result depends on.
        named: what an error or a warning must name; the file, unless given.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    named: str = ""


@dataclass
class Outcomes:
    """How often what happened, and what must not."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def note(self, outcome: str, where: str) -> None:
        self.counts[outcome] += 1
        if outcome in ("silent", "traceback", "not named"):
            self.bad.append(where)


def plain(value: Any) -> Any:
    """A value that can be compared, tensors by type, shape and bits."""
    if isinstance(value, torch.nn.Module):
        return plain(dict(value.state_dict()))
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return repr(value)


def places(size: int, most: int, seed: int = 0) -> list[int]:
    """All positions of a file, or ``most``: a quarter of them at its ends, where its layout is, the others drawn."""
    if size <= most:
        return list(range(size))
    ends = most // 8
    drawn = random.Random(seed).sample(range(ends, size - ends), most - 2 * ends)
    return [*range(ends), *sorted(drawn), *range(size - ends, size)]


def damages(content: bytes, most: int) -> Iterator[tuple[str, bytes]]:
    """One bit, then a whole byte, flipped at every position or ``most`` of them; cuts at a tenth as many lengths."""
    for at in places(len(content), most):
        for what, mask in (("bit", 1 << at % 8), ("byte", 255)):
            changed = bytearray(content)
            changed[at] ^= mask
            yield f"{what} {at}", bytes(changed)
    for length in places(len(content), most // 10, seed=1):
        yield f"cut to {length}", content[:length]


def outcome_of(kind: Kind, whole: Any) -> tuple[str, str]:
    """What reading the file makes of it now, and in which words."""
    name = kind.named or kind.path.name
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = plain(kind.read())
        except InputError as error:
            return ("named" if name in str(error) else "not named"), str(error)
        except Exception as error:
            return "traceback", f"{type(error).__name__}: {error}"
    if any(name in str(warning.message) for warning in warned):
        return "named", str(warned[0].message)
    return ("no effect" if found == whole else "silent"), ""


def try_all(kind: Kind, damaged: Iterable[tuple[str, bytes]]) -> Outcomes:
    """Write each damage into the file, read it, and put back what was there."""
    content, outcomes, whole = kind.path.read_bytes(), Outcomes(), plain(kind.read())
    try:
        for where, changed in damaged:
            kind.path.write_bytes(changed)
            outcome, words = outcome_of(kind, whole)
            outcomes.note(outcome, f"{kind.name}, {where}: {outcome}: {words[:300]}")
    finally:
        kind.path.write_bytes(content)
    return outcomes
