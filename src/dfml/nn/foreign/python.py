"""Networks by import path: ``python:package.module:Class.function``; their code is a stranger's, and runs here."""

import importlib
import json
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from torch import nn

from dfml.errors import InputError, NotAtHand
from dfml.nn.foreign.base import Options, Source

WANTED = "module:function, whose call gives a torch.nn.Module"


def runs(name: str, options: Options) -> str:
    """The call, as Python would write it."""
    given = ", ".join(f"{key}={json.dumps(value)}" for key, value in options.get("arguments", {}).items())
    return f"{name.replace(':', '.')}({given})"


def build(name: str, options: Options, classes: int) -> nn.Module:
    """What the call gives; consent is asked for by whoever reads the card."""
    network = _found(name)(**options.get("arguments", {}))
    if not isinstance(network, nn.Module):
        raise InputError(f"{runs(name, options)} gave {type(network).__name__}", WANTED, "name what gives the network")
    return network


def _found(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    sys.path.append(here := str(Path.cwd()))  # last, so that it hides nothing
    try:
        found: Any = importlib.import_module(module)
        return reduce(getattr, path.split("."), found)
    except ImportError as error:
        raise NotAtHand(
            f"python:{name} ({type(error).__name__}: {error})",
            f"{WANTED}, in a module that Python finds from here",
            "correct the path, install the package, or run in the module's folder",
        ) from error
    except (AttributeError, ValueError) as error:
        raise InputError(f"python:{name} ({type(error).__name__}: {error})", WANTED, "correct the path") from error
    finally:
        sys.path.remove(here)


SOURCE = Source(build, runs=runs)
