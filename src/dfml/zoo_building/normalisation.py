"""Whether the mean and std on a card are those of the network: asked of its first BatchNorm layer, without data."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
ODD = 3.0  # times the median misfit: worth trying other constants
CLEARLY = 0.3  # of its own misfit: another pair that fits so much better is the right one
GAIN = 0.03  # more of the images recognised: with constants that are right anyway, it is as often less
SHOWN = 150  # images at most


@dataclass(frozen=True)
class Evidence:
    """What one network was shown: images by trusted others of its classes, their outputs, and the misfit."""

    images: Float[Tensor, "n c h w"]
    places: Tensor
    misfit: float


def misfits(zoo: Zoo, gifts: dict[str, Gift], trusted: Bool[Tensor, " models"], rng: Rng) -> dict[str, Evidence]:
    """How far the first BatchNorm layer's input is from what the layer knows, under the card's own mean and std."""
    found, claimants = {}, claims(zoo)
    good = {model: gift for model, gift in gifts.items() if trusted[zoo.number_of[model]]}
    for model in zoo.ids:
        shown = shown_to(zoo, model, good, claimants, rng)
        if not shown or Capability.BN_STATISTICS not in zoo.capabilities(model):
            continue
        teacher = zoo.teacher(model)
        images = torch.cat([part for *_, part in shown]).float() / 255
        places = torch.cat([torch.full((len(part),), place) for _, place, part in shown])
        drawn = torch.randperm(len(images), generator=rng.generator(model, "shown"))[:SHOWN]
        images, places = images[drawn], places[drawn]
        misfit = first_layer_misfit(teacher, images)
        if misfit is not None:
            found[model] = Evidence(images, places, misfit)
    return found


@torch.no_grad()
def first_layer_misfit(teacher: Teacher, images: Float[Tensor, "n c h w"]) -> float | None:
    """BatchNorm alignment of the first such layer alone: 0 where the images look to it as its own data did."""
    statistics = teacher.forward(images.to(teacher.device), statistics=True).statistics
    return float(batchnorm_alignment(statistics[:1])) if statistics else None


def under(spec: InputSpec, constants: Constants, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images that the card's own mean and std turn into what other constants would make of the given ones."""
    mean, std, other_mean, other_std = (
        torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std, *constants)
    )
    return mean + std * (spec.fit(images) - other_mean) / other_std


def better_constants(
    zoo: Zoo, model: str, gifts: dict[str, Gift], misfit: dict[str, Evidence], standing: Standings, rng: Rng
) -> str | None:
    """Evidence that another mean and std fit a network clearly better, and let it recognise more."""
    if model not in misfit:
        return None
    typical = torch.tensor([e.misfit for m, e in misfit.items() if standing.trusted[zoo.number_of[m]]]).median()
    evidence, teacher = misfit[model], zoo.teacher(model)
    if evidence.misfit < ODD * float(typical):
        return None
    spec, own = teacher.card.input_spec, _recognised(teacher, evidence, evidence.images)
    fits = []
    for constants in _candidates(zoo, spec):
        fit = first_layer_misfit(teacher, under(spec, constants, evidence.images))
        fits.append((fit if fit is not None else float("inf"), constants))
    if not fits:
        return None
    fit, constants = min(fits)
    share = _recognised(teacher, evidence, under(spec, constants, evidence.images))
    # A network that recognises nothing under any constants has another fault.
    enough = above_chance(share, len(teacher.card.class_ids)) > CUT / 2 * standing.median
    if fit > CLEARLY * evidence.misfit or share < own + GAIN or not enough:
        return None
    return (
        f"with mean {_text(constants[0])} and std {_text(constants[1])} in place of {_text(spec.mean)} and "
        f"{_text(spec.std)} its first BatchNorm layer is {evidence.misfit / fit:.1f} times nearer to what it knows, "
        f"and it puts {share:.0%} of {len(evidence.images)} images into the right class, not {own:.0%}"
    )


def _candidates(zoo: Zoo, spec: InputSpec) -> list[Constants]:
    """What other cards say, and what is usual."""
    known = {(tuple(s.mean), tuple(s.std)) for s in (zoo.cards[m].input_spec for m in zoo.ids)} | set(USUAL)
    fitting = {c for c in known if len(c[0]) == spec.channels} - {(tuple(spec.mean), tuple(spec.std))}
    return sorted(fitting)


def _recognised(teacher: Teacher, evidence: Evidence, images: Tensor) -> float:
    return float((ask(teacher, images).argmax(-1) == evidence.places).float().mean())


def _text(values: tuple[float, ...] | list[float]) -> str:
    return "/".join(f"{v:.3g}" for v in dict.fromkeys(values))
