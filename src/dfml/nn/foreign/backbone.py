"""A network of another library, up to its head."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.consent import require_consent
from dfml.errors import InputError
from dfml.nn.description import Description
from dfml.nn.foreign.files import Archived, without_head
from dfml.nn.foreign.sources import source_of

Answers = Literal["logits", "probabilities", "labels"]
FLOOR = 1e-7  # of a probability, before its logarithm is taken
LABEL_LOGIT = 4.0  # of the class that a network names, where it gives labels alone


class ForeignBackbone(nn.Module):
    """Maps normalised images to flat features: what stands before the head, or the answers where there is no head.

    Args:
        network: of the other library, its head replaced by `nn.Identity` where it has been found.
        description: see `build_foreign`.
    """

    def __init__(self, network: nn.Module, description: Description):
        super().__init__()
        self.network, self.description = network, description
        self.feature_size: int = description["feature_size"]
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        self._mixed = bool(convolutions) and all(m.groups == 1 for m in convolutions)

    @property
    def answers_itself(self) -> bool:
        """Whether no head was found, so that its features are its answers."""
        return self.description["head"] is None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Features, or logits. A CPU computes grouped convolutions ten times slower in bfloat16, so these never are."""
        with torch.autocast(x.device.type, enabled=self._mixed and torch.is_autocast_enabled(x.device.type)):
            output = as_tensor(self._parts(self.network, x if self._mixed else x.float()))
        output = output.flatten(1) if output.ndim > 2 else output
        return as_logits(output, self.description["answers"], self.feature_size) if self.answers_itself else output

    def quick_logits(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"] | None:
        """The answers by a faster runtime, where the network has one."""
        running = self.network.running if isinstance(self.network, Archived) else None
        if running is None:
            return None
        classes: int = self.description["classes"]
        return as_logits(as_tensor(self._parts(running, x)).flatten(1), self.description["answers"], classes)

    def _parts(self, network: nn.Module, x: Tensor) -> Any:
        """In parts, of a network that takes so many images and no other number."""
        batch = self.description.get("batch")
        return torch.cat([self._padded(network, part, batch) for part in x.split(batch)]) if batch else network(x)

    def _padded(self, network: nn.Module, x: Tensor, batch: int) -> Tensor:
        missing = batch - len(x)
        return as_tensor(network(F.pad(x, (0, 0) * 3 + (0, missing)) if missing else x))[: len(x)]


def as_tensor(output: Any) -> Tensor:
    """The answers in what a network gives: a tensor, a list whose first is one, or a thing with ``logits``."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, list | tuple) and output and isinstance(output[0], Tensor):
        return output[0]
    raise InputError(
        f"a model that gives {type(output).__name__}",
        "a tensor [n, classes], alone, as the first of a list, or as .logits",
        "wrap it in a function that returns its logits, and name that function",
    )


def as_logits(output: Tensor, answers: Answers, classes: int) -> Float[Tensor, "n classes"]:
    """Logits, or what stands for them: logarithms of probabilities; a fixed lead of the class that a label names."""
    if answers == "logits":
        return output
    if answers == "probabilities":
        return output.clamp(min=FLOOR).log()
    return LABEL_LOGIT * F.one_hot(output.reshape(-1).long(), classes).float()


def build_foreign(values: Description) -> ForeignBackbone:
    """From its description, with random weights.

    Args:
        values: ``source`` and ``options`` as on the card; ``classes``; ``head``, the name of its last layer, or None;
            ``feature_size``; ``answers``; ``batch``, images at once where it takes no other number.

    Raises:
        InputError: an unknown name; a library that is not installed; code that the user has not agreed to.
    """
    source, name = source_of(values["source"])
    require_consent(values, source.runs(name, values["options"]))
    network = source.build(name, values["options"], values["classes"])
    return ForeignBackbone(_headless(network, values["head"])[0], {"kind": "foreign"} | dict(values))


def foreign_features(source: str, shape: tuple[int, int, int]) -> ForeignBackbone:
    """A network of timm without a head, with random weights, for images of this shape.

    Raises:
        InputError: an unknown name, or images that it cannot take.
    """
    channels, height, _ = shape
    problem: InputError | None = None
    for arguments in ({"in_chans": channels, "img_size": height}, {"in_chans": channels}):  # of a fixed size, or of any
        values = {
            "source": source,
            "options": {"arguments": arguments},
            "classes": 0,
            "head": None,
            "answers": "logits",
        }
        try:
            backbone = build_foreign(values | {"head": None, "answers": "logits", "feature_size": 0})
            with torch.no_grad():
                backbone.feature_size = backbone.eval()(torch.zeros(1, *shape)).shape[1]
        except InputError as error:
            problem = error
            continue
        except (RuntimeError, AssertionError) as error:
            problem = InputError(
                f"{source} on images of {shape} ({error})", "a network that takes them", "set another network or canvas"
            )
            continue
        backbone.description["feature_size"] = backbone.feature_size
        return backbone
    raise problem or InputError(source, "a network", "set another")


def take_apart(network: nn.Module, values: Description) -> tuple[ForeignBackbone, nn.Module]:
    """Backbone and head of a network with its weights; the description is that of `build_foreign`."""
    network, head = _headless(network, values["head"])
    return ForeignBackbone(network, {"kind": "foreign"} | dict(values)), head


def _headless(network: nn.Module, head: str | None) -> tuple[nn.Module, nn.Module]:
    if head is None:
        return network, nn.Identity()
    if isinstance(network, Archived):
        return network, network.without(head.removeprefix("network."))
    return network, without_head(network, head)
