"""What is timed: recovery, replay and test episodes, consolidation, zoo building. No data is needed."""

import copy
import io
import itertools
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.func import functional_call

from dfml.episode import Episode
from dfml.learners.maml import MAML
from dfml.methods.consolidate import Consolidate
from dfml.nn import Classifier, Encoder, build_backbone
from dfml.randomness import Rng
from dfml.recipes.options import load_recipe
from dfml.recovery import AbstractRecovery, DeepInversion, MetaGenerator, PublishedMetaGenerator, Visit
from dfml.training.bank import AnswerBank, Bank
from dfml.zoo import Zoo
from dfml.zoo_building.plan import TRAINING, TrainingRecipe
from dfml.zoo_building.train_one import train_classifier
from timing import Comparison, Side, as_published, memory_as_usual

VISITED, PER_CLASS = 4, 20
CLASSES, EPISODES = 20, 4  # of a bank; timed at once
TIMED_STEPS, LONG = 10, 200  # a long opponent is timed on so many of its steps
PUBLISHED_TRAINING = TrainingRecipe(epochs=60, batch_size=128, lr=0.01, shift=0)
LABELS = torch.arange(5).repeat(PER_CLASS)


def one_pass(zoo: Zoo) -> float:
    """Seconds of a forward and backward pass of 100 images through a teacher: what every inversion step needs."""
    teacher, images = zoo.teacher(zoo.ids[0]), torch.rand(len(LABELS), 3, 32, 32).requires_grad_()
    taken = []
    for _ in range(8):
        start = time.perf_counter()
        torch.autograd.grad(teacher.forward(images).logits.sum(), images)
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def recover(zoo: Zoo) -> Comparison:
    """100 images from each of four teachers, meta-training of the generator included."""
    teachers = [zoo.teacher(i) for i in zoo.ids[:VISITED]]

    def visits(recovery: AbstractRecovery, *, published: bool = False) -> Any:
        state = recovery.init(zoo.canvas, Rng(0))
        if published:
            state.generator.to(memory_format=torch.contiguous_format)
        student = Classifier(build_backbone("conv4", image_size=32), 5) if published else None
        wanted = [Visit(teacher, LABELS, student) for teacher in teachers]
        return lambda: recovery.recover(state, wanted, rng=Rng(1))

    ours = {k: v for k, v in load_recipe("best")["recovery"].items() if k != "name"}
    alone = MetaGenerator(**ours, steps=TIMED_STEPS - 1, meta_lr=0.0)  # its last reading counts as a step
    times, floor = LONG / TIMED_STEPS, VISITED * 6 * one_pass(zoo)
    return Comparison(
        "recover",
        Side("ours", visits(MetaGenerator(**ours))),
        [
            Side("published", visits(PublishedMetaGenerator(), published=True), inside=as_published),
            Side("published, in nothing but torch", _bare_published(), inside=memory_as_usual),
            Side("pixel inversion", visits(DeepInversion(steps=TIMED_STEPS)), times),
            Side("per-teacher generator", visits(alone), times),
        ],
        floor,
        {"images": VISITED * len(LABELS)},
    )


def random_bank() -> Bank:
    """A bank of random images."""
    bank = Bank(classes=CLASSES, capacity=40, shape=(3, 32, 32))
    for c in range(CLASSES):
        images = torch.rand(40, 3, 32, 32, generator=Rng(0).generator("image", c))
        bank.add(images, torch.full((40,), c), 0)
    return bank


def _from_files(bank: Bank, folder: Path) -> Any:
    """A reader of pseudo-episodes whose images lie on the disk as PNG files."""
    for c in range(CLASSES):
        for k, image in enumerate(bank.images(c)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{c}-{k}.png")

    def read(c: int, k: int) -> torch.Tensor:
        pixels = np.asarray(Image.open(io.BytesIO((folder / f"{c}-{k}.png").read_bytes())))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255

    def episode(generator: torch.Generator) -> Episode:
        classes = torch.randperm(CLASSES, generator=generator)[:5].tolist()
        chosen = [(label, c, k) for label, c in enumerate(classes) for k in range(16)]
        images, labels = (
            torch.stack([read(c, k) for _, c, k in chosen]),
            torch.tensor([label for label, _, _ in chosen]),
        )
        first = torch.tensor([k == 0 for _, _, k in chosen])
        return Episode(images[first], labels[first], images[~first], labels[~first])

    return episode


def _learner(*, second_order: bool) -> MAML:
    torch.manual_seed(0)
    spec = Zoo.open("glyphs").canvas
    encoder = Encoder(build_backbone("conv4", image_size=32), spec)
    return MAML(encoder, head="literal", second_order=second_order, norm="query_batch")


def _bare_network() -> nn.Sequential:
    """A Conv4 classifier in nothing but torch."""
    blocks = [
        (nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
        for i, o in itertools.pairwise([3, 32, 32, 32, 32])
    ]
    return nn.Sequential(*itertools.chain(*blocks), nn.Flatten(), nn.Linear(128, 5))


def _bare_episode(steps: int, *, second_order: bool, meta_gradient: bool = True) -> float:
    """Seconds of the same inner loop, and of the meta-gradient or the answers, in nothing but torch."""
    network, support, query = _bare_network(), torch.rand(5, 3, 32, 32), torch.rand(75, 3, 32, 32)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None

    def run() -> None:
        fast = dict(network.named_parameters())
        for _ in range(steps):
            loss = F.cross_entropy(functional_call(network, fast, support), torch.arange(5))
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
            fast = {k: p - 0.01 * g for (k, p), g in zip(fast.items(), gradients, strict=True)}
        with torch.set_grad_enabled(meta_gradient):
            answers = functional_call(network, fast, query)
        if meta_gradient:
            F.cross_entropy(answers, torch.arange(5).repeat(15)).backward()

    return median(Side("bare", run).seconds() for _ in range(9))


def _bare_published() -> Any:
    """The published recovery in nothing but torch: a copy of the generator, five Adam steps, a student's answers."""
    layers = [nn.BatchNorm2d(128)]
    for inputs, outputs in ((128, 128), (128, 64)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    start = [nn.Linear(256, 128 * 8 * 8), nn.Unflatten(1, (128, 8, 8))]
    generator = nn.Sequential(*start, *layers, nn.Conv2d(64, 3, 3, padding=1), nn.Sigmoid())
    student, *teachers = (_bare_network().eval().requires_grad_(False) for _ in range(VISITED + 1))

    def visit(teacher: nn.Module) -> None:
        adapted, codes = copy.deepcopy(generator), torch.randn(len(LABELS), 256).requires_grad_()
        adam = torch.optim.Adam([*adapted.parameters(), codes], lr=1e-3, betas=(0.5, 0.999))
        for _ in range(5):
            seen = F.pad(adapted(codes), (4,) * 4)[:, :, 2:34, 3:35].flip(3)
            answers, other = teacher(seen), student(seen.detach())
            agree = (answers.argmax(1) == other.argmax(1)).float()
            apart = F.kl_div(answers.softmax(1), other.softmax(1), reduction="none").sum(1)
            adam.zero_grad()
            (F.cross_entropy(answers, LABELS) - (apart * agree).mean()).backward()
            adam.step()

    return lambda: [visit(teacher) for teacher in teachers]


FILES = tempfile.TemporaryDirectory()


def replays() -> list[Comparison]:
    """Meta-gradient of 5-way 1-shot episodes with 75 queries and five inner steps, images of the bank included."""
    bank = random_bank()
    read = _from_files(bank, Path(FILES.name))

    def drawn(generator: torch.Generator) -> Episode:
        return bank.episode(way=5, shot=1, queries=15, generator=generator)

    def side(name: str, episode: Any, *, second_order: bool, inside: Any = nullcontext) -> Side:
        learner = _learner(second_order=second_order)

        def run() -> None:
            for i in range(EPISODES):
                learner.meta_loss(episode(Rng(i).generator("episode")))[0].backward()

        return Side(name, run, inside=inside)

    published = side("published, second order, PNG files", read, second_order=True, inside=as_published)
    return [
        Comparison(
            name,
            side("ours", drawn, second_order=second),
            [published],
            EPISODES * _bare_episode(5, second_order=second),
            {"episodes": EPISODES},
        )
        for name, second in (("replay", True), ("replay-first-order", False))
    ]


def episodes_at_test() -> Comparison:
    """Adapting to a 5-way 1-shot task by ten steps and answering 75 queries."""
    learner = _learner(second_order=True)
    drawn = random_bank().episode(way=5, shot=1, queries=15, generator=Rng(0).generator("episode"))

    def run() -> None:
        for _ in range(EPISODES):
            learner.adapt(drawn.support_x, drawn.support_y)(drawn.query_x)

    return Comparison(
        "test-episode",
        Side("ours", run),
        [Side("published", run, inside=as_published)],
        EPISODES * _bare_episode(10, second_order=False, meta_gradient=False),
        {"episodes": EPISODES},
    )


def consolidate(zoo: Zoo) -> Comparison:
    """An update of consolidation's student (Conv4-32, 128 images, the answers of all teachers cached)."""
    method = Consolidate(recovery=MetaGenerator(), updates=5, capacity=512, validation_teachers=0)
    state, bank = method.init(zoo, Rng(0)), AnswerBank(capacity=512, shape=(3, 32, 32), outputs=5 * len(zoo))
    bank.add(torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8), torch.randn(512, 5 * len(zoo)))
    state.bank = bank
    return Comparison(
        "consolidate",
        Side("ours", lambda: method.learn(state, Rng(0), updates=method.updates, done=0.5)),
        [
            Side(
                "the same with the published arithmetic",
                lambda: method.learn(state, Rng(0), updates=method.updates, done=0.5),
                inside=as_published,
            )
        ],
        facts={"updates": method.updates},
    )


def zoo_build(zoo: Zoo) -> Comparison:
    """Two Conv4 teachers on five classes of 480 images, from one epoch each."""
    images = torch.randint(0, 256, (2400, 3, 32, 32), dtype=torch.uint8, generator=Rng(0).generator("images"))
    labels, spec = torch.arange(5).repeat(480), zoo.canvas

    def train(recipe: TrainingRecipe) -> None:
        network = Classifier(build_backbone("conv4", image_size=32), 5)
        options = {"batch_size": recipe.batch_size, "lr": recipe.lr, "optimiser": recipe.optimiser}
        train_classifier(images, labels, network, spec, epochs=1, shift=recipe.shift, rng=Rng(0), **options)

    ours, theirs = TRAINING["conv4"], PUBLISHED_TRAINING
    return Comparison(
        "zoo-build",
        Side("ours", lambda: train(ours), 2 * ours.epochs),
        [Side("published", lambda: train(theirs), 2 * theirs.epochs, as_published)],
    )
