"""Consolidate: one network that answers like the whole zoo, from images that the zoo itself gives."""

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.bank import AnswerBank, as_bytes, as_floats
from dfml.functional.augmentation import mix_images, shift_and_flip
from dfml.functional.divergences import kl_divergence
from dfml.learners import AbstractLearner, CentroidLearner, Metrics
from dfml.learners.meta_model import update_average
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.methods.pseudo_validation import PseudoValidation
from dfml.nn import Encoder, build_backbone
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, Recovered
from dfml.recovery import Student as Adversary
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

WARM_UP = 0.05  # of the cycle of the learning rate


class Student(nn.Module):
    """One backbone with a linear head for every committee member's answers, and one for the committee's features.

    Args:
        encoder: the backbone.
        outputs: outputs of all committee members together.
        relations: length of the sketch of their features.
    """

    def __init__(self, encoder: Encoder, outputs: int, relations: int):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.Linear(encoder.feature_size, outputs)
        self.relations = nn.Linear(encoder.feature_size, relations)
        nn.init.zeros_(self.relations.weight)  # starts from the mean: random features are far larger than the sketch

    def forward(self, images: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """``logits`` [n, outputs] and ``relations`` [n, relations]."""
        features = self.encoder(images)
        return {"logits": self.heads(features), "relations": self.relations(features)}

    def answer(self, images: Float[Tensor, "n c h w"], outputs: slice) -> Float[Tensor, "n classes"]:
        """Logits in place of one committee member."""
        return F.linear(self.encoder(images), self.heads.weight[outputs], self.heads.bias[outputs])


@dataclass
class ConsolidateState(AbstractState):
    """The student and its moving average, the meta-generator, and the bank of answered images."""

    student: Student
    average: Student
    optimiser: torch.optim.Optimizer
    recovery: AbstractRecovery
    bank: AnswerBank
    validation: PseudoValidation
    committee: dict[str, slice]  # teacher id -> its outputs among all
    sketch: Rng  # of the random projections
    updates: int = 0
    spread: float = 0.0  # of the sketches: their variance, which errors are measured in

    def _parts(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in ("student", "average", "optimiser", "recovery", "bank", "validation")}

    def state_dict(self) -> dict[str, Any]:
        """Everything that `Consolidate.init` does not derive from the zoo and the seed."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return parts | {"step": self.step, "updates": self.updates, "spread": self.spread}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.updates, self.spread = state["step"], state["updates"], state["spread"]


class Consolidate(AbstractMethod[ConsolidateState]):
    """Our own learner. Its parts: the meta-generator of FREE (https://arxiv.org/abs/2405.00984), distillation of many
    networks into one (Hinton et al. 2015, https://arxiv.org/abs/1503.02531), and of their features' similarities (Park
    et al., "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068).

    A step recovers images from a few teachers, asks every teacher once on every image, and then trains one student on
    all answers so far. The student learns each teacher's probabilities and, through a random projection that keeps
    distances, the joined features of all teachers. What a new task's images are compared by is the student's estimate
    of those joined features, so it imitates the zoo ensemble itself at the cost of one network.

    *Deviations from the paper*: there is no paper.

    *Deviations from the published code*: there is none.

    Args:
        recovery: the meta-generator.
        network: architecture of the student.
        width: its channels; None is the architecture's usual width.
        teachers_per_step: visited teachers a step.
        images_per_class: recovered images per class and visit.
        variants: augmented copies of each recovered image that are answered and stored.
        mixed: share of them that is mixed with another image.
        flip: mirror images; False where mirroring changes the class.
        committee: teachers that answer; None is all of them, a number bounds the cost in a large zoo.
        relations: length of the sketch of the committee's joined features.
        relations_weight: of the relative squared error of the sketch.
        logits_weight: of the KL divergence to each committee member's probabilities.
        updates: of the student, a step.
        batch_size: images of an update.
        lr: Adam's highest step size.
        cycle: steps over which it rises and falls to zero, as a cosine; a run's usual length.
        average_decay: of the moving average that is shipped, per update.
        capacity: answered images kept.
        validation_teachers: held out with their classes, to show progress.
        validation_episodes: pseudo-episodes of one validation.
    """

    requires: ClassVar[Capability] = Capability.LOGITS | Capability.GRADIENTS | Capability.FEATURES
    ships = "ema-last"

    def __init__(
        self,
        *,
        recovery: AbstractRecovery,
        network: str = "conv4",
        width: int | None = None,
        teachers_per_step: int = 4,
        images_per_class: int = 20,
        variants: int = 1,
        mixed: float = 0.3,
        flip: bool = True,
        committee: int | None = None,
        relations: int = 512,
        relations_weight: float = 1.0,
        logits_weight: float = 1.0,
        updates: int = 40,
        batch_size: int = 128,
        lr: float = 5e-3,
        cycle: int = 100,
        average_decay: float = 0.99,
        capacity: int = 60_000,
        validation_teachers: int = 1,
        validation_episodes: int = 40,
    ):
        self.recovery, self.network, self.width = recovery, network, width
        self.teachers_per_step, self.images_per_class = teachers_per_step, images_per_class
        self.variants, self.mixed, self.flip = variants, mixed, flip
        self.committee, self.relations = committee, relations
        self.weights = {"relations": relations_weight, "logits": logits_weight}
        self.updates, self.batch_size, self.lr, self.cycle = updates, batch_size, lr, cycle
        self.average_decay, self.capacity = average_decay, capacity
        self.validation_teachers, self.validation_episodes = validation_teachers, validation_episodes

    def init(self, zoo: Zoo, rng: Rng) -> ConsolidateState:
        """A random student, an empty bank, the committee and the validation teachers."""
        spec = zoo.input_spec
        self.recovery.prepare(spec, rng.at("recovery"))
        validation = PseudoValidation(
            zoo, count=self.validation_teachers, images_per_class=self.images_per_class, rng=rng
        )
        ids = validation.training_ids
        drawn = torch.randperm(len(ids), generator=rng.generator("committee"))[: self.committee].sort().values
        committee, outputs = {}, 0
        for name in (ids[i] for i in drawn.tolist()):
            committee[name] = slice(outputs, outputs := outputs + len(zoo.entry(name).class_ids))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.integer("student"))
            backbone = build_backbone(self.network, image_size=spec.size, channels=spec.channels, width=self.width)
            student = Student(Encoder(backbone, spec), outputs, self.relations)
        student = student.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return ConsolidateState(
            step=0,
            student=student,
            average=copy.deepcopy(student),
            optimiser=torch.optim.Adam(student.parameters(), lr=self.lr),
            recovery=self.recovery,
            bank=AnswerBank(
                capacity=self.capacity,
                shape=(spec.channels, spec.size, spec.size),
                sizes={"logits": outputs, "relations": self.relations},
            ),
            validation=validation,
            committee=committee,
            sketch=rng.at("sketch"),
        )

    def select(self, state: ConsolidateState, zoo: Zoo, rng: Rng) -> list[str]:
        """The teachers to visit, then the committee."""
        ids = state.validation.training_ids
        chosen = torch.randperm(len(ids), generator=rng.generator("select"))[: self.teachers_per_step]
        return [ids[i] for i in chosen.tolist()] + list(state.committee)

    def step(self, state: ConsolidateState, teachers: list[Teacher], rng: Rng) -> Metrics:
        """Recover from a few teachers, ask all of them, learn."""
        visited = teachers[: -len(state.committee)]

        # Recover: the meta-generator shows images of the visited teachers' classes.
        start = time.perf_counter()
        labels = [state.validation.training_labels(t.card) for t in visited]
        recovered = state.recovery.recover(
            visited, labels, students=self._students(state, visited), rng=rng.at("recover")
        )
        metrics = {k: sum(r.terms[k] for r in recovered) / len(recovered) for k in recovered[0].terms}
        shown = torch.cat([r.images for r in recovered])
        metrics |= {"images": float(len(shown)), "recover_seconds": time.perf_counter() - start}

        # Ask: every committee member answers once on every variant of every image.
        variants = [shift_and_flip(shown, rng.generator("augment", i), flip=self.flip) for i in range(self.variants)]
        images = as_bytes(mix_images(torch.cat(variants), rng.generator("mix"), share=self.mixed))
        answers = self._ask(teachers[len(visited) :], as_floats(images), state.sketch)
        state.spread = state.spread or float(answers["relations"].var(0).sum())
        state.bank.add(images, answers)
        metrics["queries"] = float(len(images) * len(state.committee))

        # Learn: one student, all answers.
        metrics |= self._learn(state, rng)
        state.step += 1
        return metrics

    def _students(self, state: ConsolidateState, teachers: Sequence[Teacher]) -> list[Adversary] | None:
        """The student in place of each teacher; None before it has learned, or where one is not of the committee."""
        outputs = [state.committee.get(t.card.id) for t in teachers]
        if not state.updates or None in outputs:
            return None
        return [partial(state.student.answer, outputs=o) for o in outputs if o is not None]

    @torch.no_grad()
    def _ask(self, committee: Sequence[Teacher], images: Tensor, sketch: Rng) -> dict[str, Tensor]:
        """All logits, and a sketch of all features: projected by N(0, 1 / relations), which keeps distances."""
        logits, relations = [], torch.zeros(len(images), self.relations)
        for teacher in committee:
            features, answer = teacher.answers(images)
            features = F.normalize(features, dim=-1)
            projection = torch.randn(features.shape[1], self.relations, generator=sketch.generator(teacher.card.id))
            relations.addmm_(features, projection, alpha=(self.relations * len(committee)) ** -0.5)
            logits.append(answer)
        return {"logits": torch.cat(logits, -1), "relations": relations}

    def _learn(self, state: ConsolidateState, rng: Rng) -> Metrics:
        sums: dict[str, Tensor] = {}
        state.student.train()
        for update in range(self.updates):
            images, wanted = state.bank.sample(self.batch_size, rng.generator("batch", update))
            with mixed_precision():
                given = state.student(images)
            terms = {
                "logits": _mean_kl(wanted["logits"], given["logits"].float(), state.committee.values()),
                "relations": (given["relations"].float() - wanted["relations"]).square().sum(-1).mean() / state.spread,
            }
            state.optimiser.param_groups[0]["lr"] = self.lr * _cosine(state.updates / (self.cycle * self.updates))
            state.optimiser.zero_grad()
            torch.stack([self.weights[name] * value for name, value in terms.items()]).sum().backward()
            state.optimiser.step()
            update_average(state.average, state.student, decay=self.average_decay, step=state.updates)
            state.updates += 1
            sums = {name: sums.get(name, 0.0) + value.detach() for name, value in terms.items()}
        state.student.eval()
        return {name: float(value) / self.updates for name, value in sums.items()}

    def learner(self, state: ConsolidateState) -> AbstractLearner:
        """Nearest centroids in the student's estimate of the committee's joined features."""
        return CentroidLearner(
            state.average.encoder, normalise=False, projection=state.average.relations.weight.detach().clone()
        )

    def validate(self, state: ConsolidateState, rng: Rng) -> Metrics:
        """Accuracy on recovered classes that no training step saw."""
        return state.validation.accuracy(
            self.learner(state), state.recovery, episodes=self.validation_episodes, rng=rng
        )

    def recovered_sheet(self, state: ConsolidateState, teachers: list[Teacher], rng: Rng) -> list[Recovered]:
        """What the meta-generator shows of these teachers now."""
        labels = [torch.arange(len(t.card.class_ids)).repeat(self.images_per_class) for t in teachers]
        return state.recovery.recover(teachers, labels, rng=rng, learn=False)


def _mean_kl(wanted: Tensor, given: Tensor, outputs: Iterable[slice]) -> Tensor:
    """KL divergence to each teacher, mean over images and teachers; teachers with equally many classes at once."""
    by_size: dict[int, list[int]] = {}
    for part in outputs:
        by_size.setdefault(part.stop - part.start, []).extend(range(part.start, part.stop))
    divergences = [
        kl_divergence(wanted[:, index].reshape(-1, size), given[:, index].reshape(-1, size), reduce=False)
        for size, index in by_size.items()
    ]
    return torch.cat(divergences).mean()


def _cosine(progress: float) -> float:
    """Rises over the first part of the cycle, then falls to zero; stays there."""
    return min(1.0, progress / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
