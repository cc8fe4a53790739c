"""Every writing call of small commands fails in turn, as on a full, broken or forbidden disk."""

import errno
import os
import random
import shutil
import signal
import time
from collections import Counter

import commands
import pytest
from commands import Command
from forking import FROM, KILL, ONCE, SHORT, Fault, Forks

FAULTS = ((FROM, errno.ENOSPC), (ONCE, errno.EIO), (ONCE, errno.EACCES), (ONCE, errno.EINTR), (SHORT, 0))
KILLS = int(os.environ.get("KILLS", "5"))  # of a command, inside of its writes, and as many at other moments


KILLED = [
    "train (free)",
    "train (consolidation)",
    "train (black boxes)",
    "zoo build",
    "zoo add",
    "sweep",
    "evaluate",
    "export",
]


def reference(forks: Forks, command: Command) -> tuple[object, int]:
    """What comes out without a fault, and the number of its writing calls."""
    out = forks.folder / "whole"
    shutil.rmtree(out, ignore_errors=True)
    command.before(out)
    ended = forks.run(command.words(out))
    assert ended.code == 0, ended.said
    return command.outcome(out), ended.calls


def after(forks: Forks, command: Command, fault: Fault, whole: object, killed_after: float | None = None) -> str:
    """What a fault or a kill does; afterwards the same command comes to the same bits."""
    out = forks.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command.before(out)
    ended = forks.run(command.words(out), fault, killed_after)
    where = f"{command.name}, {fault} {killed_after or ''} ({ended.met}): {ended.said[-2000:]}"
    killed = fault.kind == KILL or killed_after is not None
    assert ended.code in ((0, -signal.SIGKILL) if killed else (0, 2)), where
    assert "Traceback" not in ended.said, where
    if ended.code == 2:
        assert os.strerror(fault.error) in ended.said, where
        assert str(out) in ended.said, where
    again = forks.run(command.again(out))
    assert again.code == 0, f"{where}\nAND AGAIN\n{again.said}{commands.told(out)}"
    assert command.outcome(out) == whole, f"{where}\nAND AGAIN\n{again.said}{commands.told(out)}"
    return {0: "went on", 2: "said"}.get(ended.code, "killed")


@pytest.mark.reliability
@pytest.mark.parametrize("name", ["adapt", "evaluate"])
def test_every_fault_at_every_writing_call(forks, known, name):
    command = known[name]
    whole, calls = reference(forks, command)
    tell(name, [(f, after(forks, command, f, whole)) for n in range(1, calls + 1) for f in faults_at(n)])


@pytest.mark.reliability
@pytest.mark.parametrize("name", ["train (free)", "zoo build", "export"])
def test_a_fault_at_every_writing_call(forks, known, name):
    command = known[name]
    whole, calls = reference(forks, command)
    faults = [faults_at(n)[n % len(FAULTS)] for n in range(1, calls + 1)]
    tell(name, [(fault, after(forks, command, fault, whole)) for fault in faults])


@pytest.mark.reliability
@pytest.mark.parametrize("name", KILLED)
def test_a_kill_at_any_moment_or_inside_of_a_write_is_gone_on_from_to_the_same_bits(forks, known, name):
    command, drawn = known[name], random.Random(name)
    whole, calls = reference(forks, command)
    start = time.monotonic()
    reference(forks, command)
    seconds = time.monotonic() - start
    for call in drawn.sample(range(1, calls + 1), min(calls, KILLS)):
        assert after(forks, command, Fault(KILL, call), whole) == "killed"
    done = [after(forks, command, Fault(), whole, drawn.uniform(0, seconds)) for _ in range(KILLS)]
    print(f"| {name} | SIGKILL inside of a write | {min(calls, KILLS)} | 0 |")
    print(f"| {name} | SIGKILL at any moment | {done.count('killed')} | {done.count('went on')} |")


def faults_at(call: int) -> list[Fault]:
    return [Fault(kind, call, error) for kind, error in FAULTS]


def tell(name: str, found: list[tuple[Fault, str]]) -> None:
    """Lines of the table in docs/reliability.md."""
    counts = Counter((str(fault).rpartition(" at call")[0], outcome) for fault, outcome in found)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        print(f"| {name} | {kind} | {counts[kind, 'said']} | {counts[kind, 'went on']} |")
