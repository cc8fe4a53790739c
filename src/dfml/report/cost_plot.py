"""Accuracy against what it cost, as a picture."""

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from dfml.report.comparison import Comparison
from dfml.runs.plots import png, tidy

LEAST = 1.0  # second of training that a run is drawn at where it took less: the axis is logarithmic
MARKS = "osD^vP*X"


def cost_plot(comparison: Comparison) -> bytes:
    """A PNG: a panel a shot, inductive accuracy over seconds of training; every run is a point, a colour a recipe."""
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    figure = Figure(figsize=(4.2 * len(comparison.shots), 3.6), layout="constrained")
    panels = figure.subplots(1, len(comparison.shots), squeeze=False)[0]
    for axes, shot in zip(panels, comparison.shots, strict=True):
        for number, row in enumerate(reversed(comparison.rows)):  # the best comes first in the legend
            runs = [run for run in row.runs if shot in run.results]
            axes.plot(
                [max(LEAST, run.about["seconds"]["total"]) for run in runs],
                [run.results[shot]["accuracy"]["inductive"]["mean"] for run in runs],
                MARKS[number // len(colours) % len(MARKS)],
                color=colours[number % len(colours)],
                markersize=6,
                alpha=0.85,
                label=row.recipe.replace("$", r"\$"),
            )
        axes.set_xscale("log")
        plain = LogFormatter(minor_thresholds=(1.5, 0.5))
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_formatter(plain)
        axes.tick_params(which="minor", labelsize=8)
        tidy(axes, f"{shot}-shot, inductive", "seconds of training", "% correct")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=8, frameon=False)
    return png(figure)
