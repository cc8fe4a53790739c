"""What the commands share: the console, plain lines and a bar."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dfml.files import printable

console = Console(highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, no wrapping, and nothing that a terminal obeys."""
    console.print(printable(text), markup=False, soft_wrap=True)


def complain(text: str, *, style: str = "red") -> None:
    """Print what went wrong to stderr."""
    Console(stderr=True).print(Text(printable(text), style=style), soft_wrap=True)


def print_json(values: Any) -> None:
    """One line of JSON, in UTF-8 whatever the terminal's encoding is."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


@contextmanager
def plain_output() -> Iterator[None]:
    """Inside, names that the terminal cannot show are escaped, and a warning is one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(printable(f"warning: {message}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A callback for what is done and what there is to do, shown as a bar in a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


EVERY = 10.0  # seconds between lines that say how far it is


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A callback for one more that is done, beside answers that go to standard output: a bar on the terminal where
    they go elsewhere, and a line every ten seconds where there is no terminal.
    """
    aside, start = Console(stderr=True, highlight=False), time.monotonic()
    done, told = 0, start
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = aside.is_terminal and not console.is_terminal
    with Progress(*columns, console=aside, transient=True, disable=not shown, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=total)

        def count() -> None:
            nonlocal done, told
            done += 1
            progress.advance(task)
            if not aside.is_terminal and (now := time.monotonic()) - told > EVERY:
                told = now
                aside.print(f"{done} of {total} {what}, {done / (now - start):.0f} a second", soft_wrap=True)

        yield count
