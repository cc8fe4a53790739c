"""Plain values, as JSON gives them, against the annotations of what is made of them."""

from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SHOWN = 80  # characters of a value that a message repeats


def check_types(cls: type, values: dict[str, Any]) -> None:
    """Hold values to a dataclass's annotations; JSON's lists are tuples too, and whole numbers are floats.

    Raises:
        TypeError: names the first value of another type.
    """
    for name, hint in _hints(cls).items():
        if name in values and not _fits(values[name], hint):
            shown = repr(values[name])
            shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
            raise TypeError(f"{name} is {shown}, where {getattr(hint, '__name__', hint)} is wanted")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) or (is_dataclass(hint) and isinstance(value, dict))
