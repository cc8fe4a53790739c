"""What a file or folder is that somebody calls a model, found by looking into it."""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dfml.errors import InputError
from dfml.files import LARGEST, read_json, regular

Kind = Literal["card", "export", "onnx", "weights", "pickle", "timm", "transformers"]
ENDINGS: dict[str, Kind] = {".pt2": "export", ".onnx": "onnx", ".safetensors": "weights", ".json": "card"}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder of timm or transformers
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net")  # keys under which weights are often kept


@dataclass(frozen=True)
class Found:
    """What a path holds.

    Args:
        kind: of model.
        path: of the file or folder.
        options: of a timm or transformers folder: what its configuration says.
        name: of the network, where the configuration says it.
    """

    kind: Kind
    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    name: str = ""


def recognise(path: Path) -> Found:
    """What a path holds.

    Raises:
        InputError: nothing there, no model, or another kind of file than its name says.
    """
    if path.is_dir():
        return _folder(path)
    _check_file(path)
    found = _content(path)
    named = ENDINGS.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"{path}: no model ({path.stat().st_size} bytes of something else)",
            "safetensors, a torch checkpoint, .pt2, .onnx, a card of dfml, or a folder of timm or transformers",
            "leave it out",
        )
    if named is not None and named != found:
        raise InputError(f"{path}: holds {found}, though its name says {named}", f"a file of {named}", "rename it")
    return Found(found, path)


def _check_file(path: Path) -> None:
    try:
        regular(path, LARGEST)
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise InputError(f"{path}: {what}", "the file or folder of a model", "check the path") from error


def _content(path: Path) -> Kind | None:
    """By the first bytes, and by the names inside an archive."""
    start = path.open("rb").read(64)
    if zipfile.is_zipfile(path):
        names = zipfile.ZipFile(path).namelist()
        if any(name.endswith(("serialized_exported_program.json", "models/model.json")) for name in names):
            return "export"
        return "pickle" if any(name.endswith("data.pkl") for name in names) else None
    if start[:1] == b"\x80":  # a pickle of torch before 1.6, or any other
        return "pickle"
    if len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "weights"
    if start.lstrip()[:1] == b"{" and path.suffix == ".json":
        return "card" if _json(path).keys() >= {"id", "class_names", "input_spec", "sha256"} else None
    return "onnx" if start[:1] == b"\x08" and path.suffix == ".onnx" else None


def _json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no JSON ({type(error).__name__}: {error})", "a configuration", "copy it again"
        ) from error
    return values if isinstance(values, dict) else {}


def _folder(path: Path) -> Found:
    config = path / "config.json"
    if not config.is_file():
        wanted = "a folder of timm or transformers, with config.json and weights"
        raise InputError(f"{path}: no config.json in it", wanted, f"name the files in it: {path}/*")
    values = _json(config)
    if "pretrained_cfg" in values and "architecture" in values:
        options = {"pretrained_cfg": dict(values["pretrained_cfg"])}
        if values.get("label_names"):
            options["pretrained_cfg"]["label_names"] = list(values["label_names"])
        return Found("timm", path, options, str(values["architecture"]))
    if "model_type" not in values:
        raise InputError(f"{config}: no model_type", "config.json as transformers or timm writes it", "copy it again")
    images = path / "preprocessor_config.json"
    if not images.is_file():
        raise InputError(
            f"{path}: no image processor (preprocessor_config.json)",
            "what says how images are normalised and how large they are",
            "save the processor beside the model (processor.save_pretrained), or copy its file",
        )
    return Found("transformers", path, {"config": values, "preprocessor": _json(images)}, str(values["model_type"]))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of a folder that holds one under a usual name; nothing in them is run.

    Raises:
        InputError: no such file, damaged, or a pickle that holds more than weights.
    """
    if path.is_dir():
        known = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not known:
            raise InputError(f"{path}: no weights in it", f"one of {', '.join(WEIGHTS)}", "name the file")
        path = known[0]
    _check_file(path)
    try:
        if _content(path) == "weights":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: weights that cannot be read ({str(error).splitlines()[0]})", "a whole file", "copy it again"
        ) from error
    except Exception as error:  # pickle.UnpicklingError: the file holds more than tensors
        raise InputError(
            f"{path}: a pickle that holds more than weights ({str(error).splitlines()[0][:120]})",
            "weights alone: torch.save(model.state_dict(), ...), or safetensors",
            "save the weights alone; or --trust, if you trust whoever made the file: loading it runs their code",
        ) from error
    return _unwrapped(state, path)


def _unwrapped(state: Any, path: Path) -> dict[str, Tensor]:
    """The weights in what a training script saved: below a usual key, without the prefix of a parallel wrapper."""
    for key in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path}: {type(state).__name__} of something else than tensors",
            "a state dictionary, or one under the key 'state_dict' or 'model'",
            "save model.state_dict()",
        )
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def sha256_of(content: bytes) -> str:
    """As cards hold it."""
    return hashlib.sha256(content).hexdigest()
