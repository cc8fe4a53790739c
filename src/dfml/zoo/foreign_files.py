"""Models of other libraries on disk: weights under the library's own names, or the file that a model is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfml.consent import require_consent
from dfml.errors import InputError
from dfml.nn import Classifier
from dfml.nn.foreign import Archived, source_of, take_apart
from dfml.zoo.card import ModelCard
from dfml.zoo.files import check_kinds, check_numbers, checked_bytes, checked_state
from dfml.zoo.index import Entry

FILES = {"export": ".pt2", "onnx": ".onnx", "http": ".api"}
"""Sources whose models are files -> ending of the file; all others have ``.safetensors``.

Of a model behind an address the file holds what its server said of itself when it was added.
"""
NAMED = 3  # tensors that a message names


def weight_file(folder: Path, card: ModelCard | Entry) -> Path:
    """Where a model's weights are."""
    return folder / f"{card.id}{FILES.get(card.source.partition(':')[0], '.safetensors')}"


def describe_foreign(card: ModelCard) -> dict[str, Any]:
    """What `dfml.nn.foreign.build_foreign` needs."""
    about = {"source": card.source, "options": card.options, "classes": len(card.class_ids), "answers": card.answers}
    return about | card.structure


def read_foreign(folder: Path, card: ModelCard) -> Classifier:
    """The network behind a card, as a backbone and a head.

    Raises:
        InputError: no weight file; a damaged or other one; weights that do not fit the network; a library that is not
            installed; code that the user has not agreed to.
    """
    source, name = source_of(card.source)
    try:
        require_consent({"source": card.source, "options": card.options}, source.runs(name, card.options))
        network = source.build(name, card.options, len(card.class_ids))
    except InputError as error:
        raise type(error)(f"model {card.id}: {error.given}", error.wanted, error.do) from error
    path = weight_file(folder, card)
    if isinstance(network, Archived):
        network.take(checked_bytes(path, card))
    else:
        state = checked_state(path, card)
        check_numbers(path, state)
        load_state(network, state, path)
    backbone, head = take_apart(network.eval().to(memory_format=torch.channels_last), describe_foreign(card))  # type: ignore[call-overload]
    return Classifier(backbone, len(card.class_ids), head)


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a network its weights.

    Raises:
        InputError: they do not fit; names the first tensors.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [name for name in (wanted | given) if wanted.get(name) != given.get(name)]
    wrong = [n for n in wrong if not (n.endswith("num_batches_tracked") and n not in given)]
    if wrong:
        told = "; ".join(f"{n}: {given.get(n, 'not there')}, not {wanted.get(n, 'wanted')}" for n in wrong[:NAMED])
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise InputError(
            f"{path}: weights that do not fit {type(network).__name__} ({told}{more})",
            "weights of this network, for as many classes",
            "name the network that they belong to, and the right number of classes",
        )
    check_kinds(path, state, network.state_dict())
    network.load_state_dict(dict(state), strict=False)
