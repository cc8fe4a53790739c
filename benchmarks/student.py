"""What recovered images are worth: a fixed student learns from them, and is judged on classes that no teacher knows.

The student of protocol and tables: every step six random teachers answer on all images of the batch, true KL, Adam with
one cycle of the learning rate, shifts and flips; nearest centroids on its frozen features.
"""

import time
from typing import Any

import torch
from torch import nn

from dfml.data import ImageSet
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.evaluation.score import Score
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import kl_divergence
from dfml.learners import FrozenLearner
from dfml.nn import Encoder, build_backbone
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Visit
from dfml.training.bank import Bank
from dfml.zoo import Zoo

TEACHERS, PER_VISIT, PER_CLASS = 20, 4, 20
STUDENT_STEPS, BATCH, ANSWERING = 300, 128, 6
EPISODES = 10_000
LABELS = torch.arange(5).repeat(PER_CLASS)


def recover_for(
    seconds: float, recovery: AbstractRecovery, zoo: Zoo, seed: int = 0, *, state: Any = None
) -> tuple[Bank, int, float]:
    """Visit random teachers, four at a time, for as long as the next visits are likely to end in time; at least once.

    ``state`` of the recovery learns on from where it is; None starts one.

    Returns:
        A bank of everything that was shown, the visits, and the seconds that they took.
    """
    start = time.perf_counter()
    state = state or recovery.init(zoo.canvas, Rng(seed))
    rows = {c: i for i, c in enumerate(zoo.class_ids)}
    bank = Bank(classes=len(rows), capacity=4000, shape=zoo.canvas.shape)
    visits, last = 0, 0.0
    while not visits or time.perf_counter() - start + last < seconds:
        begun = time.perf_counter()
        rng = Rng(seed).at("visit", visits)
        chosen = torch.randperm(TEACHERS, generator=rng.generator("choose"))[:PER_VISIT].tolist()
        wanted = [Visit(zoo.teacher(zoo.ids[i]), LABELS) for i in chosen]
        for i, shown in zip(chosen, recovery.recover(state, wanted, rng=rng), strict=True):
            classes = torch.tensor([rows[c] for c in zoo.cards[zoo.ids[i]].class_ids])
            bank.add(shown.images, classes[shown.labels], i)
        visits += PER_VISIT
        last = time.perf_counter() - begun
    return bank, visits, time.perf_counter() - start


def distil(zoo: Zoo, bank: Bank, seed: int = 0) -> Encoder:
    """The student."""
    torch.manual_seed(seed)
    spec, teachers = zoo.canvas, [zoo.teacher(i) for i in zoo.ids[:TEACHERS]]
    encoder = Encoder(build_backbone("conv4", image_size=spec.size), spec)
    heads = nn.Linear(encoder.feature_size, 5 * TEACHERS)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=5e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=STUDENT_STEPS)
    classes = torch.repeat_interleave(torch.arange(len(bank.counts)), bank.counts)
    slots = torch.cat([torch.arange(int(n)) for n in bank.counts])
    for step in range(STUDENT_STEPS):
        g = Rng(seed).generator("student", step)
        pick = torch.randint(len(slots), (BATCH,), generator=g)
        images = shift_and_flip(bank.read(classes[pick], slots[pick]), g)
        answering = torch.randperm(TEACHERS, generator=g)[:ANSWERING].tolist()
        with torch.no_grad():
            targets = [teachers[t].forward(images).logits for t in answering]
        answers = heads(encoder(images)).view(BATCH, TEACHERS, 5)
        loss = torch.stack([kl_divergence(y, answers[:, t]) for t, y in zip(answering, targets, strict=True)]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return encoder.eval()


def judge(encoder: Encoder, images: ImageSet) -> dict[int, Score]:
    """Accuracy on validation classes, by shot."""
    learner = FrozenLearner([encoder])
    manifests = {s: make_manifest(images, way=5, shot=s, episodes=EPISODES, split="val") for s in (1, 5)}
    return {shot: evaluate(learner, images, manifest, norm="running") for shot, manifest in manifests.items()}
