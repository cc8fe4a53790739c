"""Models of a kind of your own: a mean image of each class, in a file. docs/extend.md says how dfml finds them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from dfml.nn import InputSpec, as_floats
from dfml.zoo import Capability, Forward, ModelCard, write_index
from dfml.zoo.files import checked_state, write_packed
from dfml.zoo.loaders import Loader
from dfml.zoo.teacher import as_kind

CAN = Capability.LABELS | Capability.PROBABILITIES | Capability.LOGITS | Capability.GRADIENTS


@dataclass
class Means:
    """A teacher: the nearer an image is to the mean of a class, the larger that logit."""

    card: ModelCard
    means: torch.Tensor
    capabilities: Capability = CAN

    @property
    def device(self):
        return self.means.device

    def forward(self, images, *, statistics=False):
        fitted = self.card.input_spec.fit(as_floats(images, torch.float32))
        return Forward(-(fitted[:, None] - self.means).square().flatten(2).mean(-1) / 0.05)

    def features(self, images):
        raise NotImplementedError  # not among the capabilities, so never asked for

    def answers(self, images, kind="logits"):
        with torch.no_grad():
            return as_kind(torch.cat([self.forward(batch).logits for batch in images.split(64)]), kind)


def load(folder: Path, card: ModelCard, device: torch.device) -> Means:
    """From the file beside the card, whose content the card vouches for."""
    return Means(card, checked_state(folder / f"{card.id}.safetensors", card)["means"].to(device))


def write(folder: Path, name: str, classes: list[str], means: torch.Tensor) -> ModelCard:
    """Put a model into a zoo: its file, its card, and the index anew."""
    content, ids = save({"means": means}), tuple(f"{name}/{one}" for one in classes)
    spec = InputSpec(size=means.shape[-1])
    card = ModelCard(name, "means:pixels", tuple(classes), ids, spec, hashlib.sha256(content).hexdigest())
    write_packed(folder, card, content)
    write_index(folder, name=folder.name, shared_classes=False)
    return card


LOADER = Loader(lambda source: CAN, load, lambda folder: write(folder / "zoo", "m", ["a", "b"], torch.rand(2, 3, 8, 8)))
