"""How a zoo, and the building of one, look in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dfml.files import visible
from dfml.zoo.store import Zoo

NAMED = 8  # classes of a model, in a table


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
    known = [m.accuracy["mean"] for m in zoo.index.models if "mean" in m.accuracy]
    mean = f"mean accuracy {sum(known) / len(known):.1f} %" if known else "no accuracies known"
    table = Table(title=Text(f"{visible(zoo.name)}: {len(zoo)} models, {len(zoo.class_ids)} classes, {mean}"))
    for column in ("model", "architecture", "classes", "accuracy %", "images"):
        table.add_column(column, justify="right" if column in ("accuracy %", "images") else "left")
    for model in zoo.index.models:
        accuracy = model.accuracy
        shown = f"{accuracy['mean']:.1f}" if "mean" in accuracy else "unknown"
        shown += f" ± {accuracy['ci95']:.1f}" if "ci95" in accuracy else ""
        names = ", ".join(zoo.index.classes[c] for c in model.class_ids[:NAMED])
        names += f" and {len(model.class_ids) - NAMED} more" if len(model.class_ids) > NAMED else ""
        names = f"set aside: {model.aside}" if model.aside else names
        told = [Text(visible(text)) for text in (model.id, model.architecture, names)]
        table.add_row(*told, shown, str(int(accuracy.get("n", 0)) or "-"))
    return table
