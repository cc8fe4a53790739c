"""One and two threads: what is the same, what differs first, and what becomes of it.

python benchmarks/threads.py
"""

from unittest.mock import patch

import torch
from torch import Tensor

from dfml.nn.precision import bfloat16_is_fast, mixed_precision
from dfml.randomness import Rng
from dfml.recovery import Visit
from dfml.recovery.meta_generator import MetaGenerator
from dfml.runs.determinism import reproducible
from dfml.zoo import Zoo

PER_CLASS = 20


def looked_at(threads: int) -> dict[str, Tensor]:
    """From the seed to the first gradient of a visit, and what an adaptation makes of it."""
    zoo, recovery, rng = Zoo.open("glyphs"), MetaGenerator(), Rng(0)
    with reproducible(threads):
        state, teacher = recovery.init(zoo.canvas, rng), zoo.teacher(zoo.ids[0])
        labels = torch.arange(len(teacher.card.class_ids)).repeat_interleave(PER_CLASS)
        weights = list(state.generator.parameters())
        seeded = torch.cat([w.detach().flatten().clone() for w in weights])
        codes = recovery.codes(teacher, labels, rng)
        with mixed_precision():
            images = state.generator(codes)
            seen = teacher.forward(recovery.augment(images, rng.generator("shown")), statistics=True)
            loss = torch.stack(list(recovery.terms(images, seen, labels, None).values())).sum()
        gradient = torch.autograd.grad(loss, weights)
        shown = {}
        for steps in (1, 5):
            several = MetaGenerator(steps=steps)
            (told,) = several.recover(several.init(zoo.canvas, rng), [Visit(teacher, labels)], rng=rng)
            shown[f"images after {steps} steps of Adam"] = told.images
        return {
            "weights of the generator": seeded,
            "latent codes": codes,
            "its images": images.detach(),
            "a teacher's logits on them": seen.logits.detach(),
            "the loss": loss.detach(),
            "its gradient": torch.cat([g.flatten() for g in gradient]),
        } | shown


def main() -> None:
    for name, fast in (("float32", False), ("bfloat16", True))[: 1 + bfloat16_is_fast()]:
        print(f"{name}: difference of one and two threads, relative to the norm")
        with patch("dfml.nn.precision.bfloat16_is_fast", lambda fast=fast: fast):
            one, two = looked_at(1), looked_at(2)
        for what in one:
            apart = float((one[what] - two[what]).norm() / one[what].norm())
            print(f"  {what:32} {'the same bits' if torch.equal(one[what], two[what]) else f'{apart:.0e}'}")


if __name__ == "__main__":
    main()
