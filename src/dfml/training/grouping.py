"""Which teachers learn together: those that ask different things of one network, the probe."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from dfml.errors import InputError
from dfml.functional.clustering import spectral_groups
from dfml.functional.fisher import by_filter, diagonal_fisher, task_similarity
from dfml.functional.inner import Parameters
from dfml.learners.base import centroid_head, class_means
from dfml.nn import Encoder
from dfml.nn.encoder import tensors_of
from dfml.randomness import Rng
from dfml.training.bank import check_finite
from dfml.training.student import COPY, student_backbone
from dfml.zoo.store import Zoo

SCALE = 5.0  # of a task's head on features of length one: its answers neither all certain nor all alike


class Grouping:
    """Teachers in a space of tasks, and groups of those that lie far from each other.

    A teacher's place is the Fisher information of the probe on images that were recovered from it. No teacher's own
    gradients are used, so that any two can be compared. The probe's head for a teacher's task is made of the means of
    its classes. The newest ``limit`` teachers are kept: a few kilobytes each.

    Args:
        probe: one network for all, frozen here.
        limit: teachers that are compared.
    """

    def __init__(self, probe: Encoder, limit: int):
        self.probe, self.limit = probe.eval().requires_grad_(False), limit
        self.embeddings: dict[str, Float[Tensor, " numbers"]] = {}  # the one that waits longest for a visit comes first
        self.groups: dict[str, int] = {}

    @property
    def sizes(self) -> list[int]:
        """Numbers in an embedding that belong to each tensor of the probe."""
        return [len(p) for p in self.probe.parameters()]

    def embedding(self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Float[Tensor, " numbers"]:
        """The place of a task that these images are of, labelled in any way."""
        images = self.probe.spec.fit(images)
        wanted, places = labels.to(images.device).unique(return_inverse=True)
        with torch.no_grad():
            features = F.normalize(torch.cat([self.probe(some) for some in images.split(128)]), dim=-1)
            head = centroid_head(class_means(features, places, len(wanted)), SCALE)
        likelihood = partial(_log_likelihood, self.probe, head)
        fisher = diagonal_fisher(likelihood, dict(self.probe.named_parameters()), images, places)
        return torch.cat(by_filter(fisher))

    def place(self, name: str, embedding: Float[Tensor, " numbers"]) -> None:
        """Keep a teacher's place: half of it what this visit says, half what it was.

        Raises:
            NotFinite: it is no number; nothing is kept.
        """
        check_finite(embedding, "Fisher information of recovered images")
        embedding = embedding.cpu()
        before = self.embeddings.pop(name, embedding)
        self.embeddings[name] = (before + embedding) / 2
        while len(self.embeddings) > self.limit:
            oldest = next(iter(self.embeddings))
            del self.embeddings[oldest]
            self.groups.pop(oldest, None)

    def regroup(self, groups: int) -> None:
        """At most so many groups of teachers that are unlike each other."""
        names = sorted(self.embeddings)
        similarity = task_similarity(torch.stack([self.embeddings[name] for name in names]).double(), self.sizes)
        found = spectral_groups((1 - similarity).clamp(min=0), groups)
        self.groups = dict(zip(names, found.tolist(), strict=True))

    def fellows(self, among: Sequence[str], generator: torch.Generator) -> list[str]:
        """The group of a teacher drawn from those that have one; all, where none has."""
        grouped = [name for name in among if name in self.groups]
        if not grouped:
            return list(among)
        drawn = grouped[int(torch.randint(len(grouped), (), generator=generator))]
        return [name for name in grouped if self.groups[name] == self.groups[drawn]]

    def to(self, device: torch.device) -> None:
        """Move the probe; embeddings stay where they are."""
        self.probe.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Embeddings and groups; the probe follows from zoo and seed."""
        return {"embeddings": dict(self.embeddings), "groups": dict(self.groups)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.embeddings = {name: e.cpu().clone() for name, e in state["embeddings"].items()}
        self.groups = dict(state["groups"])


def _log_likelihood(
    probe: Encoder, head: tuple[Tensor, Tensor], parameters: Parameters, image: Tensor, label: Tensor
) -> Float[Tensor, ""]:
    features = F.normalize(functional_call(probe, parameters, (image[None],)), dim=-1)
    return -F.cross_entropy(F.linear(features, *head), label[None])


def probe_network(name: str | None, zoo: Zoo, rng: Rng) -> Encoder:
    """A network from inside the zoo, or a random one: no weights come from elsewhere.

    Args:
        name: see `dfml.training.student.student_backbone`. None copies the first teacher whose network is of dfml's own
            make and sound, and takes a random Conv4 where there is none.
        zoo: of the teachers.
        rng: decides the weights of a random one.

    Raises:
        InputError: an unknown name, or a network without parameters.
    """
    if name is None:
        own = (i for i in zoo.ids if zoo.entry(i).source.startswith("dfml:"))
        for teacher in own:
            network = copy.deepcopy(zoo.network(teacher).backbone).float()
            if all(bool(t.isfinite().all()) for t in tensors_of(network)):
                return Encoder(network, zoo.input_spec(teacher))
    with rng.seeded("probe"):
        probe = Encoder(*student_backbone(name or "conv4", zoo, zoo.canvas))
    if not any(True for _ in probe.parameters()):
        raise InputError(f"probe {name}", "a network with parameters", f"name another, {COPY}ID or conv4, say")
    return probe
