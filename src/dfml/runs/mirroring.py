"""Whether the classes of a zoo stay what they are in a mirror, asked of its own models before training."""

from collections.abc import Sequence

import torch

from dfml.randomness import Rng
from dfml.recipes.options import Config
from dfml.recovery import DeepInversion, Visit
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo

ALIKE = 0.8  # docs/consolidation.md has what zoos of photographs and of characters read
STEPS = 25
SMALL = 96  # pixels up to which several teachers are asked; of larger images one, on fewer


def with_mirroring(config: Config, zoo: Zoo) -> tuple[Config, tuple[str, ...]]:
    """The configuration with every ``flip`` that was left open decided, and what was found.

    Recovered images that a teacher still takes for the same class in a mirror may be mirrored in training. Where no
    model has gradients to recover images by, they are.
    """
    left_open = [name for name, values in config.sections.items() if values.get("flip", False) is None]
    if not left_open:
        return config, ()
    share = share_alike(zoo)
    flip = share is None or share >= ALIKE
    sections = {s: v | ({"flip": flip} if s in left_open else {}) for s, v in config.sections.items()}
    if share is None:
        said = "No model of the zoo has gradients to find out whether images may be mirrored: they are (flip)."
    else:
        said = f"Mirrored, {100 * share:.0f} % of recovered images keep their class: images are "
        said += "mirrored in training (flip)." if flip else "not mirrored in training (flip)."
    return Config(config.recipe, sections), (said,)


def share_alike(zoo: Zoo, seed: int = 0) -> float | None:
    """Share of images, recovered without mirroring, that have the same class in a mirror; None without gradients."""
    able = [i for i in zoo.ids if Capability.LOGITS | Capability.GRADIENTS in zoo.capabilities(i)]
    chosen = [able[i] for i in torch.randperm(len(able), generator=Rng(seed).generator("mirroring")).tolist()]
    chosen.sort(key=lambda i: max(zoo.input_spec(i).shape[1:]) > SMALL)  # the small ones first
    if not chosen:
        return None
    large = max(zoo.input_spec(chosen[0]).shape[1:]) > SMALL
    teachers, classes, images = (1, 4, 2) if large else (3, 5, 4)
    return sum(_alike(zoo, name, classes, images, Rng(seed)) for name in chosen[:teachers]) / len(chosen[:teachers])


def _alike(zoo: Zoo, name: str, classes: int, images: int, rng: Rng) -> float:
    teacher = zoo.teacher(name)
    known: Sequence[int] = range(len(teacher.card.class_ids))[:classes]
    pixels = DeepInversion(start="natural", steps=STEPS, flip=False)
    visit = Visit(teacher, torch.tensor(known).repeat(images))
    (shown,) = pixels.recover(pixels.init(zoo.canvas, rng), [visit], rng=rng.at("mirroring", name))
    said, mirrored = (teacher.answers(x, "labels") for x in (shown.images, shown.images.flip(-1)))
    return float((said == mirrored).float().mean())
