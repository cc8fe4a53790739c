from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from dfml.plain import check_types


@dataclass
class Inner:
    a: int


@dataclass
class Outer:
    whole: int
    number: float
    names: tuple[str, ...]
    kind: Literal["x", "y"]
    maybe: int | None = None
    inner: Inner | None = None
    free: dict[str, Any] = field(default_factory=dict)


SOUND = {"whole": 1, "number": 2, "names": ["a"], "kind": "x", "maybe": None, "inner": {"a": 1}, "free": {"k": [1]}}


def test_json_fits_and_what_is_left_out_or_unknown_is_not_looked_at():
    check_types(Outer, SOUND)
    check_types(Outer, {"another": object()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whole", 32.0),
        ("whole", "32"),
        ("whole", None),
        ("whole", True),
        ("number", True),
        ("number", "0.5"),
        ("names", "abc"),
        ("names", [1]),
        ("kind", "z"),
        ("maybe", 1.5),
        ("inner", [1]),
        ("free", {1: 2}),
        ("free", []),
    ],
)
def test_another_type_is_named(name, value):
    with pytest.raises(TypeError, match=f"^{name} is "):
        check_types(Outer, SOUND | {name: value})
    with pytest.raises(TypeError, match=r"\.\.\., where"):
        check_types(Outer, SOUND | {"whole": "x" * 1000})
