"""Recovery from transformers, which have no BatchNorm: natural starts, LayerNorm statistics, dropped patches.

    python reproduce/transformers/recover.py --zoo ZOOS/architectures --out reproduce/transformers/results.jsonl

Images are recovered from the small ViTs of the zoo (../mixed_zoos) and shown to its other networks that know the class.

- *statistics*: channel means and deviations at every LayerNorm's input, as on drawn images (`dead_leaves`), take the
  place of those that a BatchNorm would know.
- *dropped*: in the spirit of Hu et al., ICML 2024 ("Sparse Model Inversion"), patches that matter least are left out of
  the passes: three times in the first half of the steps some go, until this share is gone. They stay as they are.
  Theirs go by attention, ours by the gradient of the loss. Images are not shifted then (``shift`` 0).
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from dfml.functional.drawing import dead_leaves
from dfml.functional.noise import natural_noise
from dfml.functional.priors import total_variation
from dfml.zoo import Zoo

ARMS = [
    {"start": "white"},
    {"start": "natural"},
    {"start": "natural", "statistics": 1.0},
    {"start": "natural", "statistics": 10.0},
    {"start": "natural", "shift": 0},
    {"start": "natural", "shift": 0, "dropped": 0.5},
    {"start": "natural", "shift": 0, "dropped": 0.75},
]
EACH, LR, TV = 8, 0.05, 10.0


class Kept(nn.Module):
    """In the place of timm's `patch_drop`: keeps the class token and some patches of every image."""

    patches: torch.Tensor | None = None

    def forward(self, x):
        if self.patches is None:
            return x
        places = self.patches[..., None].expand(-1, -1, x.shape[-1])
        return torch.cat([x[:, :1], x[:, 1:].gather(1, places)], 1)


class Inputs:
    """Channel means and deviations of the inputs of all LayerNorms during a pass."""

    def __init__(self, network: nn.Module):
        self.seen: list[torch.Tensor] = []
        for layer in network.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.register_forward_pre_hook(lambda _, given: self.seen.append(self._of(given[0])))

    def _of(self, x):
        x = x.flatten(0, -2)
        return torch.stack([x.mean(0), x.std(0)])

    def take(self):
        seen, self.seen = self.seen, []
        return seen


def recover(teacher, labels, steps, generator, *, start, shift=1, statistics=0.0, dropped=0.0):
    """Adam on pixels; the images and the seconds that it took."""
    network = next(m for m in teacher.teacher.network.modules() if hasattr(m, "patch_drop"))
    network.patch_drop, inputs = Kept(), Inputs(network)
    spec, n = teacher.card.input_spec, len(labels)
    if statistics:
        with torch.no_grad():
            teacher.forward(dead_leaves(256, 3, spec.size, generator))
        wanted = inputs.take()
    images = natural_noise(n, 3, spec.size, generator) if start == "natural" else None
    if images is None:
        images = (0.5 + 0.25 * torch.randn(n, 3, spec.size, spec.size, generator=generator)).clamp(0, 1)
    pixels = images.requires_grad_()
    adam, patch = torch.optim.Adam([pixels], lr=LR), spec.size // int((network.patch_embed.num_patches) ** 0.5)
    kept = torch.arange(network.patch_embed.num_patches).repeat(n, 1)
    weights = torch.zeros(n, kept.shape[1])
    began = time.process_time()
    for step in range(steps):
        inputs.take()
        moved = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
        loss = F.cross_entropy(teacher.forward(pixels.roll(moved, (2, 3))).logits, labels) + TV * total_variation(
            pixels
        )
        if statistics:
            seen = inputs.take()
            parts = [((s - w) ** 2).mean() / (w**2).mean() for s, w in zip(seen, wanted, strict=True)]
            loss = loss + statistics * torch.stack(parts).mean()
        (pixels.grad,) = torch.autograd.grad(loss, [pixels])
        if dropped:
            weights += F.avg_pool2d(pixels.grad.square().sum(1, keepdim=True), patch).flatten(1)
            if (third := {max(1, round(steps * k / 6)): k / 3 for k in (1, 2, 3)}.get(step + 1)) is not None:
                count = round((1 - dropped * third) * weights.shape[1])
                kept = kept.gather(1, weights.gather(1, kept).topk(count, -1).indices)
                network.patch_drop.patches = kept
                weights.zero_()
            frozen = torch.ones_like(weights).scatter(1, kept, 0.0).bool()
            side = int(frozen.shape[1] ** 0.5)
            mask = frozen.view(n, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
            pixels.grad.masked_fill_(mask, 0.0)
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    seconds = time.process_time() - began
    network.patch_drop.patches = None
    return pixels.detach(), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[66, 200])
    given = parser.parse_args()
    torch.set_num_threads(1)
    own = Zoo.open(given.zoo)
    transformers = [i for i in own.ids if i.startswith("vit")]
    others = [i for i in own.ids if i not in transformers]
    for steps in given.steps:
        for arm in ARMS:
            wanted, recognised, seconds = [], [], 0.0
            for number, name in enumerate(transformers):
                teacher = Zoo.open(given.zoo).teacher(name)  # anew: its layers get hooks
                labels = torch.arange(len(teacher.card.class_ids)).repeat_interleave(EACH)
                images, spent = recover(teacher, labels, steps, torch.Generator().manual_seed(number), **arm)
                seconds += spent
                wanted.append((teacher.answers(images, "labels") == labels).float().mean())
                for c, class_id in enumerate(teacher.card.class_ids):
                    shown = images[labels == c]
                    for other in others:
                        if class_id in (known := own.cards[other].class_ids):
                            right = own.teacher(other).answers(shown, "labels") == known.index(class_id)
                            recognised.append(right.float().mean())
            share = {"wanted": torch.stack(wanted).mean(), "recognised": torch.stack(recognised).mean()}
            row = {"schema": 1, "steps": steps} | arm | {k: round(100 * float(v), 1) for k, v in share.items()}
            row |= {"others": len(recognised), "ms_per_image": round(1000 * seconds / (EACH * 25), 1)}
            print(json.dumps(row), flush=True)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
