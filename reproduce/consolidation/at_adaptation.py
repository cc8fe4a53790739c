"""What else the features of a finished student could be used for: a head that sees all queries, more views of an image.

    python reproduce/consolidation/at_adaptation.py RUN DATA

Validation classes, 5-way, 1,000 episodes; percent right at 1 and 5 shots.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dfml.data import load_data
from dfml.data.image_set import ImageSet
from dfml.evaluation.manifest import Manifest, make_manifest
from dfml.functional.heads import ridge_coefficients, self_trained_ridge
from dfml.learners.learner_file import load_learner
from dfml.nn import inference_copy

Head = Callable[[Tensor, Tensor], Tensor]  # kernel of support and queries, labels of the support -> answers
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "mirrored": lambda x: x.flip(-1),
    "moved": lambda x: F.pad(x, (2, 0, 2, 0), mode="replicate")[..., :-2, :-2],
    "middle": lambda x: F.interpolate(x[..., 2:-2, 2:-2], size=x.shape[-1], mode="bilinear", align_corners=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    args = parser.parse_args()
    network, images = inference_copy(load_learner(args.run).networks[0]), load_data(args.data).val
    manifests = [make_manifest(images, shot=shot, episodes=1000, seed=11, split="val") for shot in (1, 5)]
    seen = {view: torch.cat(list(features(network, images, view))) for view in VIEWS}
    heads: dict[str, Head] = {
        "ridge": ridge,
        "self-trained, scale 7, 8 rounds": partial(self_trained_ridge, scale=7.0, rounds=8),
        "self-trained, scale 5, 15 rounds": partial(self_trained_ridge, scale=5.0, rounds=15),
        "self-trained, classes balanced": balanced,
        "labels spread over a graph": spread,
    }
    for name, head in heads.items():
        show(name, seen["as it is"], head, manifests)
    for views in (["mirrored"], ["mirrored", "moved"], ["middle"]):
        joined = F.normalize(sum((seen[view] for view in views), seen["as it is"]), dim=-1)
        for name, head in list(heads.items())[:3:2]:
            show(f"{name}, with {' and '.join(views)}", joined, head, manifests)


@torch.inference_mode()
def features(network: torch.nn.Module, images: ImageSet, view: str) -> Iterator[Tensor]:
    for batch in torch.arange(len(images)).split(64):
        shown = VIEWS[view](network.spec.fit(images.batch(batch)))
        yield F.normalize(network(shown).float(), dim=-1)


def show(name: str, seen: Tensor, head: Head, manifests: list[Manifest]) -> None:
    right = []
    for manifest in manifests:
        episodes = (seen[i] for i in torch.cat([manifest.support, manifest.query], 1))
        answers = torch.stack([head(f @ f.T, manifest.support_y) for f in episodes])
        right.append(100 * float((answers.argmax(-1) == manifest.query_y).float().mean()))
    print(f"{name:60} {right[0]:.1f} / {right[1]:.1f}", flush=True)


def ridge(kernel: Tensor, labels: Tensor) -> Tensor:
    n = len(labels)
    return kernel[n:, :n] @ ridge_coefficients(kernel[:n, :n], labels)[0]


def centred(kernel: Tensor) -> Tensor:
    kernel = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    length = kernel.diagonal().clamp(min=1e-12).sqrt()
    return kernel / length / length[:, None]


def balanced(kernel: Tensor, labels: Tensor) -> Tensor:
    """As `self_trained_ridge`, guesses brought to equally many queries a class (Sinkhorn)."""
    kernel, n, known = centred(kernel), len(labels), F.one_hot(labels).float()
    refit = kernel[n:] @ torch.linalg.inv(kernel + torch.eye(len(kernel)))
    answers = ridge(kernel, labels)
    for _ in range(15):
        guessed = (5.0 * answers).softmax(-1)
        for _ in range(10):
            guessed = guessed / guessed.sum(0) * len(guessed) / guessed.shape[1]
            guessed = guessed / guessed.sum(1, keepdim=True)
        answers = refit @ torch.cat([known, guessed])
    return answers


def spread(kernel: Tensor, labels: Tensor, neighbours: int = 10, alpha: float = 0.8) -> Tensor:
    """Zhou et al., NIPS 2003, "Learning with Local and Global Consistency"."""
    near = (centred(kernel) / 0.2).exp() * (1 - torch.eye(len(kernel)))
    near = near * (near >= near.topk(neighbours, -1).values[:, -1:])
    near = (near + near.T) / 2
    root = near.sum(1).clamp(min=1e-9).rsqrt()
    known = F.pad(F.one_hot(labels).float(), (0, 0, 0, len(kernel) - len(labels)))
    return torch.linalg.solve(torch.eye(len(kernel)) - alpha * root[:, None] * near * root, known)[len(labels) :]


if __name__ == "__main__":
    main()
