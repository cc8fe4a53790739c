from functools import cache

import pytest
import torch

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.nn import precision
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.zoo import Counted, Tally
from dfml.zoo.stacked import StackedTeachers, can_stack
from toys import SPEC, toy_teacher

LABELS = torch.arange(3).repeat(4)


@pytest.fixture(autouse=True)
def _float64(monkeypatch):
    """Rounding then does not decide which of two pixels max-pooling takes, nor the sign of Adam's first steps."""
    monkeypatch.setattr(precision, "bfloat16_is_fast", lambda: False)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@cache
def teachers():
    return [toy_teacher(f"t{i}", (f"a{i}", f"b{i}", "c"), seed=i) for i in range(3)]


def recover(engine, *, of=None, ranks=SERIAL_RANKS, **options):
    recovery, of = MetaGenerator(latent=8, adversarial_weight=0.0, engine=engine, **options), of or teachers()
    state, visits = recovery.init(SPEC, Rng(0)), [Visit(teacher, LABELS) for teacher in of]
    shown = [recovery.recover(state, visits, rng=Rng(i), ranks=ranks) for i in range(2)]
    return [r for call in shown for r in call], list(state.generator.parameters())


def assert_same(ours, theirs):
    for one, other in zip(ours[0], theirs[0], strict=True):
        torch.testing.assert_close(one.images, other.images, atol=1e-6, rtol=1e-6)
        assert one.terms == pytest.approx(other.terms, rel=1e-6)
    for p, q in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-6)


def test_stacked_teachers_answer_like_each_alone():
    images = torch.rand(3, 5, 3, 16, 16)
    logits, statistics = StackedTeachers(teachers()).logits(images)
    for i, teacher in enumerate(teachers()):
        passed = teacher.forward(images[i], statistics=True)
        expected, alone = passed.logits, passed.statistics
        torch.testing.assert_close(logits[i], expected, atol=1e-4, rtol=1e-4)
        assert len(statistics[i]) == len(alone) == 4
        for ours, theirs in zip(statistics[i], alone, strict=True):
            for name in ("mean", "variance", "running_mean", "running_variance"):
                torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"bn_weight": 0.0}, {"meta": "reptile"}])
def test_the_batched_engine_gives_the_numbers_of_the_loop(options):
    assert_same(recover("batched", **options), recover("loop", **options))


class Students:
    """A learner's heads for the teachers, of which each counts how often it is asked."""

    def __init__(self):
        self.asked = 0
        self.weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(5))

    def __call__(self, images):
        self.asked += 1
        return images.mean((2, 3)) @ self.weight


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_with_students_the_batched_engine_runs_and_asks_them_only_where_a_weight_does(monkeypatch, weight):
    calls = []
    logits = StackedTeachers.logits
    monkeypatch.setattr(StackedTeachers, "logits", lambda self, x: calls.append(len(x)) or logits(self, x))
    outcomes = []
    for engine in ("batched", "loop"):
        recovery, student = MetaGenerator(latent=8, adversarial_weight=weight, engine=engine), Students()
        state, visits = recovery.init(SPEC, Rng(0)), [Visit(teacher, LABELS, student) for teacher in teachers()]
        shown = recovery.recover(state, visits, rng=Rng(1))
        assert student.asked == (3 * (recovery.steps + 1) if weight else 0)
        outcomes.append((shown, list(state.generator.parameters())))
    assert calls == [3] * (recovery.steps + 1), "all teachers at once, at every step and at the reading"
    assert_same(*outcomes)


def test_teachers_that_cannot_be_stacked_go_through_the_loop():
    other = toy_teacher("other", ("x", "y"))
    assert can_stack(teachers())
    assert not can_stack([*teachers(), other])
    mixed = [teachers()[0], toy_teacher("wide", ("x", "y", "z"), width=5)]
    assert not can_stack(mixed)
    ours, theirs = (recover(e, of=mixed) for e in ("batched", "loop"))
    assert all(torch.equal(a.images, b.images) for a, b in zip(ours[0], theirs[0], strict=True))


class Two(AbstractRanks):
    """Counts the groups that one of two processes would get."""

    rank, world = 0, 2

    def map(self, function, items):
        self.groups = [list(item) for item in items]
        return [function(item) for item in items]


def test_a_visit_is_counted_alike_by_both_engines():
    for engine in ("loop", "batched"):
        tally = Tally()
        recover(engine, of=[Counted(teacher, tally) for teacher in teachers()])
        assert tally.queries == 2 * 3 * len(LABELS) * 6, engine  # calls, teachers, images, steps and the reading


def test_two_processes_batch_their_shares():
    ranks = Two()
    assert_same(recover("batched", ranks=ranks), recover("loop"))
    assert ranks.groups == [[0, 2], [1]]
