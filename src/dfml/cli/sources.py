"""Commands that make or show what a run starts from: data and zoos."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from dfml.cli.show import console, say


def data_glyphs(
    out: Positional[Path], /, *, kind: Annotated[Literal["folder", "npz"], tyro.conf.arg(name="as")] = "folder"
) -> None:
    """Write the embedded glyph set, split into train, val and test classes.

    Args:
        out: folder to write to.
        kind: image folders to look at, or arrays.
    """
    from dfml.data import load_data, write_folder, write_npz

    paths = {"folder": write_folder, "npz": write_npz}[kind](load_data("glyphs"), out)
    say(f"written: {', '.join(str(p) for p in paths)}")


def zoo_build(
    *,
    data: str,
    out: Path,
    arch: str = "conv4",
    models: int = 100,
    way: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    executor: Literal["local", "ray"] = "local",
    accelerator: Literal["cpu", "auto"] = "cpu",
    width: int | None = None,
    epochs: int | None = None,
    flips: bool = True,
    size: int | None = None,
    ground: str = "white",
) -> None:
    """Train a zoo of small classifiers on the meta-train classes; call it again to go on after a stop.

    Args:
        data: ``glyphs``, a folder with train, val and test, or one unsplit folder or .npz file.
        out: the zoo's folder.
        arch: conv4, conv4_growing, resnet10, resnet12 or resnet18.
        models: how many.
        way: classes of each.
        seed: draws classes and initial weights.
        jobs: at once; one a core, one a CPU of the cluster, or one a GPU, unless given.
        executor: processes of this machine, or the Ray cluster of RAY_ADDRESS.
        accelerator: auto trains on the GPUs that torch finds here.
        width: channels of the first block; the architecture's usual ones unless given.
        epochs: of training; the architecture's usual number unless given.
        flips: mirror images in training; ``--no-flips`` where mirroring changes the class.
        size: pixels of a side to read images at; the median of the shorter sides, 96 at most, unless given.
        ground: the colour behind transparent pixels: white, black or #rrggbb.
    """
    from dataclasses import replace

    from dfml.data import load_data
    from dfml.zoo_building.build import TRAINING, TrainingRecipe, build_zoo, zoo_progress, zoo_table

    training = replace(TRAINING.get(arch, TrainingRecipe()), flips=flips)
    training = replace(training, epochs=epochs) if epochs else training
    images = load_data(data, size=size, ground=ground)
    if flips:  # which nobody can find out before there are models (`dfml.runs.mirroring`)
        say("Images are mirrored in training; give --no-flips where a mirror changes the class, as of characters.")
    with zoo_progress() as progress:
        zoo = build_zoo(
            images,
            out=out,
            architecture=arch,
            models=models,
            way=way,
            seed=seed,
            jobs=jobs,
            executor=executor,
            accelerator=accelerator,
            width=width,
            training=training,
            on_model=progress,
        )
    console.print(zoo_table(zoo))


def zoo_list(zoo: Positional[str], /) -> None:
    """Print a table of a zoo's models.

    Args:
        zoo: its folder, or ``glyphs``.
    """
    from dfml.zoo import Zoo
    from dfml.zoo_building.build import zoo_table

    console.print(zoo_table(Zoo.open(zoo)))


def zoo_edit(
    zoo: Positional[Path], model: Positional[str], /, *, changes: Annotated[tuple[str, ...], tyro.conf.arg(name="set")]
) -> None:
    """Change what a model's card says, for example a wrong mean; card and index are sealed anew.

    Args:
        zoo: the zoo's folder.
        model: its id.
        changes: ``field=value``, the value as JSON or plain text: ``input_spec.mean=[0.5,0.5,0.5]``, ``licence=MIT``.
    """
    from dfml.errors import InputError
    from dfml.zoo.edit import edit_card, plain

    values: dict[str, object] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}", "field=value", "see dfml zoo edit --help")
        values[key] = plain(text)
    card = edit_card(zoo, model, values)
    say(f"written: {zoo / card.id}.json, and the index")
