"""The words of older runs, in those of today."""

from dfml.errors import InputError
from dfml.recipes.options import Sections

MOVED = {
    f"replay_{key}": key for key in ("patience", "limit", "episodes", "lr", "together")
} | {key: key for key in ("way", "shot", "queries")}  # fmt: skip
"""Of FREE: hyper-parameters that now stand in ``[replay]``."""
RENAMED = {"committee": "answering_teachers"}
REMOVED = {
    "method": {
        "head": "class", "with_replacement": False, "fast_optimiser": "sgd", "reptile_scale": None,
        "shared_optimiser": False, "distillation": "kl", "bank_keeps": "all", "bank_floor": False,
        "stale_student": False,
    },
    "recovery": {
        "bn_form": "relative", "adversarial_form": "kl", "augment_per_sample": True, "persistent_optimiser": True,
        "last_step": True,
    },
}  # fmt: skip
"""Switches for the published code, which is a method of its own now, and the values that are what is done today."""


def upgraded(sections: Sections) -> Sections:
    """The same configuration with the names of today.

    Raises:
        InputError: a switch that is gone, at a value that this dfml cannot follow.
    """
    kept = {section: dict(values) for section, values in sections.items()}
    for section, switches in REMOVED.items():
        values = kept.get(section, {})
        gone = {k: values.pop(k) for k in switches if k in values and values.get("name") in ("free", "meta_generator")}
        if changed := [f"{section}.{k} = {v!r}" for k, v in gone.items() if v != switches[k]]:
            raise InputError(
                ", ".join(changed), "hyper-parameters of this dfml", "use the dfml that made it, or train again"
            )
    method = kept["method"]
    if method.get("name") == "free" and "replay" not in kept:
        kept["replay"] = {new: method.pop(old) for old, new in MOVED.items() if old in method}
    for old, new in RENAMED.items():
        if old in method:
            method[new] = method.pop(old)
    return kept
