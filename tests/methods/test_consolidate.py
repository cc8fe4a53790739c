import pytest
import torch

from dfml.errors import InputError
from dfml.methods.base import Role, teachers_of
from dfml.methods.consolidate import Consolidate
from dfml.nn import as_floats
from dfml.randomness import Rng
from dfml.recovery import ByTeacher, MetaGenerator, ZerothOrder
from dfml.training.answers import was_asked
from dfml.zoo import BlackBox, Counted
from dfml.zoo.card import Capability
from toys import ToyZoo, run_steps

QUICK = {
    "width": 4, "images_per_class": 6, "updates": 3, "batch_size": 16, "capacity": 300,
    "validation_episodes": 3, "validation_teachers": 1,
}  # fmt: skip


def _method(**options) -> Consolidate:
    return Consolidate(**{"recovery": MetaGenerator(latent=8, steps=1)} | QUICK | options)


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def test_what_the_bank_holds_is_every_members_own_answer(zoo):
    method = _method(validation_teachers=0)
    state = method.init(zoo, Rng(0))
    asked = zoo.tally.queries
    (metrics,) = run_steps(method, state, zoo, 0, 1)
    assert metrics["images"] == len(state.bank) == 4 * 18
    assert (
        zoo.tally.queries - asked == 4 * 18 * len(state.answering.outputs_of) + 2 * 4 * 18
    )  # answers; one step and a reading
    images = as_floats(state.bank.images[: len(state.bank)])
    with torch.no_grad():
        for name, outputs in state.answering.outputs_of.items():
            given = state.bank.answers[: len(state.bank), outputs].float()
            torch.testing.assert_close(
                given, zoo.teacher(name).forward(images).logits, rtol=0.05, atol=0.05
            )  # bfloat16


def test_the_student_learns_the_answers(zoo):
    method = _method(updates=20, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    state.progress = 0.2  # past the warm-up of the step size
    metrics = run_steps(method, state, zoo, 0, 8)
    assert metrics[-1]["distillation"] < 0.7 * metrics[0]["distillation"]
    assert metrics[0]["adversarial"] == 0
    assert metrics[-1]["adversarial"] != 0


def test_updates_grow_with_the_bank(zoo):
    method = _method(updates=10, validation_teachers=0)
    state, made, rates = method.init(zoo, Rng(0)), [], []
    for step in range(20):
        state.progress, before = step / 20, state.updates
        method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(step))), Rng(step))
        made.append(state.updates - before)
        rates.append(state.optimiser.param_groups[0]["lr"])
    assert made == [max(1, round(40 * (step / 20) ** 3)) for step in range(20)]
    assert 9 < sum(made) / 20 < 10.5
    assert rates.index(max(rates)) < 12
    assert rates[-1] < 0.1 * max(rates)


def test_a_number_bounds_who_answers_but_not_who_is_visited(zoo):
    method = _method(answering_teachers=2, validation_teachers=0, teachers_per_step=4)
    state = method.init(zoo, Rng(0))
    assert len(state.answering.outputs_of) == 2
    plan = method.plan(state, zoo, Rng(0))
    assert len(plan[Role.VISIT]) == 4
    assert plan[Role.ANSWER] == list(state.answering.outputs_of)
    run_steps(method, state, zoo, 0, 2)
    assert state.bank.answers.shape[1] == 6


@pytest.mark.parametrize(("meta_batch", "groups"), [(1, [1, 1, 1, 1]), (3, [3, 1]), (8, [4])])
def test_a_meta_batch_is_visited_together(zoo, monkeypatch, meta_batch, groups):
    method, visited = _method(meta_batch=meta_batch), []
    recover = method.recovery.recover

    def watched(state, visits, **options):
        visited.append(len(visits))
        return recover(state, visits, **options)

    monkeypatch.setattr(method.recovery, "recover", watched)
    (_, metrics) = run_steps(method, method.init(zoo, Rng(0)), zoo, 0, 2)
    assert visited == 2 * groups
    assert metrics["adversarial"] != 0  # the student answers for each of them


def test_a_student_may_begin_as_a_copy_of_a_teacher(zoo):
    method = _method(network="teacher:t1", width=None, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    own = zoo.network("t1").backbone.state_dict()
    copied = state.student.backbone.backbone.state_dict()
    assert all(torch.equal(copied[name], value) for name, value in own.items())
    run_steps(method, state, zoo, 0, 2)
    moved = state.student.backbone.backbone.state_dict()
    assert any(not torch.equal(moved[name], value) for name, value in own.items())
    assert all(torch.equal(zoo.network("t1").backbone.state_dict()[name], value) for name, value in own.items())


def test_teachers_may_answer_in_turns(zoo):
    method = _method(answers_per_step=2, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    plans = [method.plan(state, zoo, Rng(seed))[Role.ANSWER] for seed in range(6)]
    assert {len(plan) for plan in plans} == {2}
    assert len({tuple(plan) for plan in plans}) > 1
    metrics = run_steps(method, state, zoo, 0, 3)
    assert all(torch.isfinite(torch.tensor(line["distillation"])) for line in metrics)


def test_drawn_images_are_asked_beside_those_recovered(zoo):
    method = _method(drawn=10, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 1)
    assert len(state.bank) == 4 * 18 + 10


def test_what_teachers_see_is_learned_beside_what_they_answer(zoo):
    method = _method(features=7, answers_weight=0.0, validation_teachers=0, answers_per_step=3, updates=20)
    state = method.init(zoo, Rng(0))
    state.progress = 0.2
    asked = zoo.tally.queries
    run_steps(method, state, zoo, 0, 1)
    assert zoo.tally.queries - asked == 4 * 18 * 3 + 2 * 4 * 18  # answers and features in one pass
    assert state.bank.answers.shape[1] == 15 + 5 * 7
    images, wanted = as_floats(state.bank.images[: len(state.bank)]), state.bank.answers[: len(state.bank)]
    for name, kept in zip(state.sight.ids, wanted[:, 15:].float().split(7, -1), strict=True):
        if bool((kept > -1000).any()):  # was asked
            seen = state.sight.projected(name, zoo.teacher(name).features(images))
            torch.testing.assert_close(kept, seen, rtol=0.05, atol=0.05)  # bfloat16
    metrics = run_steps(method, state, zoo, 1, 8)
    assert metrics[-1]["distillation"] < 0.9  # 1 explains nothing of what they see
    assert "sight" in state.state_dict()
    assert "sight" not in _method().init(zoo, Rng(0)).state_dict()


def test_of_few_teachers_none_is_held_out(zoo, monkeypatch):
    few = _method(validation_teachers=None).init(zoo, Rng(0))
    assert list(few.answering.outputs_of) == zoo.ids
    assert few.validation.ids == []
    monkeypatch.setattr("dfml.methods.consolidate.FEW", 4)
    assert len(_method(validation_teachers=None).init(zoo, Rng(0)).validation.ids) == 1


def test_without_answers_the_backbones_features_are_compared(zoo):
    method = _method(features=7, answers_weight=0.0, validation_teachers=0)
    (encoder,) = method.learner(method.init(zoo, Rng(0))).networks
    assert encoder.backbone.description["kind"] == "conv4"
    with pytest.raises(InputError, match="answers_weight"):
        _method(answers_weight=0.0)


def test_nothing_can_be_learned_of_black_boxes_without_answers(monkeypatch):
    closed = ToyZoo()
    monkeypatch.setattr(closed, "capabilities", lambda model: Capability.LOGITS | Capability.GRADIENTS)
    with pytest.raises(InputError, match="features can be seen"):
        _method(features=7, answers_weight=0.0, validation_teachers=0).init(closed, Rng(0))


class BoxZoo(ToyZoo):
    """Toys of which the first keeps its gradients, and the others tell labels alone."""

    def __init__(self, open_ids=("t0",)):
        super().__init__()
        self.open_ids = open_ids
        for name in set(self.ids) - set(open_ids):
            self.teachers[name] = Counted(BlackBox(self.teachers[name].teacher, "labels"), self.tally)

    def capabilities(self, model):
        return self.teachers[model].capabilities


def test_black_boxes_are_asked_within_their_budget_about_one_image_each():
    zoo = BoxZoo(open_ids=())
    method = _method(recovery=ByTeacher(latent=8, steps=1), questions=25, drawn=10, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 5)
    assert [line["queries"] for line in metrics] == [0] * 5  # the loop counts them
    assert state.questions.asked == dict(zoo.tally.by_teacher) == dict.fromkeys(zoo.ids, 25)
    assert len(state.bank) == 25  # of the third step half of the images; nobody is visited, or asked to name any
    assert state.updates > 4 * 3
    saved = method.init(zoo, Rng(0))
    saved.load_state_dict(state.state_dict())
    assert method.plan(saved, zoo, Rng(9)) == {Role.REVIEW: []}


def test_models_with_gradients_are_visited_and_asked_on_where_black_boxes_are_not():
    zoo = BoxZoo()
    method = _method(recovery=ByTeacher(latent=8, steps=1), questions=30, drawn=10, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    assert method.plan(state, zoo, Rng(0))[Role.VISIT] == ["t0"]
    run_steps(method, state, zoo, 0, 3)
    assert {name: state.questions.asked[name] for name in zoo.ids[1:]} == dict.fromkeys(zoo.ids[1:], 30)
    assert state.questions.asked["t0"] == zoo.tally.by_teacher["t0"] > 3 * 28
    assert len(state.bank) == 3 * (18 + 10)
    outputs = state.answering.columns_of["t1"]
    assert int(was_asked(state.bank.answers[: len(state.bank), outputs]).all(1).sum()) == 30


def test_a_budget_needs_a_recovery_that_asks_black_boxes_nothing():
    zoo = BoxZoo(open_ids=())
    for box in zoo.teachers.values():
        box.capabilities |= Capability.PROBABILITIES
    with pytest.raises(InputError, match="ZerothOrder"):
        _method(recovery=ZerothOrder(), questions=25).init(zoo, Rng(0))


def test_a_held_out_black_box_is_asked_where_its_budget_allows():
    zoo = BoxZoo(open_ids=())
    for questions, judged in ((25, False), (100, True)):
        method = _method(recovery=ByTeacher(latent=8), questions=questions, drawn=10)
        state = method.init(zoo, Rng(0))
        run_steps(method, state, zoo, 0, 1)
        assert bool(method.validate(state, Rng(0))) == judged
        (held_out,) = state.validation.ids
        assert state.questions.asked.get(held_out, 0) == (3 * 18 if judged else 0)
