"""The command that puts runs beside each other."""

from pathlib import Path

from tyro.conf import Positional

from dfml.cli.show import console, say
from dfml.errors import InputError


def compare(
    runs: Positional[tuple[Path, ...]], /, *, mix: bool = False, out: tuple[Path, ...] = (), plot: Path | None = None
) -> None:
    """Put evaluated runs beside each other: accuracy, paired differences to the first run, and what each cost.

    Args:
        runs: run folders; those that differ in their seeds alone are one row.
        mix: also runs of several zoos or splits, or judged on other episodes.
        out: files to write: .md, .csv or .tex, one or several.
        plot: a .png of accuracy against seconds of training.
    """
    from dfml.files import write_atomic
    from dfml.report import FORMATS, comparison_tables, cost_plot
    from dfml.report import compare as compare_runs

    if wrong := [path for path in out if path.suffix not in FORMATS]:
        raise InputError(f"--out {wrong[0]}", f"a file that ends in {', '.join(FORMATS)}", "change --out")
    if plot is not None and plot.suffix != ".png":
        raise InputError(f"--plot {plot}", "a file that ends in .png", "change --plot")
    comparison = compare_runs(runs, mix=mix)
    for table in comparison_tables(comparison):
        console.print(table)
    for note in comparison.notes:
        say(note)
    for path in out:
        write_atomic(path, FORMATS[path.suffix](comparison).encode())
    if plot is not None:
        write_atomic(plot, cost_plot(comparison))
    for path in (*out, *([plot] if plot else [])):
        say(f"written: {path}")
