import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from dfml.errors import InputError
from dfml.functional.divergences import kl_divergence
from dfml.methods.base import Role, teachers_of
from dfml.methods.bidf_mkd import BiDfMKD, _student, _Task
from dfml.nn import batch_statistics
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, ZerothOrder
from dfml.runs.train import check_capabilities
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from dfml.zoo.views import ANSWERS, BlackBox, Counted
from toys import ToyZoo, run_steps

VISIT = 2 * 18 * (2 * 4 + 1) + 2 * 18  # two sets of 6 images of 3 classes, recovered and answered once


class BoxedZoo(ToyZoo):
    """The toy zoo behind an API that gives probabilities."""

    def __init__(self):
        super().__init__()
        self.teachers = {
            name: Counted(BlackBox(teacher.teacher), self.tally) for name, teacher in self.teachers.items()
        }

    def capabilities(self, model):
        return ANSWERS["probabilities"]


def _method(*, learner: str = "protonet", replay: dict | None = None, recovery: dict | None = None, **options):
    quick = {"images_per_class": 6, "warmup_steps": 1, "inner_steps": 2, "validation_episodes": 2}
    return BiDfMKD(
        recovery=ZerothOrder(
            **{"generator": "pixelshuffle", "latent": 8, "steps": 2, "directions": 3} | (recovery or {})
        ),
        model=ModelOptions(learner, width=4),
        replay=ReplayOptions(**{"patience": 1, "limit": 2, "episodes": 2, "way": 3, "queries": 2} | (replay or {})),
        **quick | {"validation_teachers": 0} | options,
    )


@pytest.fixture
def zoo() -> BoxedZoo:
    return BoxedZoo()


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_it_trains_on_black_boxes_and_both_sets_are_kept(zoo, learner):
    method = _method(learner=learner)
    check_capabilities(method, zoo)
    state = method.init(zoo, Rng(0))
    before = copy.deepcopy(state.model.state_dict())
    first, second = run_steps(method, state, zoo, 0, 2)
    assert len(state.memory) == 2 * 2 * 18
    assert first["images"] == second["images"] == 36
    assert "query_boundary" not in first
    assert "query_boundary" in second
    assert first["distillation"] > 0
    assert second["replay_batches"] >= 1
    assert all(not torch.equal(v, before[k]) for k, v in state.model.state_dict().items() if k.endswith("weight"))
    with pytest.raises(InputError, match="a differentiable pass"):
        zoo.teacher("t0").forward(torch.rand(1, 3, 16, 16))


def test_every_question_is_counted(zoo):
    method = _method(validation_teachers=1)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 3)
    assert sum(m["queries"] for m in metrics) == zoo.tally.queries == state.questions.total > 0
    method.validate(state, Rng(1))
    assert zoo.tally.queries == state.questions.total > sum(m["queries"] for m in metrics)


def test_a_teacher_whose_budget_is_used_up_is_asked_no_more(zoo):
    """One visit fits in twice VISIT - 1; then the memory alone is learned from."""
    method = _method(query_budget_per_teacher=2 * VISIT - 1)
    state = method.init(zoo, Rng(0))
    assert state.notes == (f"A visit asks a model {VISIT} questions.",)
    metrics = run_steps(method, state, zoo, 0, 6)
    assert sorted(state.questions.asked) == zoo.ids
    assert set(state.questions.asked.values()) == {VISIT}
    assert [m["queries"] for m in metrics] == 5 * [VISIT] + [0]
    assert method.plan(state, zoo, Rng(0)) == {}
    assert metrics[-1]["replay_batches"] >= 1
    assert metrics[-1]["images"] == 0


def test_all_teachers_together_have_a_budget(zoo):
    method = _method(query_budget=2 * VISIT + 5, validation_teachers=1)
    state = method.init(zoo, Rng(0))
    cost = {name: method._cost(state, name) for name in zoo.ids}
    metrics = run_steps(method, state, zoo, 0, 6)
    assert VISIT < state.questions.total <= 2 * VISIT + 5
    assert min(cost[i] for i in state.validation.visited_ids) > metrics[-1]["queries_left"]
    assert method.validate(state, Rng(0)) == {}, "it would ask more than is left"
    assert zoo.tally.queries == state.questions.total


def test_a_budget_below_one_visit_is_refused(zoo):
    with pytest.raises(InputError, match=rf"a budget of 100 questions\s+wanted: at least {VISIT}"):
        _method(query_budget=100).init(zoo, Rng(0))
    with pytest.raises(InputError, match="recovery MetaGenerator"):
        BiDfMKD(recovery=MetaGenerator())


def test_questions_asked_survive_a_checkpoint(zoo):
    method = _method(query_budget_per_teacher=VISIT)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 5)
    other = method.init(zoo, Rng(0))
    other.load_state_dict(copy.deepcopy(state.state_dict()))
    assert method.plan(other, zoo, Rng(0)) == {}


def _naive_outer(model, rows, inner, outer, steps, lr):
    """The outer loss after plain gradient descent on the inner one, written out."""

    def logits(parameters, images):
        with batch_statistics(model):
            return functional_call(model, parameters, (images, rows), tie_weights=False)

    parameters = dict(model.distilled_parameters())
    for _ in range(steps):
        loss = kl_divergence(inner[1], logits(parameters, inner[0]))
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        parameters = {k: p - lr * g for (k, p), g in zip(parameters.items(), gradients, strict=True)}
    return kl_divergence(outer[1], logits(parameters, outer[0]))


def test_the_meta_gradient_goes_through_the_inner_distillation(zoo, monkeypatch):
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    method = _method(inner_steps=3, inner_lr=0.5)
    state = method.init(zoo, Rng(0))
    teacher, (support, query) = zoo.teacher("t1"), torch.rand(2, 9, 3, 16, 16)
    task = _Task(method._distance(state, teacher, support), method._distance(state, teacher, query))
    method._add_gradient(state, task)
    said = [teacher.answers(x, "probabilities").log() for x in (support, query)]
    rows = zoo.rows("t1")
    loss = _naive_outer(state.model, rows, (support, said[0]), (query, said[1]), 3, 0.5)
    parameters = state.model.distilled_parameters()
    naive = torch.autograd.grad(loss, list(parameters.values()))
    assert torch.allclose(task.met[0], loss, atol=1e-4)
    for p, g in zip(parameters.values(), naive, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-4, rtol=1e-2)
    first = _method(inner_steps=3, inner_lr=0.5, second_order=False)
    state.outer.zero_grad()
    first._add_gradient(state, task)
    assert any(not torch.allclose(p.grad, g, rtol=0.05) for p, g in zip(parameters.values(), naive, strict=True))


def test_the_gradient_is_added_to_that_of_the_replayed_tasks(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    images = torch.rand(9, 3, 16, 16)
    task = _Task(*2 * [method._distance(state, zoo.teacher("t0"), images)])
    method._add_gradient(state, task)
    once = [p.grad.clone() for p in state.model.distilled_parameters().values()]
    method._add_gradient(state, task)
    for p, g in zip(state.model.distilled_parameters().values(), once, strict=True):
        assert torch.allclose(p.grad, 2 * g, rtol=1e-3, atol=1e-6)


def test_the_student_is_the_model_after_the_inner_level(zoo):
    """It answers in the teacher's order, nearer to the teacher than before, and images' gradients pass through it."""
    method = _method(inner_steps=20, inner_lr=0.5)
    state = method.init(zoo, Rng(0))
    teacher, rows, images = zoo.teacher("t1"), zoo.rows("t1"), torch.rand(12, 3, 16, 16)
    inner = method._distance(state, teacher, images)
    before = dict(state.model.distilled_parameters())
    after = method._distilled(state, inner)
    said = teacher.answers(images, "probabilities").log()
    x = images.clone().requires_grad_()
    far, near = (
        F.kl_div(_student(state.model, rows, p, x).log_softmax(-1), said, log_target=True, reduction="batchmean")
        for p in (before, after)
    )
    assert float(near) < 0.5 * float(far)
    assert float(torch.autograd.grad(near, [x])[0].abs().sum()) > 0
    assert all(p.grad is None for p in state.model.parameters())


def test_a_memory_of_too_few_classes_leaves_the_distillation(zoo):
    method = _method(replay={"way": 5})
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 1)[0]
    assert "replay_loss" not in metrics
    assert metrics["distillation"] > 0
    assert float(state.model.head.weight.grad.abs().sum()) > 0


def test_pictures_come_from_the_memory_without_a_question(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    rng = Rng(0).at("step", 0)
    plan = method.plan(state, zoo, rng)
    method.step(state, teachers_of(zoo, plan), rng)
    asked, teacher = zoo.tally.queries, zoo.teacher(plan[Role.VISIT][0])
    (sheet,) = method.recovered_sheet(state, [teacher], Rng(0))
    assert zoo.tally.queries == asked
    assert len(sheet.images) == 18
    assert sheet.labels.bincount().tolist() == [6, 6, 6]
