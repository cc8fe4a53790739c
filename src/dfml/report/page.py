"""One HTML file that says what was run, what came of it, what it cost, and how to use it; it needs no other file."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dfml.data.image_set import ImageSet
from dfml.errors import InputError
from dfml.files import visible
from dfml.report import looks
from dfml.report.comparison import Comparison, compare
from dfml.report.cost_plot import cost_plot
from dfml.report.formats import columns
from dfml.runs.run import Run


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Args:
        png: its bytes.
        says: what is to be seen, for those who cannot.
    """

    png: bytes
    says: str

    @property
    def source(self) -> str:
        """For an ``img``."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass
class RunPart:
    """What the page says of one run.

    Args:
        run: the run.
        facts: what was run on what, as pairs.
        costs: time and memory, as pairs.
        curves: of losses and progress.
        sheets: recovered images, oldest first.
        pictures: agreement of the teachers, and the map of features.
        supports: thumbnail, class, and what the zoo says.
        notes: what could not be shown, and why.
    """

    run: Run
    facts: list[tuple[str, str]]
    costs: list[tuple[str, str]]
    curves: list[Picture] = field(default_factory=list)
    sheets: list[Picture] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    supports: list[tuple[Picture, str, list[tuple[str, float]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def report(
    runs: Sequence[str | Path], *, real: ImageSet | None = None, support: str | Path | None = None, mix: bool = False
) -> str:
    """The page, as text.

    Args:
        runs: run folders.
        real: images for the map of features; nothing else looks at them.
        support: a folder of class folders: the page says what the zoo makes of each image.
        mix: see `dfml.report.comparison.compare`.

    Raises:
        InputError: no run, or a folder that is none; runs that cannot stand in one table.
    """
    if not runs:
        raise InputError("no run", "run folders", "name them")
    opened = [Run.open(path) for path in runs]
    judged = [run.path for run in opened if (run.path / "result.json").exists()]
    comparison = compare(judged, mix=mix) if judged else None
    pictures = (
        [Picture(cost_plot(comparison), "accuracy over seconds of training")] if comparison and judged[1:] else []
    )
    page = Environment(
        loader=PackageLoader("dfml.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["seen"] = visible
    return page.get_template("report.html").render(
        parts=[_part(run, real, support) for run in opened],
        table=_table(comparison) if comparison else [],
        notes=comparison.notes if comparison else [],
        pictures=pictures,
        not_judged=[str(run.path) for run in opened if run.path not in judged],
        version=version("dfml"),
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
    )


def _table(comparison: Comparison) -> list[list[str]]:
    shown = columns(comparison)
    rows = [[row.recipe, *(c.cells[i] for c in shown)] for i, row in enumerate(comparison.rows)]
    return [["recipe", *(c.head for c in shown)], *rows]


def _part(run: Run, real: ImageSet | None, support: str | Path | None) -> RunPart:
    part = RunPart(run, list(_facts(run)), list(_costs(run.checkpoint["totals"])))
    part.curves = [Picture(png, "curves of the training") for png in looks.curves(run)]
    part.sheets = [
        Picture(
            png,
            f"after step {step}: recovered images of {min(looks.TEACHERS, len(run.zoo))} of {len(run.zoo)} teachers",
        )
        for step, png in looks.sheets(run).items()
    ]
    if not part.sheets:
        part.notes.append("This method recovers no images.")
    if found := looks.agreement(run):
        matrix, mean = found
        part.pictures.append(
            Picture(
                matrix, f"how alike the teachers answer on drawn images: {mean:.2f} in the mean, 1 is the same answers"
            )
        )
    if real and (drawn := looks.feature_map(run, real)):
        part.pictures.append(Picture(drawn, "recovered images and real ones, as the learner sees them"))
    if support:
        told = looks.told_of(run, support)
        part.supports = [(Picture(png, name), name, classes) for png, name, classes in told]
    return part


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    config, zoo = run.folder.config, run.folder.about["zoo"]
    about = run.learner.describe()
    yield "method", f"{config.sections['method']['name']} (recipe {config.recipe})"
    yield "zoo", f"{zoo['name']}: {zoo['models']} models, {', '.join(zoo['architectures'])}; {zoo['hash'][:19]}"
    yield "images of", f"{run.zoo.canvas.shape[1]} x {run.zoo.canvas.shape[2]} pixels, {len(run.zoo.class_ids)} classes"
    yield (
        "learner",
        f"{about.get('learner')}, {about.get('network')}, {about.get('networks_at_inference', 1)} at inference",
    )
    yield "real data used", {False: "none", True: "yes", "unlabelled": "pictures without labels"}[run.method.uses_data]
    yield "steps", str(run.checkpoint["step"])
    yield "seed", str(config.run.seed)
    for change in run.folder.about.get("changes", []):
        yield f"changed after step {change['after']}", f"{change['key']}: {change['old']} to {change['new']}"


def _costs(totals: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "training", f"{totals['total'] / 60:.1f} minutes, of which recovery {totals['recover'] / 60:.1f}"
    yield "CPU", f"{totals['cpu'] / 60:.1f} minutes, on {totals['device']}; load of the machine {totals['load']:.1f}"
    yield "recovered", f"{totals['images']:,.0f} images"
    yield "teachers asked", f"about {totals['queries']:,.0f} images"
    yield "memory", f"{totals['peak_memory_mb']:,.0f} MB at most"
