"""The demonstration: from the embedded zoo, without data, to a table, pictures and predicted labels."""

import shutil
import time
from pathlib import Path

from PIL import Image
from rich.console import Console

from dfml.data import DataSplits, ImageSet, load_data
from dfml.errors import InputError
from dfml.learners.predictor_file import load_predictor, save_predictor
from dfml.report import score_table
from dfml.runs.progress import clock, console_progress
from dfml.runs.results import evaluate_run
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.runs.train import train
from dfml.zoo import Zoo

EPISODES = 2000  # for frozen features, as both learners have
SHEETS = 4  # teachers in the picture of recovered images
TASK_WAY, TASK_SHOT, TASK_QUERIES = 5, 5, 6  # of the closing act


def run_demo(
    out: Path, *, console: Console, full: bool = False, minutes: float | None = None, zoo: str | Path = "glyphs"
) -> Run:
    """Train, compare, picture, adapt and predict.

    Args:
        out: gets ``run`` and ``free``, ``support``, ``query`` and ``predictor``; an earlier demonstration there is
            replaced.
        console: where to print.
        full: all episodes, and transductive columns.
        minutes: of training each of the two; None is that of their recipes.
        zoo: a zoo of glyphs.

    Raises:
        InputError: ``out`` holds other things or cannot be written.
    """
    start = time.monotonic()
    _clear(out)
    opened, data = Zoo.open(zoo), load_data("glyphs")
    facts = f"{len(opened.ids)} classifiers of {len(opened.class_ids)} glyph classes, none of their images"
    console.print(f"[bold]1. Train[/]  {facts}")
    with console_progress(console) as progress:
        run = train(opened, out=out / "run", recipe="demo", minutes=minutes, on_progress=progress)
    console.print("   and FREE, to compare with")
    with console_progress(console) as progress:
        free = train(opened, out=out / "free", recipe="demo_free", minutes=minutes, on_progress=progress)
    console.print("\n[bold]2. Compare[/]  on glyph classes that no teacher has seen: 5-way, % correct, 95 % intervals")
    _compare(run, free, data, full, console)
    console.print("[bold]3. Look[/]")
    pictures = [run.recover(teachers=opened.ids[:SHEETS])[-1], *sorted(run.folder.plots.glob("*.png"))]
    for picture in pictures:
        console.print(f"   {picture}", soft_wrap=True)
    console.print("\n[bold]4. Adapt and predict[/]")
    _adapt_and_predict(run, data.test, out, console)
    console.print(f"\nDone in {clock(time.monotonic() - start)} minutes; everything is in {out}/", soft_wrap=True)
    return run


def _clear(out: Path) -> None:
    """Remove an earlier demonstration, and nothing else."""
    if (out / "run").exists() and not RunFolder(out / "run").config.recipe.startswith("demo"):
        raise InputError(f"{out / 'run'}: a run of another recipe", "a folder for the demonstration", "change --out")
    try:
        for name in ("run", "free", "support", "query", "predictor"):
            shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error})", "a folder that you may write", "change --out"
        ) from error


def _compare(run: Run, free: Run, data: DataSplits, full: bool, console: Console) -> None:
    episodes = None if full else EPISODES
    scores = evaluate_run(run, data, episodes=episodes, baselines=True, transductive=full)
    beside = evaluate_run(free, data, episodes=episodes, transductive=full)
    console.print(score_table(scores, [beside]))
    for shot, (mean, ci95) in scores.gains().items():
        console.print(f"   {shot}-shot: {mean:+.1f} ± {ci95:.1f} against the mean single teacher, paired")
    console.print()


def _adapt_and_predict(run: Run, images: ImageSet, out: Path, console: Console) -> None:
    """Write a task as a person would have it, adapt to it, and label images that the support does not hold."""
    queries = []
    step = len(images.class_names) // TASK_WAY
    for c in range(0, TASK_WAY * step, step):
        name, members = images.class_names[c], images.members[c].tolist()
        for k, i in enumerate(members[: TASK_SHOT + TASK_QUERIES]):
            folder = out / ("support" if k < TASK_SHOT else "query") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[i].permute(1, 2, 0).numpy()).save(folder / f"{k}.png")
            queries += [(folder / f"{k}.png", name)] if k >= TASK_SHOT else []
    classifier = run.adapt(out / "support")
    save_predictor(classifier, out / "predictor")
    answer = load_predictor(out / "predictor").predict_files([path for path, _ in queries])
    right = sum(label == name for label, (_, name) in zip(answer.labels, queries, strict=True))
    console.print(f"   {TASK_WAY} new classes, {TASK_SHOT} images of each in {out / 'support'}", soft_wrap=True)
    for n in range(0, len(queries), TASK_QUERIES):
        probability = 100 * float(answer.probabilities[n].max())
        path = queries[n][0].relative_to(out)
        console.print(f"   {path}  ->  {answer.labels[n]}  {probability:.0f} %", soft_wrap=True, highlight=False)
    console.print(f"   {right} of {len(queries)} new images labelled right", highlight=False)
    console.print(f"   try: dfml predict {out / 'predictor'} {queries[0][0]}", soft_wrap=True, highlight=False)
