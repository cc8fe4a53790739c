import contextlib
import copy

import torch

from dfml.functional.priors import class_prior
from dfml.nn import Classifier, Encoder, inference_copy
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.recovery.engines import LoopEngine
from dfml.zoo.card import Capability
from dfml.zoo.teacher import LocalTeacher
from toys import SPEC, toy_teacher

LABELS = torch.arange(3).repeat(8)


class Prepared:
    """A meta-generator with a state of its own."""

    def __init__(self, **options):
        self.recovery = MetaGenerator(**{"latent": 8} | options)
        self.state = self.recovery.init(SPEC, Rng(0))
        self.generator = self.state.generator

    def recover(self, teachers, *, student=None, seed: int, learn: bool = True):
        visits = [Visit(teacher, LABELS, student) for teacher in teachers]
        return self.recovery.recover(self.state, visits, rng=Rng(seed), learn=learn)

    def read(self, teacher, seed):
        return LoopEngine().read(self.recovery, self.generator, [Visit(teacher, LABELS)], [Rng(seed)])[0]


_prepared = Prepared


def test_meta_gradient_without_inner_steps_matches_central_differences(monkeypatch):
    monkeypatch.setattr("dfml.recovery.engines.mixed_precision", contextlib.nullcontext)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # no rounding anywhere
    recovery = _prepared(steps=0, bn_weight=0.7, adversarial_weight=0.0)
    recovery.generator.double()
    teacher = toy_teacher()
    teacher.network.double()
    shared = list(recovery.generator.parameters())

    def loss() -> float:
        terms = recovery.read(teacher, 1).terms
        return terms["class"] + 0.7 * terms["bn"]

    with_double = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        gradient = recovery.read(teacher, 1).gradient
        for tensor, index in ((0, 3), (1, 5), (3, 20), (8, 11)):
            flat = shared[tensor].data.view(-1)
            h, kept = 1e-5, float(flat[index])
            flat[index] = kept + h
            above = loss()
            flat[index] = kept - h
            below = loss()
            flat[index] = kept
            numeric, exact = (above - below) / (2 * h), float(gradient[tensor].view(-1)[index])
            assert abs(numeric - exact) < 1e-5 + 1e-3 * abs(numeric), (tensor, numeric, exact)
    finally:
        torch.set_default_dtype(with_double)


def test_inner_steps_lower_the_teachers_loss_on_the_wanted_classes():
    teacher = toy_teacher()
    losses = {}
    for steps in (0, 20):
        recovery = _prepared(steps=steps, bn_weight=0.0, adversarial_weight=0.0)
        (shown,) = recovery.recover([teacher], seed=3, learn=False)
        assert shown.images.shape == (24, 3, 16, 16)
        assert 0 <= float(shown.images.min()) <= float(shown.images.max()) <= 1
        losses[steps] = float(class_prior(teacher.forward(shown.images).logits, LABELS))
    assert losses[20] < 0.7 * losses[0]


def test_alignment_lowers_the_distance_of_statistics():
    teacher = toy_teacher()
    distances = {}
    for steps in (0, 20):
        recovery = _prepared(steps=steps, class_weight=0.0, bn_weight=1.0, adversarial_weight=0.0)
        (shown,) = recovery.recover([teacher], seed=3, learn=False)
        distances[steps] = shown.terms["bn"]
    assert distances[20] < 0.7 * distances[0]


def test_a_call_that_does_not_learn_leaves_the_generator_alone_and_is_repeatable():
    recovery, teachers = _prepared(steps=2), [toy_teacher("a"), toy_teacher("b", seed=1)]
    before = [p.clone() for p in recovery.generator.parameters()]
    first = recovery.recover(teachers, seed=5, learn=False)
    second = recovery.recover(teachers, seed=5, learn=False)
    assert all(torch.equal(p, q) for p, q in zip(before, recovery.generator.parameters(), strict=True))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].images, first[1].images)


def test_reptile_moves_towards_the_adapted_parameters():
    recovery = _prepared(steps=3, meta="reptile", lr=1e-3)
    gradient = [m / (3 * 1e-3) for m in recovery.read(toy_teacher(), 0).moved]
    # Adam's steps are at most about lr each, so the mean step is within a small factor of 1 in units of lr
    assert max(float(g.abs().max()) for g in gradient) < 4
    assert max(float(g.abs().max()) for g in gradient) > 0.1


def test_meta_training_makes_the_next_visit_start_lower():
    recovery, teacher = _prepared(steps=2, meta_lr=3e-3, bn_weight=0.0, adversarial_weight=0.0), toy_teacher()
    first = recovery.recover([teacher], seed=0)[0].terms["class"]
    for i in range(15):
        last = recovery.recover([teacher], seed=i + 1)[0].terms["class"]
    assert last < first


def test_without_a_student_the_adversarial_term_is_zero_and_with_one_it_is_negative():
    recovery, teacher = _prepared(steps=1), toy_teacher()
    assert recovery.recover([teacher], seed=0, learn=False)[0].terms["adversarial"] == 0

    def student(images: torch.Tensor) -> torch.Tensor:
        return 3 * teacher.forward(images).logits  # same decisions, other confidence

    shown = recovery.recover([teacher], student=student, seed=0, learn=False)
    assert shown[0].terms["adversarial"] < 0


def test_state_round_trip_continues_to_the_same_bits():
    teachers, one, other = [toy_teacher()], _prepared(steps=2), _prepared(steps=2)
    one.recover(teachers, seed=0)
    other.state.load_state_dict(copy.deepcopy(one.state.state_dict()))
    a = one.recover(teachers, seed=1)
    b = other.recover(teachers, seed=1)
    assert torch.equal(a[0].images, b[0].images)
    assert all(torch.equal(p, q) for p, q in zip(one.generator.parameters(), other.generator.parameters(), strict=True))


def test_a_recovery_may_be_started_twice_and_each_state_learns_for_itself():
    recovery = MetaGenerator(latent=8, steps=1)
    first, second = recovery.init(SPEC, Rng(0)), recovery.init(SPEC, Rng(0))
    before = copy.deepcopy(second.state_dict())
    recovery.recover(first, [Visit(toy_teacher(), LABELS)], rng=Rng(0))
    assert all(torch.equal(v, before["generator"][k]) for k, v in second.generator.state_dict().items())
    assert any(not torch.equal(v, before["generator"][k]) for k, v in first.generator.state_dict().items())


def test_a_teacher_without_batchnorm_is_recovered_without_its_term():
    assert MetaGenerator().requires() == Capability.LOGITS | Capability.GRADIENTS
    teacher = toy_teacher()
    network = inference_copy(Encoder(teacher.backbone, SPEC)).backbone  # BatchNorm is folded into the convolutions
    bare = LocalTeacher(teacher.card, Classifier(network, 3, teacher.network.head))
    recovery = MetaGenerator(latent=8, steps=1)
    shown = recovery.recover(recovery.init(SPEC, Rng(0)), [Visit(bare, torch.arange(3))], rng=Rng(0))[0]
    assert shown.terms["bn"] == 0
    assert shown.terms["class"] > 0
