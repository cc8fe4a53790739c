"""Learners and predictors as two files each, safetensors and JSON, that need no zoo, no run folder and no pickle."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from dfml.errors import InputError
from dfml.files import LARGEST, absence, read_json, regular, sealed, to_json, unsealed, write_atomic
from dfml.nn import Description, Encoder, InputSpec, build_network, describe

T = TypeVar("T")


def describe_encoder(encoder: Encoder) -> Description:
    """What `build_encoder` needs, apart from the weights."""
    last = any(
        p.ndim == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in encoder.parameters()
    )
    return {"network": describe(encoder.backbone), "input_spec": encoder.spec.to_dict(), "channels_last": last}


def build_encoder(description: Description) -> Encoder:
    """An encoder from its description, with random weights in the layout of those that were saved."""
    encoder = Encoder(build_network(description["network"]), InputSpec.from_dict(description["input_spec"])).eval()
    # The layout decides which kernels run, so the last bits of an answer.
    layout = torch.channels_last if description.get("channels_last") else torch.contiguous_format
    return encoder.to(memory_format=layout)  # type: ignore[call-overload]


@torch.no_grad()
def check_looks(encoder: Encoder) -> None:
    """Refuse an encoder, its weights loaded, that cannot look at images of the size that it says.

    Raises:
        ValueError: says which.
    """
    try:
        features = encoder(torch.zeros(1, *encoder.spec.shape)).shape[1]
    except RuntimeError as error:  # of torch, about shapes
        raise ValueError(f"a network that takes no images of {encoder.spec.shape} ({error})") from error
    if features != encoder.feature_size:
        raise ValueError(f"{features} features of images of {encoder.spec.shape}, not {encoder.feature_size}")


def save_pair(path: Path, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write ``<path>.safetensors``, then ``<path>.json`` with its sha256, each atomically.

    Raises:
        InputError: they cannot be written.
    """
    # Clones, because safetensors refuses tensors that share memory.
    weights = save_tensors({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    write_atomic(path.with_suffix(".safetensors"), weights)
    card = sealed(values | {"sha256": hashlib.sha256(weights).hexdigest()})
    write_atomic(path.with_suffix(".json"), to_json(card))


def load_pair(path: Path, what: str, build: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T:
    """What ``build`` makes of the values and tensors that `save_pair` wrote.

    Args:
        path: of the files, without an ending.
        what: they hold, for messages: ``learner`` or ``predictor``.
        build: raises ValueError, TypeError or KeyError where values and tensors do not fit together.

    Raises:
        InputError: files missing, damaged, of another version, or tensors that do not match the values.
    """
    card, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    if not card.exists() and not weights.exists():
        made = "`dfml adapt` makes a predictor of a learner" if what == "predictor" else "`dfml train` leaves one"
        raise InputError(f"{path.parent}: {absence(card)}", f"a folder with a {what}", f"check the path; {made}")
    try:
        values, content = _read_pair(card, weights)
        tensors = load_tensors(content)
        if bad := [name for name, value in tensors.items() if not bool(value.isfinite().all())]:
            raise ValueError(f"{bad[0]} holds NaN or infinity")
        return build(values, tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            error = ValueError(error.given)
        raise InputError(
            f"{path}: not a {what} ({type(error).__name__}: {error})",
            f"{card.name} and {weights.name} as dfml writes them",
            "copy both files together; where they are of another version of dfml, train anew or use that version",
        ) from error


def _read_pair(card: Path, weights: Path) -> tuple[dict[str, Any], bytes]:
    """What both files hold; read again where they do not belong together, as while a run replaces them."""
    for pause in (0.1, 0.5, 0.0):
        written, content = read_json(card), regular(weights, LARGEST).read_bytes()
        values = unsealed(written, Path(card.name), "copy both files again from where they were written")
        if hashlib.sha256(content).hexdigest() == values["sha256"]:
            return values, content
        time.sleep(pause)
    raise ValueError(f"{weights.name} is not the file that {card.name} describes: truncated or changed")
