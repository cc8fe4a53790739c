"""Build a whole zoo: many teachers from one data set, resumable model by model, in several processes."""

import signal
from collections.abc import Callable
from itertools import chain, cycle
from pathlib import Path

from dfml.compute.devices import Accelerator, devices
from dfml.compute.local import start_executor
from dfml.data.image_set import DataSplits
from dfml.errors import InputError
from dfml.files import clear_leftovers, locked, writing
from dfml.stopping import Interrupted, interrupts
from dfml.zoo.card import ModelCard
from dfml.zoo.files import read_network, write_packed
from dfml.zoo.index import INDEX, Index, write_index
from dfml.zoo.store import Zoo
from dfml.zoo_building.plan import TRAINING, TrainingRecipe, ZooPlan, train_teachers
from dfml.zoo_building.view import zoo_progress, zoo_table

__all__ = ["TRAINING", "TrainingRecipe", "build_zoo", "zoo_progress", "zoo_table"]

TOGETHER = 25  # teachers that a GPU trains at once: one small network leaves most of it idle


def build_zoo(
    data: DataSplits,
    *,
    out: str | Path,
    architecture: str,
    models: int,
    way: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    executor: str = "local",
    accelerator: Accelerator = "cpu",
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
        jobs: at once; None is one a core, one a CPU of the cluster, or one a GPU.
        executor: where they are trained, ``local`` or ``ray``; this process alone writes the zoo.
        accelerator: ``auto`` trains on the GPUs that torch finds here, `TOGETHER` models a job (elsewhere one).
        width: channels of the first block; None is the architecture's usual one.
        training: None is the architecture's usual one.
        on_model: called after each model with the models done, all models, and the mean accuracy in percent so far.

    Returns:
        The zoo, opened.

    Raises:
        InputError: classes or images do not suffice; ``out`` holds a zoo of another recipe or cannot be written;
            an architecture that is unknown or cannot take the images; jobs that cannot start, see `start_executor`.
    """
    out = Path(out)
    plan = ZooPlan.make(data, architecture, models, way, seed, width, training)
    _check_free(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out, "building a zoo"):
        _claim(out, plan)
        return _build(out, plan, jobs, executor, accelerator, on_model)


def _build(
    out: Path,
    plan: ZooPlan,
    jobs: int | None,
    executor: str,
    accelerator: Accelerator,
    on_model: Callable[[int, int, float], None] | None,
) -> Zoo:
    """Train what is missing in a folder that is ours."""
    models = int(plan.recipe["models"])
    done = {card.id: card.accuracy["mean"] for card in (_finished(out, plan.card(i)) for i in range(models)) if card}
    missing = [i for i in range(models) if plan.card(i).id not in done]

    def tell() -> None:
        if on_model is not None:
            on_model(len(done), models, sum(done.values()) / max(1, len(done)))

    tell()
    found, each = devices(accelerator), 1
    if found[0].type != "cpu":
        jobs, each = jobs or len(found), TOGETHER
    groups = [missing[i : i + each] for i in range(0, len(missing), each)]
    tasks = ([plan.task(i, str(device)) for i in group] for group, device in zip(groups, cycle(found), strict=False))
    try:
        if missing:
            # Executor start first: Ray takes the signals for itself.
            with start_executor(executor, jobs, tasks=len(groups)) as running, interrupts():
                for card, content in chain.from_iterable(running.run(train_teachers, tasks)):
                    write_packed(out, card, content)
                    done[card.id] = card.accuracy["mean"]
                    tell()
    except KeyboardInterrupt as stop:
        said = f"stopped; {len(done)} of {models} models are in {out}, and the same command goes on"
        raise Interrupted(getattr(stop, "signum", signal.SIGINT), said) from stop
    finally:
        write_index(out, name=out.resolve().name, shared_classes=True, recipe=plan.recipe, ids=done)
    return Zoo.open(out)


def _check_free(out: Path) -> None:
    """Refuse a folder of other things; what a killed process left of its beginning is none."""
    if out.is_dir() and ((out / INDEX).exists() or all(path.name.startswith(".") for path in out.iterdir())):
        return
    if out.exists():
        raise InputError(f"{out}: exists and is no zoo", "a new or empty folder", "choose another --out")


def _claim(out: Path, plan: ZooPlan) -> None:
    """Take the folder for this recipe, or refuse: before any work is lost."""
    if (out / INDEX).exists():
        index = Index.read(out)
        found = index.recipe
        differing = sorted(k for k in found.keys() | plan.recipe.keys() if found.get(k) != plan.recipe.get(k))
        if differing:
            key = differing[0]
            raise InputError(
                f"{out}: a zoo of another recipe ({', '.join(differing)} differ: {key} is {found.get(key)!r})",
                f"an empty folder, or a zoo with {key} {plan.recipe.get(key)!r}",
                "choose another --out, or repeat the options of the zoo that is there",
            )
        index.write(out)  # a folder that cannot be written is refused now, not after the first training
        clear_leftovers(out)
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
