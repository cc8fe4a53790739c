"""Signals that ask to stop, all in one place: the first one stops cleanly, a second one at once.

They are SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is gone), but those that whoever started the program has
it ignore, as nohup does. The exit code of a program that was stopped is 128 + the signal's number.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
AGAIN = 0.05  # seconds until an interrupt that could not be raised, or was swallowed, is raised again

_outside: dict[int, Any] = {}
"""While a block listens: what signals did before the outermost one, and do again after the first signal."""
_terminals: list[int] = []
"""Files of a program's output that are terminals."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop.

    Args:
        signum: the signal.
        said: what became of the work, and how to go on; empty where whoever was interrupted has nothing to say.
    """

    def __init__(self, signum: int, said: str = ""):
        super().__init__(said)
        self.signum = signum


@contextmanager
def first_signal(act: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, the first signal does ``act(signum, frame)``; those after it do what they did outside.

    Blocks may lie in each other: the innermost hears the signal. In the main thread only; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.getsignal(s) for s in SIGNALS}
    before = {s: handler for s, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    outermost = not _outside
    _outside.update(before if outermost else {})

    def hear(signum: int, frame: FrameType | None) -> None:
        for number, handler in _outside.items():
            signal.signal(number, handler)
        if signum not in (signal.SIGINT, signal.SIGTERM):
            _leave_terminals()
        act(signum, frame)

    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is hear:  # else a signal came, and the rest of the program is its end
                signal.signal(number, handler)
        if outermost:
            _outside.clear()


@contextmanager
def interrupts() -> Iterator[None]:
    """Inside, the first of any of the signals raises `Interrupted`, as Ctrl-C raises KeyboardInterrupt.

    Not inside of an import, where it would leave half a module or be taken for a missing one: it waits until that ends.
    """
    with first_signal(_raise):
        yield


@contextmanager
def stoppable_program() -> Iterator[None]:
    """Inside, and until the process ends, a program stops when it is asked to: cleanly, the second time at once.

    An interrupt that Python swallows (in a destructor, say) is raised again.
    """
    _terminals.extend(stream.fileno() for stream in (sys.stdout, sys.stderr) if stream is not None and stream.isatty())

    def end_at_once(signum: int, _frame: FrameType | None) -> NoReturn:
        for terminal in _terminals:
            os.write(terminal, b"\x1b[?25h\n")  # the cursor, which a progress bar hides
        os._exit(128 + signum)

    def unraisable(lost: Any) -> None:
        if isinstance(lost.exc_value, Interrupted):
            _raise_later(lost.exc_value.signum)
        else:
            sys.__unraisablehook__(lost)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end_at_once)
    sys.unraisablehook = unraisable
    with interrupts():
        yield


def _leave_terminals() -> None:
    """What is printed to a terminal that is gone would be an error, in the middle of what is being saved."""
    for terminal in _terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
    _terminals.clear()


def _raise(signum: int, frame: FrameType | None) -> None:
    if _importing(frame):
        _raise_later(signum)
    else:
        raise Interrupted(signum)


def _raise_later(signum: int) -> None:
    if not hasattr(signal, "setitimer"):  # Windows
        raise Interrupted(signum)
    signal.signal(signal.SIGALRM, lambda _, frame: _raise(signum, frame))
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
