"""Progress of training: a live line in a terminal, now and then a plain line elsewhere; JSON; TensorBoard."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dfml.files import printable
from dfml.nn.foreign.base import library
from dfml.runs.budget import OnProgress, Update

PLAIN_SECONDS = 20.0  # between two plain lines


@contextmanager
def console_progress(console: Console | None = None, *, name: str = "training") -> Iterator[OnProgress]:
    """An ``on_progress`` that shows step, losses, pseudo-val accuracy, images/s and time left while the block runs."""
    console = console or Console()
    if not console.is_terminal:
        yield PlainProgress(console, name)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task(name, total=1.0, facts="starting")

        def show(update: Update) -> None:
            for note in update.notes:
                bar.console.print(printable(note), highlight=False, markup=False)
            bar.update(task, completed=update.fraction, facts=describe(update))

        yield show


class PlainProgress:
    """Prints a line at the first step, then one every 20 seconds and one at the end."""

    def __init__(self, console: Console, name: str):
        self.console, self.name, self.last = console, name, 0.0

    def __call__(self, update: Update) -> None:
        """Hear of a step."""
        for note in update.notes:
            self.console.print(printable(note), highlight=False, markup=False, soft_wrap=True)
        now = time.monotonic()
        if not update.metrics:  # before the first step
            return
        if now - self.last >= PLAIN_SECONDS or update.fraction >= 1:
            self.last = now
            self.console.print(f"{self.name}  {describe(update)}", highlight=False, soft_wrap=True)


def json_progress(write: Callable[[Any], None]) -> OnProgress:
    """An ``on_progress`` that writes an object a step, and one for each note."""

    def show(update: Update) -> None:
        for note in update.notes:
            write({"note": note})
        if update.metrics:  # after the first step
            counts = {"step": update.step, "steps": update.options.steps, "fraction": update.fraction}
            times = {"seconds": update.seconds, "seconds_left": update.seconds_left}
            write(counts | times | {"images_per_second": update.images_per_second} | finite(update))

    return show


def finite(update: Update) -> dict[str, float | None]:
    """Metrics of a step and of the last validation; None where JSON has no number."""
    values = update.metrics | update.validation
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@contextmanager
def tensorboard(folder: Path) -> Iterator[OnProgress]:
    """An ``on_progress`` that writes every metric for TensorBoard (extra ``tensorboard``).

    Args:
        folder: takes the events; made with the first of them.

    Raises:
        NotAtHand: TensorBoard is not installed.
    """
    board = library("torch.utils.tensorboard", "tensorboard")
    with ExitStack() as stack:
        writer: Any = None

        def show(update: Update) -> None:
            nonlocal writer
            if not update.metrics:
                return
            if writer is None:  # a resumed run goes on from its checkpoint: what came after it is drawn anew
                writer = stack.enter_context(board.SummaryWriter(str(folder), purge_step=update.step))
            for name, value in (update.metrics | update.validation).items():
                writer.add_scalar(name, value, update.step)
            writer.add_scalar("images_per_second", update.images_per_second, update.step)

        yield show


def describe(update: Update) -> str:
    """One line: step, loss terms, pseudo-val accuracy, images/s, time left."""
    total = f"/{update.options.steps}" if update.options.steps else ""
    parts = [f"step {update.step}{total}"]
    parts += [f"{short(k)} {v:.3g}" for k, v in update.metrics.items() if is_term(k)][:5]
    if "pseudo_val" in update.validation:
        parts.append(f"pseudo-val {update.validation['pseudo_val']:.1f} %")
    if update.images_per_second:
        parts.append(f"{update.images_per_second:.0f} images/s")
    if update.seconds_left is not None:
        parts.append(f"{clock(update.seconds_left)} left")
    return "  ".join(parts)


def is_term(name: str) -> bool:
    """Whether a metric is a loss term, by its name: not a count, a time or an accuracy."""
    return not any(
        word in name
        for word in ("images", "seconds", "accuracy", "pseudo_val", "queries", "step", "schema", "student", "batches")
    )


def short(name: str) -> str:
    """The last part of a metric's name."""
    return name.rsplit("/", 1)[-1].replace("_", " ")


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
