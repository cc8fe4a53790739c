"""Does more help on top of consolidation: replayed episodes, or alignment over teachers?

    python reproduce/consolidation/on_top.py RUN --zoo ZOO --data DATA [--updates 300]

RUN is a finished run of `consolidate`. Its student goes on learning the answers of its bank for some updates of a small
step size, alone (``answers``) or together with episodes of recovered, labelled images (``protonet``, ``anil``,
``maml``), or with sequential steps over four teachers, each on its own images (``alignment``). Validation classes,
5-way 1-shot / 5-shot accuracy in percent, 10,000 episodes, ridge regression; lines go to ``on_top.jsonl``.
"""

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from dfml.compute.memory import keep_freed_memory
from dfml.data import load_data
from dfml.evaluation.kernels import embed_all
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import kl_divergence
from dfml.functional.inner import Parameters, sequential_displacement
from dfml.learners import LEARNERS
from dfml.methods.consolidate import Consolidate, ConsolidateState, student_logits
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.runs.run import Run
from dfml.training.bank import Bank
from dfml.zoo import Zoo
from run import Bench

VARIANTS = ("answers", "protonet", "anil", "maml", "alignment")
LR, FAST_LR, TEACHERS, PER_CLASS = 3e-4, 0.03, 4, 20


def recovered(method: Consolidate, state: ConsolidateState, zoo: Zoo) -> tuple[Bank, dict[str, Tensor]]:
    """Images of every teacher, by class for episodes and by teacher for alignment."""
    bank, own = Bank(classes=len(zoo.class_ids), capacity=400, shape=tuple(state.bank.images.shape[1:])), {}
    for number, name in enumerate(state.answering.outputs_of):
        shown = method.recovery.show(state.recovery, [zoo.teacher(name)], PER_CLASS, Rng(0).at("on top", name))[0]
        bank.add(shown.images, zoo.rows(name)[shown.labels], number)
        own[name] = shown.images
    return bank, own


def aligned(state: ConsolidateState, student: Encoder, zoo: Zoo, own: dict[str, Tensor], rng: Rng) -> list[Tensor]:
    """The direction of sequential steps over some teachers, each on images of its own."""
    names = list(state.answering.outputs_of)
    chosen = torch.randperm(len(names), generator=rng.generator("teachers"))[:TEACHERS].tolist()

    def loss(name: str, parameters: Parameters) -> Tensor:
        images = shift_and_flip(own[name], rng.generator("augment", name))
        logits = functional_call(_Logits(student), parameters, (images,))
        return kl_divergence(zoo.teacher(name).answers(images), logits[:, state.answering.outputs_of[name]])

    parameters = dict(_Logits(student).named_parameters())
    direction, _ = sequential_displacement([partial(loss, names[i]) for i in chosen], parameters, lr=FAST_LR)
    return [direction[k] / TEACHERS for k in parameters]


class _Logits(torch.nn.Module):
    """The logits of a student's heads, as a module for `functional_call`."""

    def __init__(self, student: Encoder):
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        return student_logits(self.student, images)


def go_on(kind: str, run: Run, bank: Bank, own: dict[str, Tensor], updates: int) -> Encoder:
    """The student after some more updates."""
    method, state, zoo = run.method, run.state, run.zoo
    student = copy.deepcopy(state.average).train()
    learner = LEARNERS[kind](student) if kind in LEARNERS else None
    optimiser = torch.optim.Adam((learner or student).parameters(), lr=LR)
    for update in range(updates):
        rng = Rng(0).at("update", update)
        optimiser.zero_grad()
        images, wanted = state.bank.sample(method.batch_size, rng.generator("batch"))
        method.loss(student.train(), images, wanted).backward()
        if learner is not None:
            episode = bank.episode(way=5, shot=1, queries=15, generator=rng.generator("episode"))
            learner.meta_loss(episode)[0].backward()
        if kind == "alignment":
            for p, d in zip(student.parameters(), aligned(state, student, zoo, own, rng), strict=True):
                p.grad = d if p.grad is None else p.grad + d
        optimiser.step()
    return student.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--updates", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    zoo = Zoo.open(args.zoo)
    bench, run = Bench(zoo, load_data(args.data)), Run.open(args.run, zoo=zoo)
    bank, own = recovered(run.method, run.state, zoo)
    rows: list[dict[str, Any]] = []
    students: dict[str, Callable[[], Encoder]] = {"before": lambda: run.state.average}
    students |= {kind: partial(go_on, kind, run, bank, own, args.updates) for kind in VARIANTS}
    for kind, make in students.items():
        features = embed_all(make(), bench.data.val, normalise=False)
        rows.append({"on_top": kind, "updates": args.updates, "val": bench.scores(features)["ridge"]})
        print(json.dumps(rows[-1]), flush=True)
    Path(__file__).with_name("on_top.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
