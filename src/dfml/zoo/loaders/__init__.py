"""From a card to a teacher, by the prefix of the card's source."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from dfml.announced import with_announced
from dfml.errors import InputError
from dfml.nn.foreign import SOURCES
from dfml.zoo.card import Capability, ModelCard
from dfml.zoo.files import read_network
from dfml.zoo.foreign_files import FILES, read_foreign
from dfml.zoo.loaders.http import load_http
from dfml.zoo.teacher import LocalTeacher, Teacher


@dataclass(frozen=True)
class Loader:
    """One source of models.

    Args:
        capabilities: what a model of this source (``prefix:name``) can be asked, known before it is loaded.
        load: the zoo's folder, the card and a device to a teacher; raises InputError where the model is not as its
            card says.
        example: writes a zoo with a small model of this source into a folder and gives the model's card: what the
            tests that every loader is held to begin with.
    """

    capabilities: Callable[[str], Capability]
    load: Callable[[Path, ModelCard, torch.device], Teacher]
    example: Callable[[Path], ModelCard] | None = None


def _own(folder: Path, card: ModelCard, device: torch.device) -> Teacher:
    return LocalTeacher(card, read_network(folder, card).to(device))


def _foreign(folder: Path, card: ModelCard, device: torch.device) -> Teacher:
    return LocalTeacher(card, read_foreign(folder, card).to(device))


LOADERS: dict[str, Loader] = {"dfml": Loader(lambda source: Capability.WHITE_BOX, _own)} | {
    prefix: Loader(lambda source: Capability.LOGITS | Capability.PROBABILITIES | Capability.LABELS, _foreign)
    for prefix in SOURCES
}
LOADERS["http"] = Loader(lambda source: Capability.LABELS, load_http)
"""Prefix -> loader; packages may announce theirs in the entry-point group ``dfml.loaders``."""


@cache
def loaders() -> dict[str, Loader]:
    """`LOADERS`, with those of other packages."""
    return with_announced(LOADERS, "dfml.loaders")


def loader_of(source: str) -> Loader:
    """The loader of a card's source.

    Raises:
        InputError: no loader has its prefix.
    """
    prefix, _, name = source.partition(":")
    if prefix not in loaders() or (not name and prefix not in FILES):
        known = ", ".join(f"{prefix}:" for prefix in loaders())
        raise InputError(
            f"source {source!r} of a model",
            f"a name behind one of {known} (export, onnx and http need none)",
            "correct the card, or install the package that reads such models",
        )
    return loaders()[prefix]
