"""What every source of networks says."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import nn

from dfml.errors import InputError, NotAtHand

OWN = ("app", "http", "hub", "sklearn", "tensorboard")  # extras that live in the core's own environment
PINS = dict.fromkeys(OWN, "constraints.txt")
Options = Mapping[str, Any]
"""Plain values of a model card."""


@dataclass(frozen=True)
class About:
    """What a source knows of a network without running it.

    Args:
        input_spec: arguments of `dfml.nn.InputSpec`, those that are known.
        class_names: in the order of the outputs; empty where they are not known.
        licence: of the weights.
    """

    input_spec: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    licence: str = "unknown"


@dataclass(frozen=True)
class Source:
    """Where networks come from.

    Args:
        build: the name behind the prefix, the card's options and the number of classes to a network with random
            weights.
        about: name and options to what is known of such a network.
        runs: what code of the card's choosing runs when such a network is built; empty where none does.
    """

    build: Callable[[str, Options, int], nn.Module]
    about: Callable[[str, Options], About] = lambda name, options: About()
    runs: Callable[[str, Options], str] = lambda name, options: ""


def library(module: str, extra: str) -> ModuleType:
    """An optional package.

    Raises:
        NotAtHand: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        where = "" if extra in PINS else ", in an environment of its own"
        raise NotAtHand(
            f"{module.partition('.')[0]} cannot be imported ({error})",
            f"it, which comes with the extra {extra!r}",
            f"in the clone of dfml{where}: pip install -c {PINS.get(extra, 'constraints-vision.txt')} -e '.[{extra}]'",
        ) from error


def unknown(what: str, name: str, known: str, error: Exception) -> InputError:
    """Refuses a name or arguments that a library does not take."""
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    return InputError(f"{what} model {name!r} ({why})", known, "correct the name or the arguments")
