"""Pictures of a run: curves and contact sheets, as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dfml.errors import InputError
from dfml.files import visible, write_atomic
from dfml.recovery import Recovered
from dfml.runs.progress import is_term

INK, LINE, FAINT = "#222222", "#1f5fa8", "#a9c4e4"
PANELS = 12  # loss terms in one picture at most


@dataclass(frozen=True)
class Sheet:
    """Images [n, c, h, w] in [0, 1] of one teacher, with labels into ``class_names``."""

    title: str
    images: Tensor
    labels: Tensor
    class_names: Sequence[str]


def sheet_of(title: str, recovered: Recovered, class_names: Sequence[str]) -> Sheet:
    """A sheet of the classes that there are images of."""
    shown, rows = recovered.labels.unique(return_inverse=True)
    return Sheet(visible(title), recovered.images, rows, [visible(class_names[c]) for c in shown.tolist()])


def plot_curves(metrics: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw ``losses.png`` and, where there is pseudo-val accuracy, ``pseudo_val.png``; the paths drawn."""
    drawn = []
    names = [k for k in dict.fromkeys(k for line in metrics for k in line) if is_term(k) and _points(metrics, k)[1]]
    if names:
        drawn.append(_loss_terms(metrics, names[:PANELS], folder / "losses.png"))
    seconds, values = _points(metrics, "pseudo_val", over="seconds")
    if values:
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([s / 60 for s in seconds], values, color=LINE, marker="o", markersize=3)
        tidy(axes, "pseudo-val accuracy (recovered classes that training does not use)", "minutes of training", "%")
        drawn.append(_save(figure, folder / "pseudo_val.png"))
    return drawn


def contact_sheet(sheets: Sequence[Sheet], path: Path, *, columns: int = 10, title: str = "") -> Path:
    """Draw recovered images, a block per teacher, a row per class with its name, ``columns`` images a row.

    Args:
        sheets: of the teachers.
        path: of the picture.
        columns: images a row.
        title: of the whole picture, if any.
    """
    rows = max(len(s.class_names) for s in sheets)
    across = min(2, len(sheets))
    down = -(-len(sheets) // across)
    figure = Figure(figsize=(across * (1.4 + 0.42 * columns), down * (0.5 + 0.46 * rows)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    for axes in figure.subplots(down, across, squeeze=False).flat:
        axes.axis("off")
    for axes, sheet in zip(figure.axes, sheets, strict=False):
        canvas, size = _tile(sheet, columns)
        axes.imshow(canvas, interpolation="nearest")
        axes.axis("on")
        axes.set_xticks([])
        axes.set_yticks(
            [(r + 0.5) * size for r in range(len(sheet.class_names))], [_label(n) for n in sheet.class_names]
        )
        axes.tick_params(length=0, labelsize=8, colors=INK)
        axes.set_title(sheet.title, fontsize=9, color=INK, loc="left")
        for side in axes.spines.values():
            side.set_visible(False)
    return _save(figure, path, dpi=160)


def _tile(sheet: Sheet, columns: int) -> tuple[np.ndarray, int]:
    """The images of a sheet in a white raster, two pixels between them; and the raster's step."""
    height, width = sheet.images.shape[-2:]
    size, wide = height + 2, width + 2
    canvas = np.ones((size * len(sheet.class_names), wide * columns, 3), dtype=np.float32)
    for row in range(len(sheet.class_names)):
        for column, image in enumerate(sheet.images[sheet.labels == row][:columns]):
            pixels = image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
            canvas[row * size : row * size + height, column * wide : column * wide + width] = pixels
    return canvas, size


def _loss_terms(metrics: list[dict[str, Any]], names: list[str], path: Path) -> Path:
    """A small panel a term, since un-weighted terms differ in scale."""
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.4 * across, 2.3 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        steps, values = _points(metrics, name)
        axes.plot(steps, values, color=FAINT, linewidth=0.8, marker="" if len(values) > 2 else "o")
        window = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color=LINE, linewidth=1.6)
        tidy(axes, name.replace("/", ": ").replace("_", " "), "step", "")
    return _save(figure, path)


def _points(metrics: list[dict[str, Any]], name: str, over: str = "step") -> tuple[list[float], list[float]]:
    pairs = [(float(line[over]), float(line[name])) for line in metrics if isinstance(line.get(name), int | float)]
    finite = [(x, y) for x, y in pairs if np.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]


def tidy(axes: Axes, title: str, x: str, y: str) -> None:
    """The look of every curve: title, names of the axes, faint lines behind."""
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png(figure: Figure) -> bytes:
    """A picture that is no file of its own."""
    FigureCanvasAgg(figure).print_figure(content := BytesIO(), format="png", dpi=130, facecolor="white")
    return content.getvalue()


def _label(name: str) -> str:
    """A class name that fits beside a row; dollar signs would start mathematics."""
    return (name if len(name) <= 18 else name[:17] + "…").replace("$", r"\$")


def _save(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write a picture.

    Raises:
        InputError: it cannot be written, or its ending is of no kind of picture.
    """
    content, kind = BytesIO(), path.suffix.removeprefix(".") or "png"
    canvas = FigureCanvasAgg(figure)
    try:
        canvas.print_figure(content, dpi=dpi, format=kind, facecolor="white", bbox_inches="tight", pad_inches=0.1)
    except ValueError as error:
        raise InputError(f"{path}: {error}", "a picture's ending, .png say", "change the name") from error
    write_atomic(path, content.getvalue())
    return path
