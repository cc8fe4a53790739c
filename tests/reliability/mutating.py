"""Inputs made of sound ones: bytes changed, or values of JSON, which are sealed anew so that no checksum stops them."""

import json
import random
from typing import Any

from dfml.files import SEAL, content_hash

TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"NaN",
    b"1e999",
    b"-1",
    b'"',
    b"{",
    b"[",
    b"\n",
    b"]" * 50,
    b"\r\n\r\n",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, "", "x", "../../etc/passwd", "\x00", "\ud800",
    "a" * 5000, [], {}, [[]], [None], {"": {}}, "glyphs", "running", ["a", "a"], [0, 1], {"name": "x"}, float("nan"),
)  # fmt: skip


def mutated_bytes(content: bytes, drawn: random.Random) -> bytes:
    """One to four changes of bytes."""
    changed = bytearray(content)
    for _ in range(drawn.randint(1, 4)):
        at = drawn.randrange(len(changed) + 1)
        length = drawn.choice((1, 1, 2, 4, 8, 64))
        kind = drawn.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            changed[at : at + length] = drawn.randbytes(length)
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = drawn.choice(TOKENS)
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        else:
            del changed[at:]
    return bytes(changed)


def _inner(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a value: what holds it, and its key there."""
    if isinstance(value, dict):
        return [place for key in value for place in [(value, key), *_inner(value[key])]]
    if isinstance(value, list):
        return [place for key in range(len(value)) for place in [(value, key), *_inner(value[key])]]
    return []


def mutated_json(content: bytes, drawn: random.Random) -> bytes:
    """One to three values replaced, removed, renamed, repeated or exchanged; sealed anew where there was a seal."""
    values = json.loads(content)
    for _ in range(drawn.randint(1, 3)):
        if not (places := _inner(values)):
            break
        holder, key = drawn.choice(places)
        kind = drawn.randrange(6)
        if kind <= 2:
            holder[key] = json.loads(json.dumps(drawn.choice(VALUES)))
        elif kind == 3:
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        else:
            other, there = drawn.choice(places)
            if (isinstance(other, dict) and there in other) or (isinstance(other, list) and there < len(other)):
                holder[key] = json.loads(json.dumps(other[there]))
    if isinstance(values, dict) and SEAL in values:
        bare = {key: value for key, value in values.items() if key != SEAL}
        try:
            values[SEAL] = content_hash(bare)
        except ValueError:  # NaN
            values = bare
    return json.dumps(values).encode()


def mutated(content: bytes, drawn: random.Random) -> bytes:
    """Either; of lines of JSON one line."""
    if drawn.random() < 0.3:
        return mutated_bytes(content, drawn)
    try:
        return mutated_json(content, drawn)
    except ValueError:
        pass
    lines = content.split(b"\n")
    at = drawn.randrange(len(lines))
    try:
        lines[at] = mutated_json(lines[at], drawn)
        return b"\n".join(lines)
    except ValueError:
        return mutated_bytes(content, drawn)
