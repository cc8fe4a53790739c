"""The command line: finds the command, reads its options, and says what is wrong without a traceback."""

import difflib
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from dfml.cli.commands import COMMANDS
from dfml.cli.show import complain, plain_output
from dfml.errors import InputError, LostRank, NotFinite, PartialFailure

STOPPED = "stopped before it was done; what it has printed or written so far stands, called again it begins anew"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 2 for wrong input, 1 where some of many failed, 128 + n for signal n."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with plain_output():
            if (found := find_command(given)) is not None:
                command, positional, named = found
                command(*positional, **named)
    except (InputError, NotFinite) as error:
        complain(f"error: {error}")
        return 2
    except KeyboardInterrupt as stop:
        complain(str(stop) or STOPPED, style="yellow")
        return 128 + getattr(stop, "signum", 2)
    except PartialFailure as failure:
        complain(f"error: {failure}")
        return 1
    except (BrokenPipeError, LostRank):  # of a lost process the loop has told
        return 1
    except (OSError, UnicodeError) as error:  # what no part below has words of its own for
        what = error if isinstance(error, UnicodeError) else f"{error.filename or 'a file'}: {error.strerror or error}"
        wanted = "files that can be read and written, on a disk with room, under names that the system knows"
        complain(f"error: {InputError(str(what), wanted, 'make room, change the permissions or the name')}")
        return 2
    return 0


def find_command(given: list[str]) -> tuple[Callable[..., None], tuple, dict[str, Any]] | None:
    """The command with its arguments; None where an overview or the version was asked for, and printed."""
    if not given or given[0] in ("-h", "--help"):
        overview()
        return None
    if given[0] == "--version":
        from importlib.metadata import version

        print(version("dfml"))
        return None
    words = 2 if " ".join(given[:2]) in COMMANDS else 1
    name = " ".join(given[:words])
    if name not in COMMANDS:
        inside = [c for c in COMMANDS if c.startswith(f"{given[0]} ")]
        if inside and given[1:2] in ([], ["-h"], ["--help"]):
            overview(inside)
            return None
        near = difflib.get_close_matches(" ".join(given[:2]), COMMANDS, 1, 0.5) or difflib.get_close_matches(
            name, COMMANDS, 1, 0.5
        )
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"command {name!r}{hint}", f"one of {', '.join(inside or COMMANDS)}", "see dfml --help")
    command = COMMANDS[name]
    options: dict[str, Any] = {"prog": f"dfml {name}", "args": given[words:]}
    if name == "train":
        (positional, named), unknown = tyro.cli(_read_only(command), return_unknown_args=True, **options)
        named["overrides"] = read_overrides(unknown)
    else:
        positional, named = tyro.cli(_read_only(command), **options)
    return command, positional, named


def _read_only(command: Callable[..., None]) -> Callable[..., tuple[tuple, dict[str, Any]]]:
    """Stands in for a command while its options are read, so that the command itself runs outside of the parser."""

    @functools.wraps(command)
    def arguments(*positional: Any, **named: Any) -> tuple[tuple, dict[str, Any]]:
        return positional, named

    return arguments


def overview(names: Sequence[str] | None = None) -> None:
    """Print every command with its first line."""
    print("usage: dfml COMMAND ...\n")
    print("Turn a zoo of pre-trained classifiers, without their data, into a few-shot learner.\n")
    for name in names or COMMANDS:
        print(f"  {name:<12} {(COMMANDS[name].__doc__ or '').splitlines()[0]}")
    print("\n`dfml COMMAND --help` prints the options.")


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """Options that `dfml train` does not know itself, as name -> text.

    ``--lr 0.1``, ``--lr=0.1``, ``--set lr=0.1``; an option without a value is true, ``--no-NAME`` false.

    Raises:
        InputError: a word that belongs to no option.
    """
    overrides: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise InputError(f"{word!r} belongs to no option", "--NAME VALUE", "see dfml train --help")
        name, equals, value = word[2:].partition("=")
        if not equals and waiting and not waiting[0].startswith("--"):
            equals, value = "=", waiting.pop(0)
        if name == "set":
            name, equals, value = value.partition("=")
        if not equals:
            off = name.startswith("no-")
            name, value = name.removeprefix("no-"), "false" if off else "true"
        overrides[name] = value
    return overrides
