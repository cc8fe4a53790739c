"""A predictor as one file for others: ONNX, or a program of torch.export, with what it wants done to images inside."""

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.export.scripts import SCRIPTS
from dfml.files import write_atomic
from dfml.functional.drawing import dead_leaves
from dfml.learners.base import embed
from dfml.learners.task_classifier import NONE, TaskClassifier
from dfml.nn import Encoder, inference_copy
from dfml.nn.foreign.base import library
from dfml.nn.pooling import MaxPool2x2
from dfml.randomness import Rng

AGREEMENT = 1e-4  # largest difference of a probability
CHECKED, CALIBRATION = 64, 128  # drawn images on which a file is compared, and 8-bit ranges are found
ABOUT = "dfml"  # the key of the metadata
Run = Callable[[UInt8[Tensor, "n h w c"]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Export:
    """What was written.

    Args:
        path: of the file.
        loader: of a script beside it that labels image files with it, without dfml.
        difference: of a probability from the predictor's, at most, on drawn images.
        agreement: share of drawn images that get the same class, in percent.
    """

    path: Path
    loader: Path
    difference: float
    agreement: float


class _Program(nn.Module):
    """Bytes of a canvas in, probabilities and logits out; networks as they run fastest, up to rounding."""

    def __init__(self, classifier: TaskClassifier):
        super().__init__()
        predictor = classifier.predictor
        self.encoders = nn.ModuleList(_plain(encoder) for encoder in cast(list[Encoder], list(predictor.encoders)))
        self.normalise = predictor.normalise
        self.register_buffer("weight", predictor.weight.detach().cpu().clone())
        self.register_buffer("bias", predictor.bias.detach().cpu().clone())

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> tuple[Float[Tensor, "n way"], Float[Tensor, "n way"]]:
        fitted = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        features = embed(cast(list[Encoder], list(self.encoders)), fitted, normalise=self.normalise)
        logits = F.linear(features, self.weight, self.bias)  # type: ignore[arg-type]
        return logits.softmax(-1), logits


def _plain(encoder: Encoder) -> Encoder:
    """Without layers that ask how large a batch is, which a program must not depend on."""
    copied = inference_copy(encoder).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MaxPool2x2):
                setattr(module, name, nn.MaxPool2d(2))
    return copied


def export(classifier: TaskClassifier, out: str | Path, *, int8: bool = False) -> Export:
    """Write a predictor as one file, and a script that labels images with it, after it was checked.

    What goes in is ``images``, uint8 [n, height, width, channels] at the size that the metadata say; what comes out is
    ``probabilities`` and ``logits``, both [n, classes]. Bringing to a network's size and normalising is inside.

    Args:
        classifier: the predictor.
        out: ends in ``.onnx`` (the extra ``onnx``; runs without torch) or ``.pt2`` (a program of torch.export).
        int8: of ``.onnx``: weights and activations in 8 bits, whose ranges are those of drawn images.

    Raises:
        InputError: another ending, a network that cannot be exported, or a file that says something else than the
            predictor: any probability of a drawn image more than 0.0001 away, but for int8, of which the agreement
            is told. Nothing is written then.
    """
    out = Path(out)
    if out.suffix not in SCRIPTS or (int8 and out.suffix != ".onnx"):
        kind = f"{out}{' with int8' if int8 else ''}"
        raise InputError(kind, "a name that ends in .onnx, or in .pt2 without int8", "change the name")
    shape = (*classifier.spec.shape[1:], classifier.spec.channels)
    about = {"input": list(shape), "class_names": list(classifier.class_names), "floor": classifier.floor, "none": NONE}
    drawn = drawn_bytes(CHECKED, classifier, "check")
    with _quiet():
        program = _exported(_Program(classifier).eval(), drawn[:2])
        if out.suffix == ".onnx":
            content = _onnx(program, about)
            content = _quantised(content, drawn_bytes(CALIBRATION, classifier, "int8")) if int8 else content
        else:
            content = _pt2(program, about)
    said, _ = (_run_onnx if out.suffix == ".onnx" else _run_pt2)(content)(drawn)
    wanted = classifier.predict(drawn.permute(0, 3, 1, 2)).probabilities
    difference = float((said - wanted).abs().max())
    if not int8 and not difference <= AGREEMENT:
        raise InputError(
            f"{out}: probabilities of drawn images are up to {difference:.2g} away from the predictor's",
            f"at most {AGREEMENT:g}",
            "export it in the other format; tell us of the network",
        )
    agreement = 100 * float((said.argmax(-1) == wanted.argmax(-1)).float().mean())
    loader = out.with_name(f"{out.stem}_{out.suffix[1:]}.py")
    write_atomic(out, content)
    write_atomic(loader, SCRIPTS[out.suffix].replace("FILE", repr(out.name)).encode())
    return Export(out, loader, difference, agreement)


def drawn_bytes(count: int, classifier: TaskClassifier, name: str) -> UInt8[Tensor, "n h w c"]:
    """Pictures drawn from nothing (`dfml.functional.drawing`), as an exported file takes them."""
    spec = classifier.spec
    side = max(spec.shape[1:])
    images = dead_leaves(count, spec.channels, side, Rng(0).generator("export", name))
    images = images[..., : spec.shape[1], : spec.shape[2]]
    return (255 * images).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _exported(program: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(program, (example,), dynamic_shapes=({0: torch.export.Dim("n")},), strict=False)
    except Exception as error:  # whatever a network's code meets when it is traced
        raise InputError(
            f"a network that torch.export cannot take ({str(error).splitlines()[0]})",
            "one of tensors alone, without choices that depend on them",
            "ship the predictor's two files instead: dfml predict",
        ) from error


def _pt2(program: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(about)})
    return file.getvalue()


def _onnx(program: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    library("onnxscript", "onnx")
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities", "logits"]}
    try:
        model = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto  # type: ignore[union-attr]
    except Exception as error:
        raise InputError(
            f"a network that ONNX cannot hold ({str(error).splitlines()[0]})",
            "operators that ONNX has",
            "export a .pt2 file instead",
        ) from error
    entry = model.metadata_props.add()
    entry.key, entry.value = ABOUT, json.dumps(about)
    return model.SerializeToString()


def _quantised(content: bytes, images: Tensor) -> bytes:
    quantization = library("onnxruntime.quantization", "onnx")

    class Reader(quantization.CalibrationDataReader):
        batches = iter(images.split(16))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        given.write_bytes(content)
        quantization.quantize_static(
            given, out, Reader(), per_channel=True, op_types_to_quantize=["Conv", "MatMul", "Gemm"]
        )
        return out.read_bytes()


def _run_onnx(content: bytes) -> Run:
    runtime = library("onnxruntime", "onnx")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        probabilities, logits = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(probabilities), torch.from_numpy(logits)

    return run


def _run_pt2(content: bytes) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, exporters do not tell of their steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
