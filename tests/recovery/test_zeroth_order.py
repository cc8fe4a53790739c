import pytest
import torch
import torch.nn.functional as F

from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.errors import InputError
from dfml.functional.augmentation import shift_and_flip
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit, ZerothOrder
from dfml.zoo.views import BlackBox, Counted, Tally
from toys import SPEC, toy_teacher

LABELS = torch.arange(3).repeat(4)


def _recover(teacher, student=None, *, ranks=None, **options):
    recovery = ZerothOrder(**{"generator": "pixelshuffle", "latent": 8, "steps": 2, "directions": 7} | options)
    visits = [Visit(teacher, LABELS, student)]
    more = {} if ranks is None else {"ranks": ranks}
    return recovery, recovery.recover(recovery.init(SPEC, Rng(0)), visits, rng=Rng(1), **more)[0]


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_probabilities_of_a_black_box_are_enough(kind):
    box = BlackBox(toy_teacher(), kind)
    _, shown = _recover(box)
    assert shown.terms.keys() == {"class"}
    gradients = MetaGenerator(latent=8)
    with pytest.raises(InputError, match="a differentiable pass"):
        gradients.recover(gradients.init(SPEC, Rng(0)), [Visit(box, LABELS)], rng=Rng(1))


def test_labels_alone_are_refused_before_any_work():
    assert ZerothOrder().requires() not in BlackBox(toy_teacher(), "labels").capabilities


def test_it_says_beforehand_how_many_questions_it_asks():
    tally = Tally()
    recovery, _ = _recover(Counted(BlackBox(toy_teacher()), tally), lambda x: torch.zeros(len(x), 3))
    assert tally.queries == recovery.queries_of(len(LABELS)) == 12 * (2 * 8 + 1)
    assert ZerothOrder().queries_of(150) == 3_030_150, "101 x 150 x 200, and once at the end"


def test_the_loss_as_asked_falls_to_what_the_class_wants():
    teacher = BlackBox(toy_teacher())
    _, first = _recover(teacher, steps=1)
    _, last = _recover(teacher, steps=40, directions=20, lr=0.005, latent_lr=0.1)
    assert last.terms["class"] < 0.87 * first.terms["class"]


def test_the_best_iterate_is_that_of_the_smallest_loss_asked(monkeypatch):
    """With steps that only do harm, the images of the start come back."""
    monkeypatch.setattr(
        "dfml.recovery.zeroth_order.zeroth_order_gradient", lambda before, after, drawn, radius: _harm(drawn)
    )
    teacher, asked = toy_teacher(), []

    def _harm(drawn):
        return -1e3 * drawn.mean(0).sign()

    plain = teacher.answers

    def answers(images, kind="logits"):
        said = plain(images, kind)
        if len(images) == len(LABELS):
            asked.append(float(F.cross_entropy(said, LABELS)))
        return said

    monkeypatch.setattr(teacher, "answers", answers)
    _, shown = _recover(teacher, steps=6, lr=0.05)
    assert len(asked) == 7
    assert shown.terms["class"] == pytest.approx(min(asked), abs=1e-5)
    assert asked.index(min(asked)) < 6
    step = asked.index(min(asked))
    seen = shift_and_flip(shown.images, Rng(1).at("visit", 0).generator("augment", step))
    assert float(F.cross_entropy(plain(seen), LABELS)) == pytest.approx(min(asked), abs=1e-4)


def test_the_gradient_is_that_of_the_boundary_loss_too(monkeypatch):
    """Teacher's part by questions, student's part exactly: together what autograd says of the white box."""
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    teacher, student = toy_teacher(), toy_teacher(seed=0)
    student.network.head.weight.data *= 0.5  # answers alike, less surely
    recovery = ZerothOrder(directions=1500, radius=1e-3, boundary_weight=2.0)
    images = torch.rand(12, 3, 16, 16)
    x = images.clone().requires_grad_()

    def loss(teacher_logits, student_logits):
        alike = (teacher_logits.argmax(-1) == student_logits.argmax(-1)).float()
        distance = (teacher_logits.softmax(-1) - student_logits.softmax(-1)).abs().sum(-1)
        return F.cross_entropy(teacher_logits, LABELS, reduction="none") - 2.0 * alike * distance

    said = student.forward(images).logits.detach()
    (true,) = torch.autograd.grad(loss(teacher.forward(x).logits, said).sum(), [x])
    visit, before = Visit(BlackBox(teacher), LABELS), loss(teacher.answers(images), said)
    estimate = recovery._gradient(visit, images, before, said, Rng(0), SERIAL_RANKS)
    cosine = F.cosine_similarity(estimate.flatten(1), true.flatten(1))
    assert float(cosine.min()) > 0.7  # sqrt(q / (q + d)) = 0.81
    before = F.cross_entropy(teacher.answers(images), LABELS, reduction="none")
    without = recovery._gradient(visit, images, before, None, Rng(0), SERIAL_RANKS)
    assert not torch.allclose(without, estimate, rtol=0.1)


def test_a_student_draws_the_query_set_to_where_it_differs():
    teacher, other = BlackBox(toy_teacher()), toy_teacher(seed=0)
    other.network.head.weight.data *= 0.3

    def student(images):
        return other.forward(images).logits

    options = {"steps": 20, "directions": 10, "lr": 0.02, "latent_lr": 0.1}
    _, plain = _recover(teacher, student, boundary_weight=0.0, **options)
    _, drawn = _recover(teacher, student, boundary_weight=5.0, **options)
    assert "boundary" not in plain.terms

    def distance(images):
        return float((teacher.answers(images) - student(images).softmax(-1)).abs().sum(-1).mean())

    assert drawn.terms["boundary"] < 0
    assert distance(drawn.images) > distance(plain.images)


class _Turns(AbstractRanks):
    """Two processes in one: what each computes comes from a tally of its own."""

    rank, world = 0, 2

    def __init__(self):
        self.items: list[int] = []

    def map(self, function, items):
        self.items.append(len(items))
        return [[t.clone() for t in function(item)] for item in items]


def test_processes_share_directions_to_the_same_bits():
    ranks = _Turns()
    _, alone = _recover(BlackBox(toy_teacher()))
    _, shared = _recover(BlackBox(toy_teacher()), ranks=ranks)
    assert torch.equal(alone.images, shared.images)
    assert ranks.items == [1, 2, 1, 2, 1], "the question of each step, and its seven directions in two parts"
