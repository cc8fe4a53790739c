"""Which teachers answer, and how their answers stand side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.training.answers import NOT_ASKED, TOP, WHOLE, code_width, encoded, not_asked
from dfml.training.sight import Sight
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import answers_and_features, local, logit_answers

OUTPUTS = 20_000  # of the student's heads: more take more memory and time than they teach
SMALLEST = "dfml:conv4"  # so small that no number of them is costly, and nothing needs to be loaded to know it
COSTLY = 10  # times the student's updates: answers that cost more are asked of some teachers at a time


@dataclass
class Answering:
    """The teachers that answer.

    Args:
        outputs_of: teacher -> its logits among the student's.
        columns_of: teacher -> where its answer is kept.
        per_step: so many of them answer in a step; None is all.
        notes: what was left out or cut.
    """

    outputs_of: dict[str, slice]
    columns_of: dict[str, slice]
    per_step: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Numbers that all their answers to an image are kept as."""
        return max(columns.stop for columns in self.columns_of.values())

    def grow(self, zoo: Zoo, ids: Sequence[str], count: int | None) -> list[str]:
        """Let more teachers answer, after those that do, as long as there is room.

        Args:
            zoo: of the teachers.
            ids: that joined it.
            count: so many answer in all, at most; None is all.

        Returns:
            Those that answer now.
        """
        joined = []
        for name in ids:
            size = len(zoo.entry(name).class_ids)
            output = max(each.stop for each in self.outputs_of.values())
            if (count is None or len(self.outputs_of) < count) and output + size <= OUTPUTS:
                column = self.width
                self.outputs_of[name] = slice(output, output + size)
                self.columns_of[name] = slice(column, column + code_width(size))
                joined.append(name)
        return joined

    def drawn(self, sound: list[str], generator: torch.Generator) -> list[str]:
        """Those that answer in a step, among those that are sound."""
        if self.per_step is None or self.per_step >= len(sound):
            return sound
        drawn = torch.randperm(len(sound), generator=generator)[: self.per_step]
        return [sound[i] for i in drawn.sort().values.tolist()]

    def ask(
        self,
        teacher: Teacher,
        images: Num[Tensor, "n c h w"],
        sight: Sight,
        temperature: float,
        *,
        most: float = math.inf,
    ) -> Float[Tensor, "n _"]:
        """A teacher's logits as they are kept; beside them what it sees, where the student learns that.

        It is asked about the first ``most`` images alone.
        """
        if most < len(images):
            said = self.ask(teacher, images[: int(most)], sight, temperature)
            return F.pad(said, (0, 0, 0, len(images) - len(said)), value=NOT_ASKED)
        if (name := teacher.card.id) not in sight.ids:
            return encoded(logit_answers(teacher, images), temperature)
        logits, features = answers_and_features(teacher, images)
        return torch.cat([encoded(logits, temperature), sight.projected(name, features)], -1)

    def joined(self, asked: Sequence[str], said: Sequence[Float[Tensor, "n _"]], sight: Sight) -> Float[Tensor, "n _"]:
        """What `ask` gave for the same images: all answers, then all that was seen.

        Those that were not asked hold `not_asked`.
        """
        n, device = len(said[0]), said[0].device
        kept, seen = {}, {}
        for name, outputs in self.outputs_of.items():
            kept[name] = not_asked(n, outputs.stop - outputs.start, device)
        for name in sight.ids:
            seen[name] = torch.full((n, sight.numbers), NOT_ASKED, device=device)
        for name, part in zip(asked, said, strict=True):
            kept[name], more = part.split([kept[name].shape[1], part.shape[1] - kept[name].shape[1]], -1)
            if name in seen:
                seen[name] = more
        return torch.cat([*kept.values(), *seen.values()], -1)

    def choose(self, per_step: int | None, zoo: Zoo, student: Encoder, *, images: int, updated: int) -> None:
        """Settle how many answer in a step.

        Args:
            per_step: what was asked for; None decides by cost.
            zoo: of the teachers.
            student: learns from them.
            images: that they answer on in a step.
            updated: images of a step's updates of the student.
        """
        if per_step is None:
            if all(zoo.entry(name).source == SMALLEST for name in self.outputs_of):
                return
            asked = images * sum(_cost_of_teachers(zoo, list(self.outputs_of)).values())
            learned = 3 * updated * _cost(student.backbone, student.spec.shape)  # backward is twice forward
            if asked <= COSTLY * learned or len(self.outputs_of) < 2:
                return
            per_step = max(1, int(COSTLY * learned * len(self.outputs_of) / asked))
            self.notes.append(
                f"{per_step} of {len(self.outputs_of)} teachers answer in a step, drawn anew: all would cost "
                f"{asked / learned:.0f} times as much as the student's updates (answers_per_step)."
            )
        self.per_step = per_step if per_step < len(self.outputs_of) else None


def answering_teachers(zoo: Zoo, ids: Sequence[str], count: int | None, rng: Rng) -> Answering:
    """So many of these teachers, drawn; fewer where their classes are more than a student can have outputs for."""
    drawn = torch.randperm(len(ids), generator=rng.generator("committee"))[:count].tolist()
    kept: list[int] = []
    outputs = 0
    for i in drawn:
        size = len(zoo.entry(ids[i]).class_ids)
        if not kept or outputs + size <= OUTPUTS:
            kept.append(i)
            outputs += size
    outputs_of, columns_of = {}, {}
    output = column = 0
    for name in (ids[i] for i in sorted(kept)):
        size = len(zoo.entry(name).class_ids)
        outputs_of[name] = slice(output, output := output + size)
        columns_of[name] = slice(column, column := column + code_width(size))
    found = Answering(outputs_of, columns_of)
    if len(kept) < len(drawn):
        found.notes.append(
            f"{len(kept)} of {len(drawn)} teachers answer, drawn: a student has {OUTPUTS:,} outputs at most. All are "
            "visited."
        )
    if wide := [n for n, o in outputs_of.items() if o.stop - o.start > WHOLE]:
        found.notes.append(
            f"Answers of {len(wide)} teachers with more than {WHOLE} classes are kept as their {TOP} largest."
        )
    return found


def _cost_of_teachers(zoo: Zoo, ids: Sequence[str]) -> dict[str, float]:
    """Of an answer to one image, by teacher; one of each kind is measured."""
    known: dict[tuple, float] = {}
    costs = {}
    for name in ids:
        entry = zoo.entry(name)
        kind = (entry.source, entry.input_spec, len(entry.class_ids))
        if kind not in known:
            own = local(zoo.teacher(name))  # what others cost to answer cannot be counted here
            known[kind] = _cost(own.network, own.card.input_spec.shape) if own else 0.0
        costs[name] = known[kind]
    return costs


def _cost(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Floating-point operations of one image, so that the choice is the same on every machine."""
    device = next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, *shape, device=device))
    return counter.get_total_flops() / 2
