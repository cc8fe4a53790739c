"""What consolidation learns and keeps, also while its zoo grows."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from dfml.compute.devices import compiled
from dfml.errors import InputError
from dfml.methods.base import AbstractState
from dfml.nn import Encoder, as_floats
from dfml.randomness import Rng
from dfml.recovery import AbstractRecovery, RecoveryState
from dfml.training.answering import Answering
from dfml.training.bank import AnswerBank
from dfml.training.meta_model import grown_adam
from dfml.training.pseudo_validation import PseudoValidation
from dfml.training.questions import Questions
from dfml.training.sight import Sight
from dfml.training.student import Said, grown, student_said
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import OnDemand

CAUGHT_UP = 2000  # images of the bank that teachers which join are asked about in a step


@dataclass
class ConsolidateState(AbstractState):
    """The student and its moving average, the meta-generator, and the bank of answered images."""

    student: Encoder  # an AnsweringBackbone over the answering teachers
    sight: Sight
    average: Encoder
    optimiser: torch.optim.Optimizer
    recovery: RecoveryState
    bank: AnswerBank
    validation: PseudoValidation
    answering: Answering
    questions: Questions
    zoo: Zoo
    updates: int = 0
    joined: list[str] = field(default_factory=list)
    """Teachers that joined the zoo last, and are to be asked about the first `backlog` images of the bank."""
    backlog: int = 0
    said: Said = field(default_factory=lambda: student_said)
    kept = ("student", "average", "optimiser", "recovery", "bank", "validation")

    def parts(self) -> dict[str, Any]:
        """See `AbstractState.parts`; what teachers see and were asked where that is learned or bounded."""
        sight = {"sight": self.sight} if self.sight.width else {}
        return super().parts() | sight | ({"questions": self.questions} if self.questions.per_teacher else {})

    def compile(self, device: torch.device) -> None:
        """What the student says in an update."""
        self.said = compiled(student_said, device)

    def state_dict(self) -> dict[str, Any]:
        """The parts, and how often the student was updated."""
        return super().state_dict() | {"updates": self.updates, "backlog": self.backlog}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        super().load_state_dict(state)
        self.updates, self.backlog = state["updates"], state.get("backlog", 0)

    def grow(self, zoo: Zoo, ids: list[str], answering: int | None, rng: Rng) -> None:
        """Heads and room in the bank for teachers that joined; those that are there, and the trunk, go on as they are.

        Of features only those of the first teachers are learned.

        Args:
            zoo: with them.
            ids: theirs.
            answering: so many teachers answer in all, at most; None is all.
            rng: of this call alone.
        """
        at = self.answering.width
        self.zoo, self.questions.free = zoo, with_gradients(zoo)
        self.joined = self.answering.grow(zoo, self.validation.grow(zoo, ids), answering)
        self.notes += (f"{len(ids)} models joined the zoo; {len(self.joined)} of them answer, on kept images too.",)
        self.bank.widen(at, self.answering.width - at)
        self.backlog = len(self.bank)
        classes = [zoo.rows(name).tolist() for name in self.answering.outputs_of]
        before = list(self.student.parameters())
        with rng.seeded("heads"):
            self.student, self.average = grown(self.student, classes), grown(self.average, classes)
        sight = list(self.sight.parameters())
        self.optimiser = grown_adam(self.optimiser, [*before, *sight], [*self.student.parameters(), *sight])

    def counting(self) -> AbstractContextManager[None]:
        """Inside, what the teachers of the zoo are asked is counted."""
        return self.questions.counting(self.zoo.ids, self.zoo.tally, self.ranks)

    def catch_up(self, joined: OnDemand, temperature: float) -> None:
        """Ask teachers that joined the zoo about some of the images that were kept before."""
        slots = slice(max(0, self.backlog - CAUGHT_UP), self.backlog)
        images = as_floats(self.bank.images[slots])
        for teacher in joined:
            name = teacher.card.id
            most = self.questions.left(name)
            said = self.answering.ask(teacher, images, Sight([], 0, 1), temperature, most=most)
            self.bank.tell(slots, self.answering.columns_of[name], said)
        self.backlog = slots.start


def with_gradients(zoo: Zoo) -> set[str]:
    """The teachers through which gradients flow, so that their weights are at hand."""
    return {name for name in zoo.ids if Capability.GRADIENTS in zoo.capabilities(name)}


def check_questions(recovery: AbstractRecovery, zoo: Zoo, visited: Iterable[str]) -> None:
    """A budget of questions binds where answers are all that black boxes are asked for.

    Raises:
        InputError: a recovery that asks them for more.
    """
    asked = {name for name in visited if recovery.asks(zoo.capabilities(name))}
    if boxes := sorted(asked - with_gradients(zoo)):
        raise InputError(
            f"questions with recovery {type(recovery).__name__}, which asks {boxes[0]} about more than its images",
            "a recovery that asks black boxes nothing",
            "choose by_teacher or drawn_images, or set no questions",
        )
