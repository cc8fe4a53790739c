"""Which runs cannot stand in one table: of another zoo, or judged on something else."""

from collections.abc import Sequence
from typing import Any

from dfml.errors import InputError
from dfml.runs.judged import JudgedRun
from dfml.runs.per_episode import PerEpisode

TASK = ("split", "way", "queries")  # of a result: what was asked


def value_of(run: JudgedRun, name: str) -> Any:
    """The zoo goes by its content, whatever it is called."""
    return run.about["zoo"]["hash"] if name == "zoo" else run.about[name]


def refuse_mixed(runs: Sequence[JudgedRun]) -> None:
    """Refuse runs that cannot stand in one table; the reference is the first of those that most can stand beside.

    Raises:
        InputError: names each run that differs, and in what.
    """
    reference = min(runs, key=lambda run: sum(bool(_differences(other, run)) for other in runs))
    differ = [f"\n  - {run.path}: {'; '.join(told)}" for run in runs if (told := _differences(run, reference))]
    if differ:
        raise InputError(
            f"{len(differ)} of {len(runs)} runs cannot stand beside {reference.path}{''.join(differ)}",
            "runs in one zoo, judged on the same episodes of the same split",
            "leave those out, judge them anew (`dfml evaluate RUN --data DATA --split ...`), or ask for a mixed table "
            "(--mix)",
        )


def _differences(run: JudgedRun, reference: JudgedRun) -> list[str]:
    """In what a run differs from another one, in words."""
    told = []
    if value_of(run, "zoo") != value_of(reference, "zoo"):
        zoos = [f"{r.zoo} ({str(value_of(r, 'zoo'))[:15]}...)" for r in (run, reference)]
        told.append(f"zoo {zoos[0]}, not {zoos[1]}")
    asked = [f"{n} {run.about[n]}, not {reference.about[n]}" for n in TASK if run.about[n] != reference.about[n]]
    if asked:  # other episodes, then, in any case
        return told + asked
    for shot in sorted(run.results.keys() & reference.results.keys()):
        if not _same_episodes(run, reference, shot):
            ours, theirs = (_episodes(r.results[shot]) for r in (run, reference))
            told.append(f"{shot}-shot episodes of {run.about['data']}: {ours}, not the same as {theirs}")
    return told


def _episodes(result: dict[str, Any]) -> str:
    return f"{result['episodes']} ({str(result['manifest'])[:15]}...)"


def _same_episodes(run: JudgedRun, other: JudgedRun, shot: int) -> bool:
    """Whether one list of episodes is the beginning of the other's, as far as the results tell."""
    lists = [r.per_episode.get((shot, "inductive")) for r in (run, other)]
    if isinstance(lists[0], PerEpisode) and isinstance(lists[1], PerEpisode):
        return lists[0].same_episodes(lists[1])
    ours, theirs = (
        {score["episodes"]: score.get("manifest") for score in r.results[shot]["accuracy"].values()}
        for r in (run, other)
    )
    return any(ours[n] == theirs[n] for n in ours.keys() & theirs.keys())
