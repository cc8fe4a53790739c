"""What a run will take, said when it starts; and that it was too short, when it ends."""

from dfml.methods.base import AbstractMethod, AbstractState
from dfml.recipes.options import RunOptions
from dfml.zoo.foreign_files import weight_file
from dfml.zoo.store import Zoo

LOOKED_AT = 50  # weight files whose sizes stand for all


def start_notes(zoo: Zoo, state: AbstractState) -> tuple[str, ...]:
    """What the method left out or cut, models that are set aside, and memory: where it is more than a trifle."""
    notes = list(state.notes)
    if zoo.aside:
        notes.append(f"{len(zoo.aside)} models are set aside: {', '.join(list(zoo.aside)[:5])}.")
    sizes = [path.stat().st_size for i in zoo.ids[:LOOKED_AT] if (path := weight_file(zoo.path, zoo.entry(i))).exists()]
    total = sum(sizes) * len(zoo) // max(1, len(sizes))
    if total > zoo.cache_bytes:
        notes.append(
            f"The models take {_size(total)}, of which {_size(zoo.cache_bytes)} stay in memory (--run.cache); "
            "the others are read again when they are asked."
        )
    return tuple(notes)


def cost_notes(options: RunOptions, step: int, seconds: float) -> tuple[str, ...]:
    """After the first step: what one costs, and how many fit into the budget."""
    each = seconds / step
    if each < 1:  # nobody waits for so little
        return ()
    told = []
    if options.minutes:
        told.append(f"{int(60 * options.minutes / each)} fit into {options.minutes:g} min")
    if options.steps:
        told.append(f"{options.steps} take {options.steps * each / 60:.1f} minutes")
    return (f"A step takes {each:.1f} seconds: {', '.join(told)}.",)


def end_notes(method: AbstractMethod, step: int) -> tuple[str, ...]:
    """After the last step: that there were far too few of them, if so."""
    if step >= method.least_steps:
        return ()
    return (
        f"This run is far too short, {step} step{'s' if step > 1 else ''} where {method.least_steps} are the least and "
        "the recipes take more: expect no more of it than of one of its models (--resume with more --steps or "
        "--minutes goes on).",
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
