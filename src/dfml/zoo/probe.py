"""What a model can be asked, found by asking it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.functional.noise import natural_noise
from dfml.functional.priors import capture_statistics
from dfml.nn import InputSpec
from dfml.nn.foreign import as_tensor
from dfml.zoo.card import AnswerKind, Capability

IMAGES = 6  # that a model is asked about
SAME = 1e-3  # difference of answers, relative to the largest, that rounding explains


@dataclass(frozen=True)
class Probed:
    """What was found.

    Args:
        classes: that it tells apart.
        answers: what its outputs are.
        capabilities: what it can be asked.
        structure: `dfml.zoo.card.ModelCard.structure`.
        findings: plain sentences for people.
    """

    classes: int
    answers: AnswerKind
    capabilities: Capability
    structure: dict[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()


def probe(
    network: nn.Module, spec: InputSpec, *, batch: int | None = None, classes: int | None = None, opaque: bool = False
) -> Probed:
    """Run a model on a few images of natural noise.

    Args:
        network: takes normalised images; in eval mode.
        spec: its images.
        batch: images at once, where it takes no other number.
        classes: that it is known to have; else what its answers say.
        opaque: no gradient can flow through it, as through another runtime.

    Raises:
        InputError: it cannot be run on such images; answers that are none of [n, classes], not finite, or another time
            others.
    """
    noise = natural_noise(batch or IMAGES, spec.channels, max(spec.shape[1:]), torch.Generator().manual_seed(0))
    images = spec.normalise(spec.fit(noise))
    output, batch = _run(network, images, batch)
    kind, classes = _kind(output, classes)
    findings = []
    if not bool(output.isfinite().all()):
        raise _refused("answers that are NaN or infinite", "numbers", "see whether the weights belong to this network")
    if not _same(output, _answers(network, images, batch)):
        raise _refused(
            "answers that differ from run to run",
            "the same answer to the same image",
            "switch off what is random in it",
        )
    if batch is None and not _same(output[:1], _answers(network, images[:1], None)):
        batch = 1
        findings.append("An answer depends on the images beside it: it is asked about one image at a time.")
    if len(output) > 1 and _same(output[:1].expand_as(output), output):
        findings.append("It gives the same answer to different images; `dfml zoo audit` looks closer.")
    able = Capability.LABELS
    if kind != "labels":
        able |= Capability.PROBABILITIES | Capability.LOGITS
    flows = not opaque and kind != "labels" and _gradient_flows(network, images[: batch or 2])
    layers = _statistics(network, images[: batch or 2]) if flows else 0
    able |= Capability.GRADIENTS if flows else Capability(0)
    able |= Capability.BN_STATISTICS if layers else Capability(0)
    head, size = None, classes
    if kind == "logits" and flows:
        head, size = find_head(network, images[: batch or IMAGES], output[: batch or IMAGES])
    able |= Capability.FEATURES if head is not None else Capability(0)
    structure: dict[str, Any] = {"head": head, "feature_size": size} | ({"batch": batch} if batch else {})
    return Probed(classes, kind, able, structure, (*_sentences(able, kind, layers, structure), *findings))


def _refused(given: str, wanted: str, do: str) -> InputError:
    return InputError(f"a model with {given}", wanted, do)


def _answers(network: nn.Module, images: Tensor, batch: int | None) -> Tensor:
    with torch.no_grad():
        output = torch.cat([as_tensor(network(part)) for part in images.split(batch or len(images))])
    return output.flatten(1) if output.ndim > 2 else output


def _run(network: nn.Module, images: Tensor, batch: int | None) -> tuple[Tensor, int | None]:
    """The answers, and how many images it takes at once where not any number."""
    problems = []
    for at_once in dict.fromkeys((batch, 1)):
        try:
            output = _answers(network, images, at_once)
        except InputError:
            raise
        except Exception as error:  # whatever a stranger's network raises
            problems.append(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
            continue
        if len(output) == len(images):
            return output, at_once
        problems.append(f"answers of shape {list(output.shape)} to {len(images)} images")
    raise _refused(
        f"images of {tuple(images.shape[1:])}: {problems[0]}",
        "a network that answers such images with [n, classes]",
        "correct channels and size (--channels, --size, --width)",
    )


def _kind(output: Tensor, classes: int | None) -> tuple[AnswerKind, int]:
    """What the answers are, and of how many classes."""
    if output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1):
        if output.is_floating_point():
            raise _refused(f"answers of shape {list(output.shape)}", "[n, classes] with at least two classes", _WRAP)
        if classes is None:
            raise _refused("labels for answers", "a list of classes", "give class_names (--classes)")
        return "labels", classes
    if output.ndim != 2 or not output.is_floating_point():
        raise _refused(f"answers of shape {list(output.shape)} and type {output.dtype}", "floats [n, classes]", _WRAP)
    if classes is not None and output.shape[1] != classes:
        raise _refused(
            f"{output.shape[1]} classes in its answers",
            f"the {classes} classes that were named",
            "name as many classes as it has, in the order of its outputs (--classes)",
        )
    sums = output.float().sum(1)
    certain = bool((output >= 0).all()) and bool(((sums - 1).abs() < SAME).all())
    return ("probabilities" if certain else "logits"), output.shape[1]


_WRAP = "wrap it in a function that gives its logits, and name that function"


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether answers agree up to rounding; NaN agrees with NaN, so that it is told of as such."""
    if one.shape != other.shape:
        return False
    scale = float(one.abs().max()) or 1.0
    return bool(torch.allclose(one, other, rtol=0, atol=SAME * scale, equal_nan=True))


def _gradient_flows(network: nn.Module, images: Tensor) -> bool:
    images = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            answers = as_tensor(network(images))
            (gradient,) = torch.autograd.grad(answers.float().square().sum(), [images])
    except Exception:  # whatever a stranger's network raises where it cannot be differentiated
        return False
    return bool(gradient.isfinite().all()) and bool((gradient != 0).any())


def _statistics(network: nn.Module, images: Tensor) -> int:
    """How many BatchNorm layers see images."""
    with torch.no_grad(), capture_statistics(network) as captured:
        network(images)
    return len(captured)


def find_head(
    network: nn.Module, images: Float[Tensor, "n c h w"], output: Float[Tensor, "n classes"]
) -> tuple[str | None, int]:
    """The name of the linear layer whose value is the answer, and how many features it takes; else None and classes."""
    found: dict[str, int] = {}

    def looks(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> None:
            if inputs[0].ndim == 2 and value.shape == output.shape and _same(value, output):
                found[name] = inputs[0].shape[1]

        return hook

    linear = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear) and name]
    handles = [layer.register_forward_hook(looks(name)) for name, layer in linear]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    for name, size in reversed(found.items()):
        if _is_last(network, name, images, output):
            return name, size
    return None, output.shape[1]


def _is_last(network: nn.Module, name: str, images: Tensor, output: Tensor) -> bool:
    """Whether the network without that layer gives what the layer takes, and nothing else happens after it."""
    owner, _, last = name.rpartition(".")
    parent, layer = network.get_submodule(owner), network.get_submodule(name)
    setattr(parent, last, nn.Identity())
    try:
        with torch.no_grad():
            features = as_tensor(network(images))
            return features.ndim == 2 and _same(layer(features), output)
    except Exception:  # a network that looks into its head
        return False
    finally:
        setattr(parent, last, layer)


def _sentences(able: Capability, kind: AnswerKind, layers: int, structure: dict[str, Any]) -> list[str]:
    """What follows from what a model can give."""
    said = [] if kind == "logits" else [f"It answers with {kind}."]
    if Capability.GRADIENTS not in able:
        said.append("A black box: images cannot be recovered from it, it can only answer on others'.")
    elif layers:
        said.append(f"{layers} BatchNorm layers: recovery aligns their statistics.")
    else:
        said.append("No BatchNorm: recovery without layer statistics; expect less.")
    if Capability.FEATURES in able:
        said.append(f"{structure['feature_size']} features before the head {structure['head']!r}.")
    else:
        said.append("No head was found: its answers stand for its features.")
    if structure.get("batch"):
        said.append(f"It takes {structure['batch']} images at once, so that answers are slower.")
    return said
