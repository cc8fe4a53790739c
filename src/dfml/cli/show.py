"""What the commands share: the console, plain lines and a bar."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dfml.files import encode, finite

console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, no wrapping."""
    console.print(text, markup=False, soft_wrap=True)


def visible(name: object) -> str:
    """A name, of a file say, on one line: what is no character to be seen is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def complain(text: str) -> None:
    """Print a line of what is wrong."""
    Console(stderr=True, highlight=False).print(text, style="red", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a line of JSON, in UTF-8 whatever the terminal's encoding is."""
    line = json.dumps(finite(value), ensure_ascii=False, allow_nan=False) + "\n"
    sys.stdout.flush()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.buffer.write(encode(line))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(line)


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A callback for what is done and what there is to do, shown as a bar in a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
