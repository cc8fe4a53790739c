"""The command that writes a page about runs."""

from pathlib import Path

from tyro.conf import Positional

from dfml.cli.show import say


def report(
    runs: Positional[tuple[Path, ...]],
    /,
    *,
    out: Path = Path("report.html"),
    data: Path | None = None,
    support: Path | None = None,
    mix: bool = False,
) -> None:
    """Write one HTML page about runs: what was run, accuracy, curves, recovered images, cost, and how to use them.

    Args:
        runs: run folders.
        out: the page; it needs no other file.
        data: real images, for a map of them beside recovered ones, of their test classes; nothing else looks at them.
        support: a folder of class folders: the page says what the zoo makes of each image.
        mix: also runs of several zoos or splits, or judged on other episodes.
    """
    from dfml.data import load_split
    from dfml.files import write_atomic
    from dfml.report.page import report as write_report

    real = None if data is None else load_split(data, "test")
    write_atomic(out, write_report(runs, real=real, support=support, mix=mix).encode())
    say(f"written: {out}")
