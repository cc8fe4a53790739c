"""Build a whole zoo: many teachers from one data set, resumable model by model, in several processes."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dfml.data.image_set import DataSplits, ImageSet
from dfml.errors import InputError
from dfml.harness.jobs import cores, run_jobs
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.zoo.card import ModelCard
from dfml.zoo.files import content_hash, halve, pack, read_network, write_packed
from dfml.zoo.store import INDEX, Index, Zoo, write_index
from dfml.zoo.train_one import Optimiser, held_out_accuracy, train_classifier

HELD_OUT = 0.2
RECIPE_SCHEMA = 1


@dataclass(frozen=True)
class TrainingRecipe:
    """How a teacher is trained; see `train_classifier`."""

    epochs: int = 18
    batch_size: int = 64
    lr: float = 0.01
    optimiser: Optimiser = "adam"
    flips: bool = True
    shift: int = 2


TRAINING = {
    "conv4": TrainingRecipe(),
    "resnet10": TrainingRecipe(lr=0.1, optimiser="sgd"),
    "resnet18": TrainingRecipe(lr=0.1, optimiser="sgd"),
}


@dataclass(frozen=True)
class TeacherTask:
    """Everything that one process needs to train one teacher; arrays, because they pickle plainly."""

    card: ModelCard
    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    training: TrainingRecipe
    rng: Rng


def train_teacher(task: TeacherTask) -> tuple[ModelCard, bytes]:
    """Train, round to float16, and measure the rounded network on the held-out images.

    Returns:
        The finished card and the weight file's bytes.
    """
    images, labels = torch.from_numpy(task.images), torch.from_numpy(task.labels)
    held_out, spec, card = torch.from_numpy(task.held_out), task.card.input_spec, task.card
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.rng.integer("weights"))
        backbone = build_backbone(card.architecture, image_size=spec.size, channels=spec.channels, width=card.width)
        network = Classifier(backbone, len(card.class_names))
    train_classifier(images[~held_out], labels[~held_out], network, spec, rng=task.rng, **asdict(task.training))
    network.load_state_dict(halve(network))
    accuracy = held_out_accuracy(images[held_out], labels[held_out], network, spec)
    return pack(replace(card, accuracy=accuracy), network)


def build_zoo(
    data: DataSplits,
    *,
    out: str | Path,
    architecture: str,
    models: int,
    way: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    width: int | None = None,
    training: TrainingRecipe | None = None,
    on_model: Callable[[int, int, float], None] | None = None,
) -> Zoo:
    """Train ``models`` teachers, each on ``way`` meta-train classes of its own drawing, into the folder ``out``.

    Of each class the first 80 % of images train and the last 20 % measure. Run again, it continues: models that are
    there whole are kept, and a kill loses no more than the models in work.

    Args:
        data: its meta-train split is used, nothing else.
        out: the zoo's folder; its name is the zoo's name.
        architecture: a key of `dfml.nn.ARCHITECTURES`.
        models: how many teachers.
        way: classes a teacher.
        seed: of class draws, weights and training.
        jobs: processes, by default one a core.
        width: channels of the first block; None is the architecture's usual one.
        training: None is the architecture's usual one.
        on_model: called after each model with the models done, all models, and the mean accuracy in percent so far.

    Returns:
        The zoo, opened.

    Raises:
        InputError: classes or images do not suffice; ``out`` holds a zoo of another recipe or cannot be written;
            an architecture that is unknown or cannot take the images.
    """
    out = Path(out)
    plan = _Plan.make(data, architecture, models, way, seed, width, training)
    _claim(out, plan)
    done = {card.id: card.accuracy["mean"] for card in (_finished(out, plan.card(i)) for i in range(models)) if card}
    missing = [i for i in range(models) if plan.card(i).id not in done]
    workers = max(1, min(jobs or cores(), len(missing)))

    def tell() -> None:
        if on_model is not None:
            on_model(len(done), models, sum(done.values()) / max(1, len(done)))

    tell()
    try:
        with _sigterm_interrupts():
            for card, content in run_jobs(train_teacher, (plan.task(i) for i in missing), workers=workers):
                write_packed(out, card, content)
                done[card.id] = card.accuracy["mean"]
                tell()
    finally:
        write_index(out, name=out.resolve().name, shared_classes=True, recipe=plan.recipe, ids=done)
    return Zoo.open(out)


@dataclass(frozen=True)
class _Plan:
    """What every model of a zoo will be, before any is trained."""

    name: str
    images: ImageSet
    spec: InputSpec
    width: int
    training: TrainingRecipe
    recipe: dict[str, Any]

    @staticmethod
    def make(
        data: DataSplits,
        architecture: str,
        models: int,
        way: int,
        seed: int,
        width: int | None,
        training: TrainingRecipe | None,
    ) -> "_Plan":
        train, name = data.train, Path(data.name).stem  # a path stays on the machine where it means something
        _check_counts(train, models, way)
        spec = input_spec(train)
        backbone = build_backbone(architecture, image_size=spec.size, channels=spec.channels, width=width)
        width = int(next(backbone.parameters()).shape[0])
        training = training or TRAINING[architecture]
        recipe = {
            "schema": RECIPE_SCHEMA,
            "data": name,
            "data_hash": train.hash,
            "architecture": architecture,
            "width": width,
            "models": models,
            "way": way,
            "seed": seed,
            "held_out": HELD_OUT,
            "training": asdict(training),
        }
        return _Plan(name, train, spec, width, training, recipe)

    def rng(self, i: int) -> Rng:
        return Rng(self.recipe["seed"]).at("teacher", i)

    def classes(self, i: int) -> list[int]:
        drawn = torch.randperm(len(self.images.class_names), generator=self.rng(i).generator("classes"))
        return drawn[: self.recipe["way"]].tolist()

    def card(self, i: int) -> ModelCard:
        """The card of model ``i`` before its training."""
        names = tuple(self.images.class_names[c] for c in self.classes(i))
        ids = tuple(f"{self.name}/{name}" for name in names)
        model = f"{self.recipe['architecture']}-{i:0{len(str(self.recipe['models'] - 1))}d}"
        provenance = {"built_by": "dfml zoo build", "recipe": content_hash(self.recipe), "model": i}
        return ModelCard(
            model, self.recipe["architecture"], self.width, names, ids, self.spec, "", provenance=provenance
        )

    def task(self, i: int) -> TeacherTask:
        chosen = self.images.classes(self.classes(i))
        held_out = torch.zeros(len(chosen), dtype=torch.bool)
        for members in chosen.members.values():
            held_out[members[int(len(members) * (1 - HELD_OUT)) :]] = True
        arrays = chosen.images.numpy(), chosen.labels.numpy(), held_out.numpy()
        return TeacherTask(self.card(i), *arrays, self.training, self.rng(i))


def input_spec(images: ImageSet) -> InputSpec:
    """Size, channels, mean and standard deviation of a set, from exact sums, to four decimals.

    Raises:
        InputError: images that are not square.
    """
    _, channels, height, width = images.images.shape
    if height != width:
        raise InputError(f"{images.name}: images of {height} x {width} pixels", "square images", "crop or resize them")
    total, squares = torch.zeros(channels, dtype=torch.int64), torch.zeros(channels, dtype=torch.int64)
    for part in images.images.split(1000):
        total += part.sum((0, 2, 3), dtype=torch.int64)
        squares += part.int().square().sum((0, 2, 3), dtype=torch.int64)
    pixels = images.images.numel() / channels
    mean = total.double() / pixels / 255
    std = (squares.double() / pixels / 255**2 - mean**2).clamp(min=1e-4).sqrt()
    return InputSpec(
        channels, height, tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())
    )


def _check_counts(train: ImageSet, models: int, way: int) -> None:
    classes = len(train.class_names)
    if models < 1 or not 2 <= way <= classes:
        raise InputError(
            f"{models} models of {way} classes from {classes} meta-train classes",
            "at least one model, and a way between 2 and the number of classes",
            "change --models or --way",
        )
    fewest = min(train.members, key=lambda c: len(train.members[c]))
    if len(train.members[fewest]) < 5:
        raise InputError(
            f"class {train.class_names[fewest]!r} of {train.name} with {len(train.members[fewest])} images",
            "at least 5 images a class: 4 to train on and 1 held out",
            "add images or leave the class out",
        )


def _claim(out: Path, plan: _Plan) -> None:
    """Take the folder for this recipe, or refuse: before any work is lost."""
    if (out / INDEX).exists():
        found = Index.read(out).recipe
        differing = sorted(k for k in found.keys() | plan.recipe.keys() if found.get(k) != plan.recipe.get(k))
        if differing:
            key = differing[0]
            raise InputError(
                f"{out}: a zoo of another recipe ({', '.join(differing)} differ: {key} is {found.get(key)!r})",
                f"an empty folder, or a zoo with {key} {plan.recipe.get(key)!r}",
                "choose another --out, or repeat the options of the zoo that is there",
            )
        for leftover in out.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is no zoo", "a new or empty folder", "choose another --out")
    else:
        Index(out.resolve().name, True, plan.recipe).write(out)


def _finished(out: Path, planned: ModelCard) -> ModelCard | None:
    """The model's card, if card and weights are there and whole."""
    try:
        card = ModelCard.read(out / f"{planned.id}.json")
        read_network(out, card)
    except InputError:
        return None
    return card if card.class_ids == planned.class_ids and "mean" in card.accuracy else None


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, as Ctrl-C does (in the main thread; elsewhere nothing changes)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def zoo_progress() -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar to give to `build_zoo` as ``on_model``: models done, mean accuracy, time left."""
    columns = (
        TextColumn("teachers"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=600) as bar:
        shown = bar.add_task("", total=None, accuracy="")

        def update(done: int, models: int, mean: float) -> None:
            text = f"mean accuracy {mean:.1f} %" if done else "first models in work"
            bar.update(shown, completed=done, total=models, accuracy=text)

        yield update


def zoo_table(zoo: Zoo) -> Table:
    """For ``dfml zoo list``: one line a model, from the index alone."""
    mean = sum(m.accuracy.get("mean", 0.0) for m in zoo.index.models) / len(zoo)
    table = Table(title=f"{zoo.name}: {len(zoo)} models, {len(zoo.class_ids)} classes, mean accuracy {mean:.1f} %")
    for column in ("model", "architecture", "classes", "accuracy %", "images"):
        table.add_column(column, justify="right" if column in ("accuracy %", "images") else "left")
    for model in zoo.index.models:
        accuracy = model.accuracy
        shown = f"{accuracy['mean']:.1f} ± {accuracy['ci95']:.1f}" if accuracy else "unknown"
        names = ", ".join(zoo.index.classes[c] for c in model.class_ids)
        table.add_row(model.id, model.architecture, names, shown, str(int(accuracy.get("n", 0)) or "-"))
    return table
