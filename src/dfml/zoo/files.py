"""Weights on disk: float16 safetensors, written atomically, checked against their card when read."""

import copy
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.files import LARGEST, regular, write_atomic
from dfml.nn import Classifier, build_backbone
from dfml.nn.classifier import check_width
from dfml.zoo.card import ModelCard

REPAIR = "copy it again from where the zoo came from, or run the same `dfml zoo build` again: it rebuilds what is amiss"


def halve(network: nn.Module) -> dict[str, Tensor]:
    """The network's state with floats as float16, where they fit (a few huge variances may not)."""
    state = {}
    for name, value in network.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        state[name] = (half if bool(torch.isfinite(half).all()) else value).contiguous()
    return state


def pack(card: ModelCard, network: nn.Module, *, half: bool = True) -> tuple[ModelCard, bytes]:
    """The weight file's bytes, and the card with their sha256."""
    state = halve(network) if half else {name: value.contiguous() for name, value in network.state_dict().items()}
    content = save_tensors(state)
    return replace(card, sha256=hashlib.sha256(content).hexdigest(), stored_hash=""), content


def write_packed(folder: Path, card: ModelCard, content: bytes) -> None:
    """Weights first, card last: a card on disk means that its weights are there."""
    write_atomic(folder / f"{card.id}.safetensors", content)
    write_atomic(folder / f"{card.id}.json", card.to_json().encode())


def read_network(folder: Path, card: ModelCard) -> Classifier:
    """The network behind a card: float32, frozen, in eval mode.

    Raises:
        InputError: no weight file; a truncated or other one; weights that do not fit the card's architecture, width,
            classes or image size.
    """
    path = folder / f"{card.id}.safetensors"
    state = checked_state(path, card)
    spec = card.input_spec
    try:
        check_width(card.architecture, width := card.options.get("width"))
        network = copy.deepcopy(
            _without_weights(card.architecture, width, spec.size, spec.channels, len(card.class_names))
        )
    except InputError as error:
        raise InputError(
            f"card {card.id}: {error.given}", error.wanted, "correct the card, or remove the model"
        ) from error
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    _check_head(path, card, given, wanted["head.weight"])
    if given != wanted:
        name = min(n for n in given.keys() | wanted.keys() if given.get(n) != wanted.get(n))
        raise InputError(
            f"{path}: {name} is {given.get(name, 'not there')}",
            f"{wanted.get(name, 'not there')} for {card.architecture} {card.options} at {spec.size} pixels",
            "correct source, options or input_spec in the card",
        )
    check_numbers(path, state)
    check_kinds(path, state, network.state_dict())
    network.load_state_dict({n: v.float() if v.is_floating_point() else v for n, v in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def check_numbers(path: Path, state: dict[str, Tensor]) -> None:
    """Refuse weights with which every answer would be NaN."""
    for name, value in state.items():
        wrong = value.is_floating_point() and not bool(value.isfinite().all())
        if wrong or (name.endswith("running_var") and bool((value < 0).any())):
            raise InputError(
                f"{path}: {name} holds {'NaN or infinity' if wrong else 'a negative variance'}",
                "finite weights, and variances that are not negative",
                "export the model again, or remove it from the zoo",
            )


def check_kinds(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse weights of types that torch would take for others without a word, and warn of a network of zeros.

    Raises:
        InputError: whole numbers or complex ones for floats, or the other way round.
    """
    for name, value in state.items():
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            kinds = [str(one.dtype).removeprefix("torch.") for one in (value, wanted[name])]
            raise InputError(
                f"{path}: {name} is of type {kinds[0]}",
                f"{kinds[1]}, or another floating type" if wanted[name].is_floating_point() else kinds[1],
                "save the weights as floats; what is quantised has to be turned back first",
            )
    matrices = [value for name, value in state.items() if name in wanted and value.ndim > 1]
    head = state.get("head.weight")
    if matrices and (not any(bool(m.any()) for m in matrices) or (head is not None and not bool(head.any()))):
        warnings.warn(f"{path}: its weights are all zero, so that no answer depends on the image", stacklevel=2)


@lru_cache(maxsize=16, typed=True)
def _without_weights(architecture: str, width: int | None, size: int, channels: int, classes: int) -> Classifier:
    """Building one takes longer than reading the weights of a small network, so copies are taken of it."""
    with torch.device("meta"):
        return Classifier(build_backbone(architecture, image_size=size, channels=channels, width=width), classes)


def checked_bytes(path: Path, card: ModelCard) -> bytes:
    """A weight file's content.

    Raises:
        InputError: it cannot be read, or is not the one that the card names.
    """
    try:
        content = regular(path, LARGEST).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error})", f"the weights of card {card.id}", REPAIR
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise InputError(
            f"{path}: sha256 {found[:12]}... of {len(content)} bytes: truncated or another file",
            f"sha256 {card.sha256[:12]}..., as its card says",
            REPAIR,
        )
    return content


def checked_state(path: Path, card: ModelCard) -> dict[str, Tensor]:
    """The tensors of a weight file.

    Raises:
        InputError: see `checked_bytes`; no safetensors file.
    """
    content = checked_bytes(path, card)
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise InputError(f"{path}: no safetensors file ({error})", f"the weights of card {card.id}", REPAIR) from error


def _check_head(path: Path, card: ModelCard, shapes: dict[str, tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    given = shapes.get("head.weight")
    if given is None or len(given) != 2:
        names = ", ".join(sorted(shapes)[:4])
        raise InputError(
            f"{path}: {len(shapes)} tensors ({names}, ...) and no head.weight among them",
            "a network of dfml's own: backbone.*, head.weight and head.bias",
            "write the model with Zoo.write_model; networks that other libraries name cannot be read yet",
        )
    if given[0] != wanted[0]:
        raise InputError(
            f"card {card.id}: {wanted[0]} class names for a head of {given[0]} rows in {path}",
            "one class name for each row of the head",
            "correct class_names and class_ids in the card and in zoo.json",
        )
    if given[1] != wanted[1]:
        raise InputError(
            f"card {card.id}: images of {card.input_spec.size} pixels give {wanted[1]} features, "
            f"and the head in {path} takes {given[1]}",
            "the image size and width that the weights were trained with",
            "correct input_spec or options in the card",
        )
