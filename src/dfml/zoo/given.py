"""A model that somebody gives: its network with weights, and what is known of it before it is run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from dfml.consent import give_consent, require_consent
from dfml.errors import InputError
from dfml.functional.noise import natural_noise
from dfml.nn.foreign import SOURCES, About, Archived, as_tensor, source_of
from dfml.nn.foreign import exported as exported_graphs
from dfml.nn.foreign import onnx as onnx_graphs
from dfml.nn.foreign.base import library
from dfml.zoo.foreign_files import load_state
from dfml.zoo.recognise import Found, read_weights, recognise, sha256_of

LIBRARIES = ("timm", "torchvision", "transformers")
REASON = 200  # characters of why a graph could not be translated
HEADS = ("classifier", "head", "fc", "heads")  # beginnings of the names of a head's weights, where a library has one


@dataclass(frozen=True)
class Given:
    """A model before it is looked into.

    Args:
        source: as on a card.
        options: as on a card.
        network: with its weights, in eval mode.
        name: for an id, where nobody gives one.
        about: what is known without running it.
        content: of the file that it is; None where its weights are what is kept.
        batch: images at once, where it takes no other number.
    """

    source: str
    options: dict[str, Any]
    network: nn.Module
    name: str
    about: About = field(default_factory=About)
    content: bytes | None = None
    batch: int | None = None


def given_model(
    source: str | Path,
    *,
    like: str | None = None,
    weights: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: int | None = None,
    trust: bool = False,
) -> Given:
    """The model behind a name or path; see `dfml.zoo.add`, which explains the arguments.

    Raises:
        InputError: see there.
    """
    prefix, colon, name = str(source).partition(":")
    if colon and prefix in SOURCES and not Path(source).exists():
        return _by_name(prefix, name, weights, dict(arguments or {}), classes, trust)
    found = recognise(Path(source))
    if found.kind == "onnx":
        return _onnx(found.path)
    if found.kind == "export":
        return _exported(found.path.read_bytes(), found.path.stem, trust)
    if found.kind in LIBRARIES:
        return _of_library(found.kind, found.name, found.path, found.options, classes, found.path.name)
    if found.kind == "pickle" and trust and like is None:
        return _unpickled(found)
    if like is None:
        state = read_weights(found.path)
        raise InputError(
            f"{source}: weights ({len(state)} tensors, first {next(iter(state))}) that do not say of which network",
            "the network's name",
            "give like (--like), for example timm:resnet18, torchvision:resnet18 or python:my_package.models:Net",
        )
    prefix, _, name = like.partition(":")
    given = _by_name(prefix, name, found.path, dict(arguments or {}), classes, trust)
    return replace(given, name=found.path.stem)


def _by_name(
    prefix: str, name: str, weights: Path | None, arguments: dict[str, Any], classes: int | None, trust: bool
) -> Given:
    source, _ = source_of(f"{prefix}:{name}")
    options = {"arguments": arguments} if arguments else {}
    if prefix in LIBRARIES:
        if prefix == "transformers":
            folder = weights if weights and weights.is_dir() else _snapshot(name)
            found = recognise(folder)
            return _of_library("transformers", found.name, weights or folder, found.options, classes, name)
        return _of_library(prefix, name, weights, options, classes, name)
    if prefix not in SOURCES or not name:
        raise InputError(f"{prefix}:{name}", f"a name behind one of {', '.join(SOURCES)}", "correct the source")
    called = f"{prefix}:{name}"
    agreed({"source": called, "options": options}, source.runs(name, options), trust)
    try:
        network = source.build(name, options, classes or 0)
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        raise InputError(
            f"{source.runs(name, options)} failed ({type(error).__name__}: {error})",
            "a call that gives the network",
            "correct the arguments (--arguments, as JSON)",
        ) from error
    if weights is not None:
        load_state(network, read_weights(weights), weights)
    return Given(called, options, network.eval(), name.rpartition(":")[2].lower())


def agreed(code: dict[str, Any], what: str, trust: bool) -> None:
    """Consent, given now or before."""
    if what and trust:
        give_consent(code, what)
    require_consent(code, what)


def _of_library(
    prefix: str, name: str, weights: Path | None, options: dict[str, Any], classes: int | None, called: str
) -> Given:
    """A network that timm, torchvision or transformers builds, with its weights."""
    source = SOURCES[prefix]
    about = source.about(name, options)
    if prefix == "transformers" and weights is not None and weights.is_dir():
        return Given(f"{prefix}:{name}", options, _from_folder(weights).eval(), Path(called).name, about)
    state = read_weights(weights) if weights is not None else _pretrained(prefix, name)
    count = _classes_of(state) or classes or len(about.class_names)
    if not count:
        raise InputError(
            f"weights of {prefix}:{name} whose number of classes is not known", "it", "give class_names (--classes)"
        )
    network = source.build(name, options, count)
    load_state(network, state, weights or Path(name))
    if len(about.class_names) != count:
        about = replace(about, class_names=())  # of other weights than these
    return Given(f"{prefix}:{name}", options, network.eval(), Path(called).name, about)


def _from_folder(folder: Path) -> nn.Module:
    """By transformers itself, which knows what its older versions called the tensors."""
    transformers = library("transformers", "vision")
    try:
        network, told = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(
            f"{folder}: a model that transformers cannot read ({str(error).strip().splitlines()[0]})",
            "an image classifier, as save_pretrained writes it",
            "save the model again, or give its weights as a file (--weights)",
        ) from error
    wrong = sorted(
        {str(k) for key in ("missing_keys", "mismatched_keys", "unexpected_keys") for k in told.get(key, ())}
    )
    if wrong:
        raise InputError(
            f"{folder}: weights that do not fit {type(network).__name__} ({'; '.join(wrong[:3])}, {len(wrong)} in all)",
            "weights of an image classifier, head and all",
            "save the fine-tuned model again",
        )
    return network


def _classes_of(state: Mapping[str, Tensor]) -> int:
    """Rows of the head, by the usual names; 0 where none is there."""
    rows = [
        len(value)
        for name, value in state.items()
        if value.ndim in (2, 4) and name.startswith(HEADS) and name.endswith("weight")
    ]
    return rows[-1] if rows else 0


def _pretrained(prefix: str, name: str) -> dict[str, Tensor]:
    """From the library's own cache, or its hub."""
    module = library({"timm": "timm"}.get(prefix, "torchvision.models"), "vision")
    try:
        if prefix == "timm":
            return dict(module.create_model(name, pretrained=True).state_dict())
        return dict(module.get_model(name, weights="DEFAULT").state_dict())
    except Exception as error:  # of the network, the hub, the library
        raise _offline(f"{prefix}:{name}", error) from error


def _snapshot(name: str) -> Path:
    """A model's folder from the hub, or its cache."""
    hub = library("huggingface_hub", "vision")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except Exception as error:
        raise _offline(f"transformers:{name}", error) from error


def _offline(name: str, error: Exception) -> InputError:
    why = (str(error).strip().splitlines() or [""])[0]
    return InputError(
        f"pretrained weights of {name} ({type(error).__name__}: {why})",
        "weights in the library's cache, or a network that reaches its hub",
        "give weights (--weights), a local file or folder",
    )


def _exported(content: bytes, name: str, trust: bool) -> Given:
    _agreed_graph(content, trust)
    content = exported_graphs.without_examples(content)
    options = _agreed_graph(content, trust=True)  # to what is kept, as well
    network = Archived.of(content, exported_graphs.opened)
    batch, channels, height, width = exported_graphs.images_of(cast(fx.GraphModule, network.network))
    about = About(_known(channels, height, width))
    return Given("export", options, network.eval(), name, about, content, batch)


def _agreed_graph(content: bytes, trust: bool) -> dict[str, Any]:
    source, _ = source_of("export")
    options = {"bytes": len(content), "sha256": sha256_of(content)}
    agreed({"source": "export", "options": options}, source.runs("", options), trust)
    return options


def _known(channels: int | None, height: int | None, width: int | None) -> dict[str, Any]:
    """As arguments of `InputSpec`, those that are known."""
    spec = {"channels": channels, "size": height, "width": None if width == height else width}
    return {key: value for key, value in spec.items() if value is not None}


def _onnx(path: Path) -> Given:
    content = onnx_graphs.whole(str(path))
    batch, channels, height, width = onnx_graphs.images_of(content)
    about = About(_known(channels, height, width))
    asked = Archived.of(content, onnx_graphs.Onnxruntime)
    shape = (batch or 2, channels or 3, height or 224, width or height or 224)
    options: dict[str, Any] = {"bytes": len(content)}
    try:
        options |= {"translated": True, "difference": _difference(content, asked, shape)}
        asked = Archived.of(content, onnx_graphs.OnnxGraph)
    except Exception as error:  # of images of another size than the graph takes, or a translation that does not run
        what = error.given if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        options |= {"untranslated": what[:REASON]}
    return Given("onnx", options, asked.eval(), path.stem, about, content, batch)


def _difference(content: bytes, asked: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest difference of the translation's answers, relative to the largest; an error where it is of no use."""
    images = natural_noise(shape[0], shape[1], max(shape[2:]), torch.Generator().manual_seed(0))
    images = 4 * (images[..., : shape[2], : shape[3]] - 0.5)
    with torch.no_grad():
        wanted, given = as_tensor(asked(images)), as_tensor(onnx_graphs.OnnxGraph(content)(images))
    if given.shape != wanted.shape or not wanted.is_floating_point():
        raise ValueError(f"it gives {tuple(given.shape)}, onnxruntime {tuple(wanted.shape)} of {wanted.dtype}")
    difference = float((given - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    if difference > onnx_graphs.AGREEMENT:
        raise ValueError(f"answers differ by {difference:.1e}")
    return difference


def _unpickled(found: Found) -> Given:
    """A whole module in a pickle, which the user trusts: kept as an exported graph, so that it is unpickled once."""
    try:
        network = torch.load(found.path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever unpickling runs
        raise InputError(
            f"{found.path}: cannot be unpickled ({type(error).__name__}: {error})",
            "a module whose code is installed here",
            "install the package that defines it, or save its weights alone",
        ) from error
    if not isinstance(network, nn.Module):
        read_weights(found.path)  # says what is wrong with them
        raise InputError(
            f"{found.path}: weights without their network",
            "a whole module, or which network they belong to",
            "give like (--like), as --like timm:resnet18 or --like python:module:function",
        )
    return Given("pickle", {}, network.eval(), found.path.stem)


def exported_from(given: Given, shape: tuple[int, int, int]) -> Given:
    """A module that is only in memory, as the file that `torch.export` writes of it.

    Args:
        given: the model.
        shape: channels, height and width of its images.

    Raises:
        InputError: it cannot be exported.
    """
    batch = torch.export.Dim("batch", min=1)
    frozen = given.network.requires_grad_(False)
    try:
        program = torch.export.export(frozen, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
        torch.export.save(program, file := BytesIO())
    except Exception as error:  # whatever the exporter makes of it
        raise InputError(
            f"a pickled module that torch.export cannot write ({type(error).__name__})",
            "a module whose forward takes images alone",
            "save its weights, and add it by import path: python:module:function",
        ) from error
    return _exported(file.getvalue(), given.name, trust=True)
