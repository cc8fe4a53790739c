"""Whether the mean and std on a card are those of the network: asked of its first BatchNorm layer, without data."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dfml.functional.priors import batchnorm_alignment
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher
from dfml.zoo_building.recognition import Gift, above_chance, ask, claims, shown_to
from dfml.zoo_building.standing import CUT, Standings

Constants = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std, a value a channel."""

USUAL: tuple[Constants, ...] = (
    ((0.5,) * 3, (0.25,) * 3),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.0,) * 3, (1.0,) * 3),
    ((0.5,) * 3, (0.5,) * 3),
)
ODD = 2.7  # times the median misfit: worth trying other constants
CLEARLY = 0.4  # of its own misfit: another pair that fits so much better is the right one
LOSS = 0.12  # of the images: what a network may recognise less of them by chance, under constants that are right
SHOWN = 150  # images at most


@dataclass(frozen=True)
class Shown:
    """What a network is shown: images that trusted others gave for its classes, and its outputs for these classes."""

    teacher: Teacher
    images: Float[Tensor, "n c h w"]
    places: Int[Tensor, " n"]

    def under(self, constants: Constants) -> "Shown":
        """As if the card gave these constants."""
        return replace(self, images=under(self.teacher.card.input_spec, constants, self.images))

    @property
    def misfit(self) -> float:
        """How far the first BatchNorm layer's input is from what the layer knows; NaN where there is no such layer."""
        return first_layer_misfit(self.teacher, self.images)

    @property
    def recognised(self) -> float:
        """Share of the images in the class that they were made for."""
        return float((ask(self.teacher, self.images).argmax(-1) == self.places).float().mean())


def wrong_constants(zoo: Zoo, gifts: dict[str, Gift], standing: Standings, rng: Rng) -> dict[str, str]:
    """Evidence, by model, that another mean and std fit its network clearly better."""
    claimants = claims(zoo)
    good = {model: gift for model, gift in gifts.items() if standing.trusted[zoo.number_of[model]]}

    def shown(model: str) -> Shown | None:
        return _shown(zoo, model, shown_to(zoo, model, good, claimants, rng), rng)

    misfits = {model: there.misfit for model in zoo.ids if (there := shown(model))}
    typical = float(
        torch.tensor([m for i, m in misfits.items() if standing.trusted[zoo.number_of[i]]] or [0.0]).nanmedian()
    )
    odd = [model for model, misfit in misfits.items() if misfit > ODD * typical]
    candidates = _candidates(zoo)
    found = {}
    for model in odd:
        there = shown(model)
        if there and (evidence := _better(there, candidates, standing.median)):
            found[model] = evidence
    return found


def _shown(zoo: Zoo, model: str, gifts: list[tuple[str, int, Tensor]], rng: Rng) -> Shown | None:
    if not gifts or Capability.BN_STATISTICS not in zoo.capabilities(model):
        return None
    images = torch.cat([part for *_, part in gifts])
    places = torch.cat([torch.full((len(part),), place) for _, place, part in gifts])
    drawn = torch.randperm(len(images), generator=rng.generator(model, "shown"))[:SHOWN]
    return Shown(zoo.teacher(model), images[drawn].float() / 255, places[drawn])


@torch.no_grad()
def first_layer_misfit(teacher: Teacher, images: Float[Tensor, "n c h w"]) -> float:
    """BatchNorm alignment of the first such layer alone: 0 where the images look to it as its own data did."""
    statistics = teacher.forward(images.to(teacher.device), statistics=True).statistics
    return float(batchnorm_alignment(statistics[:1])) if statistics else float("nan")


def under(spec: InputSpec, constants: Constants, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images that the card's own mean and std turn into what other constants would make of the given ones."""
    mean, std, other_mean, other_std = (
        torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std, *constants)
    )
    return mean + std * (spec.fit(images) - other_mean) / other_std


def _better(shown: Shown, candidates: list[Constants], median: float) -> str | None:
    """Evidence that one of the candidates fits a network clearly better, and lets it recognise no less."""
    card, misfit, own = shown.teacher.card, shown.misfit, shown.recognised
    others = [c for c in candidates if len(c[0]) == card.input_spec.channels]
    if not others:
        return None
    fit, (mean, std) = min((shown.under(c).misfit, c) for c in others)
    share = shown.under((mean, std)).recognised
    # A network that recognises nothing under any constants has another fault.
    enough = above_chance(share, len(card.class_ids)) > CUT / 2 * median
    if fit > CLEARLY * misfit or share < own - LOSS or not enough:
        return None
    return (
        f"with mean {_text(mean)} and std {_text(std)} in place of {_text(card.input_spec.mean)} and "
        f"{_text(card.input_spec.std)} its first BatchNorm layer is {misfit / fit:.1f} times nearer to what it knows, "
        f"and it puts {share:.0%} of {len(shown.images)} images into the right class, "
        f"where the card's let it put {own:.0%}"
    )


def _candidates(zoo: Zoo) -> list[Constants]:
    """What the cards say, and what is usual."""
    specs = [zoo.input_spec(model) for model in zoo.ids]
    return sorted({(tuple(spec.mean), tuple(spec.std)) for spec in specs} | set(USUAL))


def _text(values: tuple[float, ...] | list[float]) -> str:
    return "/".join(f"{v:.3g}" for v in dict.fromkeys(values))
