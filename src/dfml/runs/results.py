"""A run judged on real classes: the table that a person reads and the ``result.json`` that a table is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dfml.compute.devices import Accelerator, devices
from dfml.compute.executor import SERIAL, Executor
from dfml.data import DataSplits, ImageSet, load_split
from dfml.data.pictures import GROUND
from dfml.errors import InputError
from dfml.evaluation.baselines import BaselineScores, baseline_scores
from dfml.evaluation.evaluate import EPISODES, FROZEN_EPISODES, Progress, check_disjoint, evaluate_shots
from dfml.evaluation.manifest import make_manifest
from dfml.evaluation.score import Score, paired_difference
from dfml.randomness import Rng
from dfml.runs.per_episode import write_per_episode
from dfml.runs.provenance import commit
from dfml.runs.run import Run

RESULT_SCHEMA = 1


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run, by shot.

    Args:
        name: the method's name.
        networks: how many networks it needs at inference.
        scores: shot -> ``inductive`` and, where asked for, ``transductive``.
        baselines: shot -> baselines on the same episodes, where asked for.
        results: what ``result.json`` holds, a row per shot.
        unwritten: why ``result.json`` could not be written, where it could not: the scores are not lost for that.
    """

    name: str
    networks: int
    scores: dict[int, dict[str, Score]]
    baselines: dict[int, BaselineScores]
    results: list[dict[str, Any]]
    unwritten: InputError | None = None

    @property
    def rows(self) -> list[tuple[str, int, dict[int, dict[str, Score]]]]:
        """Name, networks at inference and scores by shot of every line of the table, weakest kind first."""
        own = (self.name, self.networks, self.scores)
        if not self.baselines:
            return [own]

        def line(name: str, attribute: str, networks: int) -> tuple[str, int, dict[int, dict[str, Score]]]:
            return name, networks, {shot: {"inductive": getattr(b, attribute)} for shot, b in self.baselines.items()}

        teachers = len(next(iter(self.baselines.values())).teachers)
        return [
            line("random", "random", 1),
            line("mean single teacher", "single_teacher_mean", 1),
            line("best single teacher", "single_teacher_best", 1),
            own,
            line("zoo ensemble", "zoo_ensemble", teachers),
        ]

    def at_chance(self, way: int) -> list[int]:
        """The shots whose inductive accuracy may be that of guessing among ``way`` classes, by its 95 % interval."""
        inductive = {shot: kinds["inductive"] for shot, kinds in self.scores.items()}
        return [shot for shot, score in inductive.items() if score.mean - score.ci95 <= 100 / way]

    def gains(self) -> dict[int, tuple[float, float]]:
        """By shot the paired difference to the mean single teacher, inductive, with half its 95 % interval."""
        return {
            shot: paired_difference(self.scores[shot]["inductive"], b.single_teacher_mean)
            for shot, b in self.baselines.items()
        }


def evaluate_run(
    run: Run,
    data: str | Path | DataSplits,
    *,
    split: Literal["test", "val"] = "test",
    shots: Sequence[int] = (1, 5),
    way: int = 5,
    queries: int = 15,
    episodes: int | None = None,
    baselines: bool = False,
    transductive: bool = True,
    size: int | None = None,
    ground: str = GROUND,
    accelerator: Accelerator = "cpu",
    progress: Progress | None = None,
    executor: Executor = SERIAL,
) -> Evaluation:
    """Judge a run on classes that no teacher has seen; write ``result.json``, and ``per_episode.npz`` beside it.

    Args:
        run: a trained run.
        data: where the real images are; see `dfml.data.load_data`. All classes are judged on where they are not split
            and no teacher knows any of them. Images are fitted to the networks.
        split: the part to use.
        shots: support images of a class.
        way: classes of an episode.
        queries: query images of a class.
        episodes: None is 600 where there is an inner loop and 10,000 for frozen features.
        baselines: also random, single teachers and the zoo ensemble, on the same episodes.
        transductive: also with BatchNorm statistics of the query batch.
        size: pixels of a side to read images of folders at; None is what the learner takes.
        ground: the colour behind transparent pixels of image files.
        accelerator: ``auto`` computes on a GPU where torch finds one.
        progress: called with what is done and to do.
        executor: what episodes and teachers are shared out to; see `dfml.compute.local.start_executor`.

    Raises:
        InputError: classes that the zoo knows, fewer classes or images than asked for.
    """
    name, images = _images(run, data, split, size, ground)
    check_disjoint(run.zoo, images)
    device = devices(accelerator)[0]
    learner = run.learner.to(device)
    kind = {"split": split, "way": way, "queries": queries}
    scores = evaluate_shots(
        learner,
        images,
        shots=shots,
        episodes=episodes,
        transductive_episodes=min(episodes or EPISODES, EPISODES) if transductive else 0,
        progress=progress,
        executor=executor,
        **kind,  # type: ignore[arg-type]
    )
    compared: dict[int, BaselineScores] = {}
    if baselines:
        manifests = [make_manifest(images, shot=s, episodes=episodes or FROZEN_EPISODES, **kind) for s in shots]  # type: ignore[arg-type]
        rng, zoo = Rng(run.folder.config.run.seed).at("baselines"), run.zoo.as_black_boxes(None).on(device)
        read = baseline_scores(zoo, images, manifests, rng=rng, progress=progress, executor=executor)
        compared = dict(zip(shots, read, strict=True))
    about = learner.describe()
    results = [_result(run, Path(name).stem, scores[s], compared.get(s), {"shot": s} | kind, about) for s in shots]
    unwritten = None
    try:
        kept = write_per_episode(run.path, scores)
        run.folder.write_result({"schema": RESULT_SCHEMA, "per_episode": kept, "results": results})
    except InputError as error:
        unwritten = error
    method = run.folder.config.sections["method"]["name"]
    return Evaluation(method, int(about.get("networks_at_inference", 1)), scores, compared, results, unwritten)


def _images(
    run: Run, data: str | Path | DataSplits, split: Literal["test", "val"], size: int | None, ground: str
) -> tuple[str, ImageSet]:
    """The images to judge on, and what they are called."""
    if isinstance(data, DataSplits):
        return data.name, getattr(data, split)
    known, size = set(run.zoo.class_names.values()), size or run.learner.networks[0].spec.size
    return str(data), load_split(data, split, known=known, size=size, ground=ground)


def _result(
    run: Run,
    data: str,
    scores: dict[str, Score],
    baselines: BaselineScores | None,
    task: dict[str, Any],
    about: dict[str, Any],
) -> dict[str, Any]:
    """One row, with the keys that the protocol names."""
    config, totals = run.folder.config, run.checkpoint["totals"]
    inductive = scores["inductive"]
    row = {
        "schema": RESULT_SCHEMA,
        "name": config.recipe,
        "method": config.sections["method"]["name"],
        "recipe_hash": config.hash,
        "data": data,
        "scenario": "plain",
        **task,
        "episodes": len(inductive.per_episode),
        "manifest": inductive.manifest.hash if inductive.manifest else None,
        "zoo": {k: run.folder.about["zoo"][k] for k in ("hash", "recipe", "models", "architectures")},
        "networks_at_inference": 1,
        **about,
        "norm_train": run.learner.norm,
        "accuracy": {kind: score.to_dict() for kind, score in scores.items()},
        "seeds": [config.run.seed],
        "uses_data": run.method.uses_data,
        "answers": config.run.answers,
        "questions": _questions(run),
        "checkpoint": run.method.ships,
        "steps": run.checkpoint["step"],
        "seconds": {k: round(totals[k], 1) for k in ("recover", "total")}
        | {"train": round(totals["total"] - totals["recover"], 1)},
        "cpu_seconds": round(totals["cpu"], 1),
        "images_recovered": int(totals["images"]),
        "teacher_queries": int(totals["queries"]),
        "peak_memory_mb": round(totals["peak_memory_mb"]),
        "load": round(totals["load"], 2),
        "device": f"{totals['device']} x{run.folder.threads}",
        "torch": torch.__version__,
        "commit": commit(),
    }
    return row | ({"baselines": baselines.to_dict()} if baselines else {})


def _questions(run: Run) -> dict[str, int] | None:
    """What models were asked, in all and the one that was asked most; of methods that count it."""
    asked = run.checkpoint["state"].get("questions", {}).get("asked", {})
    return {"in_all": sum(asked.values()), "of_one_model": max(asked.values())} if asked else None
