"""What the commands share: the console, plain lines and a bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, no wrapping."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A callback for what is done and what there is to do, shown as a bar in a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
