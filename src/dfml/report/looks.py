"""What a report shows of a run besides its numbers: what it recovered, learned and was told, as PNG pictures."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dfml.data import load_support
from dfml.data.image_set import ImageSet
from dfml.functional.drawing import dead_leaves
from dfml.functional.kernel_alignment import kernel_alignment
from dfml.learners.base import embed
from dfml.randomness import Rng
from dfml.runs.plots import contact_sheet, plot_curves, png, sheet_of, tidy
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.training.bank import as_bytes
from dfml.zoo.views import local, logit_answers

TEACHERS = 4  # on the sheets and the map
MATRIX = 60  # teachers in the matrix of agreement
DRAWN = 128  # images that they are asked about
REAL = 300  # images on the map
TOLD = 3  # classes that an image looks most like


def curves(run: Run) -> list[bytes]:
    """Losses by step, and progress by minute."""
    with TemporaryDirectory() as folder:
        return [path.read_bytes() for path in plot_curves(run.folder.metrics(), Path(folder))]


def sheets(run: Run) -> dict[int, bytes]:
    """What some teachers' classes look like at each checkpoint that was kept, by step; none of a method without."""
    drawn = {step: sheet(as_of(run, step), run.zoo.ids[:TEACHERS]) for step in steps(run)}
    return {step: picture for step, picture in drawn.items() if picture is not None}


def steps(run: Run) -> list[int]:
    """Those after which a checkpoint was kept, in their order."""
    return sorted(run.folder.checkpoints.steps())


def as_of(run: Run, step: int) -> Run:
    """The run as it was at one of its checkpoints."""
    return Run(RunFolder(run.path), run.zoo, checkpoint=run.folder.checkpoints.path(step))


def sheet(run: Run, teachers: Sequence[str]) -> bytes | None:
    """What these teachers' classes look like; None of a method that recovers nothing."""
    drawn = [
        sheet_of(name, recovered, run.zoo.cards[name].class_names)
        for name in teachers
        for recovered in run.recovered(name)
    ]
    if not drawn:
        return None
    with TemporaryDirectory() as folder:
        return contact_sheet(drawn, Path(folder) / "sheet.png", columns=8).read_bytes()


def agreement(run: Run) -> tuple[bytes, float] | None:
    """How alike teachers answer about the same drawn images, whatever their classes (`kernel_alignment`).

    Returns:
        The matrix, and its mean off the diagonal; None of fewer than two teachers that are here. Those behind an API
        are not asked: that may cost money.
    """
    canvas = run.zoo.canvas
    images = dead_leaves(DRAWN, canvas.channels, canvas.size, Rng(0).generator("drawn"))
    told: list[Tensor] = []
    for name in run.zoo.ids:
        if len(told) < MATRIX and local(teacher := run.zoo.teacher(name)) is not None:
            told.append(logit_answers(teacher, images).float().softmax(-1).cpu())
    if len(told) < 2:
        return None
    alike = kernel_alignment(told)
    figure = Figure(figsize=(4.6, 3.9), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(alike, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    tidy(axes, f"alignment of {len(told)} teachers' answers", "teacher", "teacher")
    axes.grid(False)
    return png(figure), float((alike.sum() - len(told)) / (len(told) * (len(told) - 1)))


def feature_map(run: Run, real: ImageSet) -> bytes | None:
    """Where the learner puts recovered images and real ones: the two leading directions of both together.

    Returns:
        None of a method that recovers nothing.
    """
    recovered = [shown.images for name in run.zoo.ids[:TEACHERS] for shown in run.recovered(name)]
    if not recovered:
        return None
    drawn = torch.randperm(len(real), generator=Rng(0).generator("real"))[:REAL]
    networks = run.learner.networks
    with torch.no_grad():
        groups = {name: embed(networks, images).float() for name, images in (
            ("recovered", torch.cat(recovered).cpu()), ("real", real.batch(drawn))
        )}  # fmt: skip
    places = _leading(torch.cat(list(groups.values())))
    figure = Figure(figsize=(4.6, 3.9), layout="constrained")
    axes = figure.subplots()
    for (name, features), colour in zip(groups.items(), ("#d9822b", "#1f5fa8"), strict=True):
        own, places = places[: len(features)], places[len(features) :]
        axes.scatter(own[:, 0], own[:, 1], s=7, alpha=0.6, linewidths=0, color=colour, label=name)
    axes.legend(fontsize=8, frameon=False)
    tidy(axes, "features of the learner", "first direction", "second direction")
    return png(figure)


def _leading(features: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Principal components."""
    centred = features - features.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * sizes[:2]


def told_of(run: Run, support: str | Path) -> list[tuple[bytes, str, list[tuple[str, float]]]]:
    """Each image of a support folder, its class there, and the zoo's classes that it looks most like to the teachers.

    Returns:
        With each class of the zoo the mean probability, in percent, that the teachers which know it give it.
    """
    images, labels, names = load_support(support, run.zoo.canvas)
    total = torch.zeros(len(images), len(run.zoo.class_ids))
    asked = torch.zeros(len(run.zoo.class_ids))
    for name in run.zoo.ids:
        if local(teacher := run.zoo.teacher(name)) is not None:
            rows = run.zoo.rows(name)
            total[:, rows] += logit_answers(teacher, images).float().softmax(-1).cpu()
            asked[rows] += 1
    chances, places = (100 * total / asked.clamp(min=1)).topk(min(TOLD, total.shape[1]), -1)
    classes = [run.zoo.class_names[c] for c in run.zoo.class_ids]
    return [
        (thumbnail(image), names[label], [(classes[c], p) for c, p in zip(cs, ps, strict=True)])
        for image, label, cs, ps in zip(images, labels.tolist(), places.tolist(), chances.tolist(), strict=True)
    ]


def thumbnail(image: Float[Tensor, "c h w"]) -> bytes:
    """One image, as it is."""
    pixels = as_bytes(image[None])[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(content := BytesIO(), format="png")
    return content.getvalue()
