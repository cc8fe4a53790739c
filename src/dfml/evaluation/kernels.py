"""All episodes of a manifest at once, for heads on frozen features.

Inner products of joined features are sums over networks, so an ensemble of any size needs the memory of one.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dfml.compute.memory import in_parts
from dfml.data.image_set import ImageSet
from dfml.evaluation.manifest import Manifest
from dfml.nn import Encoder, inference_copy

EMBED_BATCH = 64  # images at once: activations of 32x32 images then stay in the cache, twice as fast as 256
CHUNK_BYTES = 4 << 20  # gathered features at once; they stay in the cache too
Coefficients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A head of `dfml.functional.heads`."""


@torch.inference_mode()
def embed_all(encoder: Encoder, image_set: ImageSet, *, normalise: bool) -> Float[Tensor, "images features"]:
    """Features of all images with running statistics, on the CPU; L2-normalised if asked for."""
    device = encoder.mean.device
    cpu = device.type == "cpu"
    network = inference_copy(encoder) if cpu else copy.deepcopy(encoder).eval()

    def look(indices: Tensor) -> Tensor:
        return network(encoder.spec.fit(image_set.batch(indices).to(device))).float().cpu()

    features = torch.cat(in_parts(look, torch.arange(len(image_set)), EMBED_BATCH if cpu else 1024))
    return F.normalize(features, dim=-1) if normalise else features


@dataclass
class EpisodeKernels:
    """Inner products of frozen features within every episode of a manifest, summed over networks.

    Args:
        manifest: the episodes.
        support: of the support images with each other.
        cross: of the queries with the support images.
    """

    manifest: Manifest
    support: Float[Tensor, "episodes n n"]
    cross: Float[Tensor, "episodes queries n"]

    @staticmethod
    def zeros(manifest: Manifest) -> "EpisodeKernels":
        """Before the first network."""
        (episodes, n), queries = manifest.support.shape, manifest.query.shape[1]
        return EpisodeKernels(manifest, torch.zeros(episodes, n, n), torch.zeros(episodes, queries, n))

    @torch.inference_mode()
    def add(self, features: Float[Tensor, "images d"]) -> None:
        """Features of all images by one more network."""
        size, shown = features.shape[1], self.manifest.support.shape[1] + self.manifest.query.shape[1]
        for episodes in torch.arange(len(self.manifest)).split(max(1, CHUNK_BYTES // (4 * size * shown))):
            known, asked = (
                features.index_select(0, images[episodes].flatten()).view(len(episodes), -1, size)
                for images in (self.manifest.support, self.manifest.query)
            )
            self.support[episodes] += known @ known.mT
            self.cross[episodes] += asked @ known.mT

    def merge(self, other: "EpisodeKernels") -> None:
        """Features of more networks, over the same episodes."""
        self.support += other.support
        self.cross += other.cross

    @torch.inference_mode()
    def accuracies(self, coefficients: Coefficients) -> Float[Tensor, " episodes"]:
        """Each episode's accuracy, in percent, of a head from `dfml.functional.heads`."""
        weights, bias = coefficients(self.support, self.manifest.support_y)
        logits = self.cross @ weights + bias[:, None]
        return 100 * (logits.argmax(-1) == self.manifest.query_y).float().mean(-1)


def joined_kernels(
    encoders: Iterable[Encoder],
    image_set: ImageSet,
    manifests: Sequence[Manifest],
    *,
    normalise: bool,
    on_encoder: Callable[[], None] = lambda: None,
) -> list[EpisodeKernels]:
    """For each manifest the kernels of all encoders' joined features; every encoder embeds the images once."""
    kernels = [EpisodeKernels.zeros(m) for m in manifests]
    for encoder in encoders:
        features = embed_all(encoder, image_set, normalise=normalise)
        for kernel in kernels:
            kernel.add(features)
        on_encoder()
    return kernels
