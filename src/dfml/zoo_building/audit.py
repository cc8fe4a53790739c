"""Find the bad models of a zoo without any data: by what they answer, and by what other models make of their images."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from dfml.errors import InputError, NoAnswer, NotAtHand, NotFinite
from dfml.functional.noise import natural_noise
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher
from dfml.zoo_building.normalisation import wrong_constants
from dfml.zoo_building.recognition import Gift, Looks, ask, look, recover_all
from dfml.zoo_building.standing import MISNAMED, Standings, misnaming, standings

Kind = Literal["broken", "unreachable", "constant", "duplicate", "untrained", "labels", "normalisation"]
Progress = Callable[[int, int], None]

PROBES = 128  # images of natural noise for what needs no other model
SAME_EVERYWHERE = 1e-4  # probabilities that differ less from image to image do not depend on the image
SAME_ANSWERS = 0.03  # of how far answers move from image to image: two models that differ less are one
UNSURE = 0.6  # of the median confidence: below, a network has not been trained


@dataclass(frozen=True)
class Verdict:
    """A bad model.

    Args:
        id: of the model.
        kind: what is wrong.
        evidence: one sentence with numbers.
    """

    id: str
    kind: Kind
    evidence: str


@dataclass
class _Case:
    """What is known so far; ``verdicts`` by model, at most one each."""

    zoo: Zoo
    canvas: InputSpec
    rng: Rng
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def find(self, model: str, kind: Kind, evidence: str) -> None:
        self.verdicts.setdefault(model, Verdict(model, kind, evidence))

    @property
    def left(self) -> list[str]:
        return [model for model in self.zoo.ids if model not in self.verdicts]


def audit(zoo: Zoo, *, rng: Rng, canvas: InputSpec | None = None, progress: Progress | None = None) -> list[Verdict]:
    """The bad models of a zoo, in its order.

    Each model gives a few recovered images of its classes, and every model that claims one of these classes says which
    of its own classes they show. Models that contradict the others stand out; the worst is taken away and the rest is
    compared anew. Of models that share classes with fewer than two others, only what they show by themselves is told.

    Args:
        zoo: with models of any kind; those without gradients only judge.
        rng: of this audit.
        canvas: of the recovered images; None is that of the models that can be read.
        progress: called with the teachers done and to do.

    Raises:
        NotAtHand: a model's library, module or consent is missing here, so that nothing can be said of it.
    """
    verdicts: dict[str, Verdict] = {}
    for model in zoo.ids:
        try:
            zoo.teacher(model)
        except NotAtHand:
            raise  # not the model's fault
        except InputError as error:
            verdicts[model] = Verdict(model, "broken", f"it cannot be loaded: {error.given}")
    readable = [model for model in zoo.ids if model not in verdicts]
    if not readable:
        return list(verdicts.values())
    case = _Case(zoo, canvas or zoo.subset(readable).canvas, rng, verdicts)
    _answer_alone(case)
    _cross_examine(case, progress)
    return [case.verdicts[model] for model in zoo.ids if model in case.verdicts]


def _answer_alone(case: _Case) -> None:
    """What models show on noise: answers that are no numbers, that never change, or that are another's.

    Those that can be asked for more come first, so that of two copies the more useful one stays.
    """
    noise = natural_noise(PROBES, case.canvas.channels, case.canvas.size, case.rng.generator("noise"))
    seen: dict[tuple[str, ...], list[tuple[str, Tensor]]] = {}
    for model in sorted(case.left, key=lambda model: -len(case.zoo.capabilities(model))):
        teacher = case.zoo.teacher(model)
        try:
            said = ask(teacher, noise)
        except NoAnswer as error:
            case.find(model, "unreachable", f"nothing can be said of it: {error.reason}")
            continue
        except (InputError, NotFinite) as error:
            reason = error.given if isinstance(error, InputError) else str(error)
            case.find(model, "broken", f"it does not answer: {reason}")
            continue
        wrong = int((~said.isfinite()).any(-1).sum())
        moves = float((said.amax(0) - said.amin(0)).max())
        if wrong:
            case.find(model, "broken", f"{wrong} of {PROBES} answers are NaN or infinite")
        elif moves < SAME_EVERYWHERE and Capability.PROBABILITIES in teacher.capabilities:
            case.find(model, "constant", f"its probabilities differ by {moves:.1g} at most over {PROBES} images")
        elif evidence := _initial(teacher, noise):
            case.find(model, "untrained", evidence)
        else:
            others = seen.setdefault(case.zoo.entry(model).class_ids, [])
            if twin := _twin(said, others):
                case.find(model, "duplicate", twin)
            else:
                others.append((model, said))


def _initial(teacher: Teacher, images: Tensor) -> str | None:
    """Evidence that no BatchNorm layer has ever seen an image."""
    if Capability.BN_STATISTICS not in teacher.capabilities:
        return None
    with torch.no_grad():
        layers = teacher.forward(images[:2].to(teacher.device), statistics=True).statistics
    means = [float(s.running_mean.abs().max()) for s in layers]
    variances = [float((s.running_variance - 1).abs().max()) for s in layers]
    if not layers or max(means) > 0 or max(variances) > 0:
        return None
    return f"the running means of all {len(layers)} BatchNorm layers are 0 and their variances 1, as before training"


def _twin(said: Tensor, others: list[tuple[str, Tensor]]) -> str | None:
    """Evidence that one of these models gives the same answers."""
    spread = float((said - said.mean(0)).abs().mean())
    for other, answers in others:
        apart = float((said - answers).abs().mean())
        if apart < SAME_ANSWERS * spread:
            return (
                f"it has the classes of {other} in the same order, and on {PROBES} images its probabilities "
                f"differ from that model's by {apart:.1g} on average, and by {spread:.2f} from image to image"
            )
    return None


def _cross_examine(case: _Case, progress: Progress | None) -> None:
    """What models show on images that they and others recovered."""
    if not case.left:
        return
    zoo = case.zoo.subset(case.left)
    needs = MetaGenerator(adversarial_weight=0.0).requires()
    givers = [model for model in zoo.ids if needs in zoo.teacher(model).capabilities]
    gifts = recover_all(zoo, case.canvas, givers, rng=case.rng.at("recovery"), progress=progress) if givers else {}
    looks = look(zoo, gifts, rng=case.rng.at("looks"), progress=progress)
    ways = torch.tensor([len(zoo.entry(model).class_ids) for model in zoo.ids])
    unsure = _unsure(zoo, looks, gifts, ways)
    for model, evidence in unsure.items():
        case.find(model, "untrained", evidence)
    known = torch.tensor([model in unsure for model in zoo.ids])
    standing = standings(looks, len(zoo), ways, known)
    _contradictions(case, zoo, looks, gifts, standing)


def _unsure(zoo: Zoo, looks: Looks, gifts: dict[str, Gift], ways: Tensor) -> dict[str, str]:
    """Networks that believe neither in the images made for them nor in those of others, and why one may say so."""
    own = torch.tensor([gifts[model].confidence if model in gifts else torch.nan for model in zoo.ids])
    total = torch.zeros(len(zoo)).index_add(0, looks.judges, looks.sureness)
    count = torch.zeros(len(zoo)).index_add(0, looks.judges, torch.ones_like(looks.sureness))
    others = (total / count - 1 / ways) / (1 - 1 / ways)
    found = {}
    for number, model in enumerate(zoo.ids):
        sure, typical = (float(v) for v in (own[number], own.nanmedian()))
        if not sure < UNSURE * typical:
            continue
        if bool(others[number] >= UNSURE * others.nanmedian()):
            continue
        found[model] = (
            f"its confidence in images made for it is {sure:.0%} of the way from chance to certainty; "
            f"the median model has {typical:.0%}"
        )
    return found


def _contradictions(case: _Case, zoo: Zoo, looks: Looks, gifts: dict[str, Gift], standing: Standings) -> None:
    """Models whose labels or normalisation the others contradict."""
    trusted = standing.trusted
    constants = wrong_constants(zoo, gifts, standing, case.rng.at("misfit"))
    for number, model in enumerate(zoo.ids):
        if model in case.verdicts:
            continue
        gain, moved = misnaming(looks, number, trusted, len(zoo.entry(model).class_ids))
        if model in constants:
            case.find(model, "normalisation", constants[model])
        elif gain > MISNAMED and len(moved) > 1 and bool(standing.doubtful[number]):
            case.find(model, "labels", _other_names(zoo, model, gain, moved))
        elif bool(standing.low[number]):
            case.find(model, "labels", _contradicted(looks, standing, number))


def _other_names(zoo: Zoo, model: str, gain: float, moved: dict[int, int]) -> str:
    names = [zoo.index.classes[c] for c in zoo.entry(model).class_ids]
    place = min(moved)
    return (
        f"{gain:.0%} more of the images that other models recovered for its classes would be in the right one if "
        f"{len(moved)} of its {len(names)} names changed places: "
        f"images of {names[place]!r} are in {names[moved[place]]!r}"
    )


def _contradicted(looks: Looks, standing: Standings, number: int) -> str:
    asked = len(looks.of(number, standing.trusted)) or int((looks.givers == number).sum())
    typical = float(standing.share[standing.trusted].nanmedian())
    return (
        f"in {asked} comparisons with other models, {float(standing.share[number]):.0%} of the images are in the class "
        f"that it claims; the median model has {typical:.0%}"
    )
