"""Whether a run that ended has learned anything, by its own metrics."""

from collections.abc import Sequence
from statistics import median
from typing import Any

NEAR_CHANCE = 2.0  # percent above it
GROWN = 10.0  # times: a loss that ends so much larger than it began
ENDS = 10  # steps of which the median is taken, at either end


def doubts(metrics: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Plain sentences on accuracy at chance and losses that grew; none where nothing is odd.

    Args:
        metrics: a line a step, as in ``metrics.jsonl``.
    """
    told = []
    judged = [line for line in metrics if line.get("pseudo_val") is not None and line.get("pseudo_val_chance")]
    if judged and (last := judged[-1])["pseudo_val"] < last["pseudo_val_chance"] + NEAR_CHANCE:
        told.append(
            f"Accuracy on held-out recovered classes is {last['pseudo_val']:.1f} %, where chance is "
            f"{last['pseudo_val_chance']:.0f} %: nothing was learned. Look at the losses (plots), the recovered images "
            "(`dfml recover`), the models (`dfml zoo audit`), and step sizes that were changed."
        )
    for name in dict.fromkeys(key for line in metrics for key in line if "loss" in key):
        values = [line[name] for line in metrics if isinstance(line.get(name), int | float)]
        if len(values) < 2 * ENDS:
            continue
        first, end = median(map(abs, values[:ENDS])), median(map(abs, values[-ENDS:]))
        if end > GROWN * max(first, 1e-3):
            told.append(
                f"{name} grew from {first:.3g} to {end:.3g}: training diverged. Lower the step sizes, and train anew."
            )
    return tuple(told)
