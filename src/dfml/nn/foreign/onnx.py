"""ONNX networks: translated to torch where that agrees with onnxruntime, else answers alone, by onnxruntime."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.files import LARGEST, regular
from dfml.nn.foreign.base import Options, Source, library
from dfml.nn.foreign.files import Archived
from dfml.nn.foreign.onnx_graph import OnnxGraph

AGREEMENT = 1e-4  # largest difference of the answers, relative to their largest value


class Onnxruntime(nn.Module):
    """A network that onnxruntime runs on the CPU: answers, no gradients.

    Args:
        content: the model's bytes.
    """

    def __init__(self, content: bytes):
        super().__init__()
        self.content, self._session = content, _session(content)

    def __deepcopy__(self, memo: dict) -> "Onnxruntime":
        return self  # nothing of it changes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}

    def forward(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        """The first output."""
        self._session = self._session or _session(self.content)
        (given, *_) = self._session.get_inputs()
        (answer, *_) = self._session.run(None, {given.name: x.detach().cpu().float().numpy()})
        return torch.as_tensor(answer).to(x.device)


def _session(content: bytes) -> Any:
    runtime = library("onnxruntime", "onnx")
    quiet = runtime.SessionOptions()
    quiet.log_severity_level = 3
    quiet.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise InputError(
            f"an ONNX file that onnxruntime cannot run ({str(error).splitlines()[0]})",
            "operators that it knows, as onnx.checker accepts them",
            "export the model again, with a lower opset or without custom operators",
        ) from error
    if len(session.get_inputs()) != 1:
        raise InputError(
            f"an ONNX model with {len(session.get_inputs())} inputs", "one, the images", "export the classifier alone"
        )
    return session


def images_of(content: bytes) -> tuple[int | None, int | None, int | None, int | None]:
    """Batch size, channels, height and width that an ONNX model wants; None for each that may vary."""
    (given,) = _session(content).get_inputs()
    shape = [d if isinstance(d, int) else None for d in given.shape]
    if len(shape) != 4 or given.type != "tensor(float)":
        raise InputError(
            f"an ONNX model that takes {given.type} of shape {given.shape}",
            "float images [n, channels, height, width]",
            "export an image classifier that takes such images",
        )
    return tuple(shape)  # type: ignore[return-value]


def whole(path: str) -> bytes:
    """The model with whatever it keeps in files beside it.

    Raises:
        InputError: no ONNX model.
    """
    onnx = library("onnx", "onnx")
    try:
        model = onnx.load(str(regular(Path(path), LARGEST)))
        onnx.checker.check_model(model)
        return model.SerializeToString()
    except Exception as error:
        raise InputError(
            f"{path}: not an ONNX model ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})",
            "a file that onnx.checker accepts",
            "export the model again, and copy the data files beside it along",
        ) from error


def build(name: str, options: Options, classes: int) -> nn.Module:
    """An empty one; its state brings the file."""
    if not options.get("translated"):
        return Archived(int(options["bytes"]), Onnxruntime)
    return Archived(int(options["bytes"]), OnnxGraph, Onnxruntime)


SOURCE = Source(build)
