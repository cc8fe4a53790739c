import copy

import pytest
import torch

from dfml.errors import InputError
from dfml.methods.base import Role, teachers_of
from dfml.methods.free import FREE
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from toys import ToyZoo, run_steps

QUICK = {"images_per_class": 6, "warmup_steps": 1, "validation_episodes": 3, "rounds": 2}
REPLAY = {"patience": 1, "episodes": 2, "way": 3, "queries": 2}


def _method(recovery: dict | None = None, *, learner: str = "protonet", replay: dict | None = None, **options) -> FREE:
    return FREE(
        recovery=MetaGenerator(**{"latent": 8, "steps": 1} | (recovery or {})),
        model=ModelOptions(learner, width=4),
        replay=ReplayOptions(**REPLAY | (replay or {})),
        **QUICK | options,
    )


def _weights(state) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def test_warm_up_trains_the_generator_alone(zoo):
    method = _method(warmup_steps=2)
    state = method.init(zoo, Rng(0))
    generator, model = copy.deepcopy(state.recovery.generator.state_dict()), _weights(state)
    metrics = run_steps(method, state, zoo, 0, 2)
    assert torch.equal(model, _weights(state))
    assert any(not torch.equal(v, generator[k]) for k, v in state.recovery.generator.state_dict().items())
    assert len(state.bank) == 0
    assert metrics[0]["student"] == 0
    assert metrics[0]["adversarial"] == 0
    assert method.validate(state, Rng(0)) == {}
    with pytest.raises(InputError, match="a run of 2 steps, all of them warm-up"):
        method.learner(state)


def test_every_teachers_images_reach_the_bank_under_their_class(zoo):
    method = _method(warmup_steps=0, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    rng = Rng(0).at("step", 0)
    plan = method.plan(state, zoo, rng)
    method.step(state, teachers_of(zoo, plan), rng)
    visited = set(plan[Role.VISIT])
    for name in visited:
        rows, number = zoo.rows(name), zoo.number_of[name]
        assert all(int((state.bank.teachers(row) == number).sum()) == 6 for row in rows.tolist())
    assert len(state.bank) == 18 * len(visited)


def test_a_small_zoo_visits_each_teacher_once_and_loses_no_round(zoo, monkeypatch):
    """Fewer teachers than ``teachers_per_step``: what is visited and what is reviewed are told apart by role."""
    method = _method(warmup_steps=0, rounds=4, teachers_per_step=16, validation_teachers=2)
    state, aligned = method.init(zoo, Rng(0)), []
    there = state.validation.training_ids
    assert len(there) < 4
    plan = method.plan(state, zoo, Rng(0))
    assert sorted(plan[Role.VISIT]) == sorted(there)
    assert sorted(plan[Role.REVIEW]) == sorted(3 * there)
    monkeypatch.setattr("dfml.methods.free.align", lambda model, tasks, *_, **__: aligned.append(len(tasks)) or 0.0)
    report = method.step(state, teachers_of(zoo, plan), Rng(0))
    assert report.images == sum(
        6 * len(state.validation.training_labels(zoo.cards[i], 5, torch.Generator())) // 6 for i in there
    )
    assert aligned == 4 * [len(there)]


def test_held_out_classes_never_reach_training(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 4)
    held_out = [zoo.class_ids.index(c) for c in state.validation.class_ids]
    assert held_out
    assert state.bank.written[held_out].sum() == 0
    assert not {zoo.number_of[i] for i in state.validation.ids} & state.bank.givers()
    assert method.validate(state, Rng(9)).keys() == {"pseudo_val", "pseudo_val_chance"}
    assert len(state.validation.bank) > 0


def test_teachers_agree_on_rows_of_the_class_head(zoo):
    method = _method()
    state = method.init(zoo, Rng(0))
    first, second = state.rows(zoo.teacher("t0")), state.rows(zoo.teacher("t1"))
    assert first[2] == second[0], "class c is output 2 of t0 and output 0 of t1"
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(state.model(images, first)[:, 2], state.model(images, second)[:, 0])


def test_a_step_moves_the_encoder_in_place(zoo):
    method = _method(warmup_steps=0, replay={"patience": 0})
    state = method.init(zoo, Rng(0))
    before = {k: (p, p.detach().clone()) for k, p in state.model.named_parameters()}
    run_steps(method, state, zoo, 0, 1)
    for name, p in state.model.named_parameters():
        assert p is before[name][0]
        if name.endswith("weight"):
            assert not torch.equal(p, before[name][1]), name


@pytest.mark.slow
def test_distillation_falls_over_a_few_steps(zoo):
    method = _method({"steps": 5}, warmup_steps=0, outer_lr=0.02, replay={"patience": 0})
    state = method.init(zoo, Rng(0))
    losses = [m["distillation"] for m in run_steps(method, state, zoo, 0, 30)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_resuming_from_a_state_dict_continues_to_the_same_bits(zoo):
    whole_method, whole = _method(), None
    whole = whole_method.init(zoo, Rng(0))
    run_steps(whole_method, whole, zoo, 0, 5)
    first_method = _method()
    first = first_method.init(zoo, Rng(0))
    run_steps(first_method, first, zoo, 0, 3)
    first_method.validate(first, Rng(1))
    second_method = _method()
    second = second_method.init(zoo, Rng(0))
    second_method_state = copy.deepcopy(first.state_dict())
    second.load_state_dict(second_method_state)
    run_steps(second_method, second, zoo, 3, 5)
    assert torch.equal(_weights(whole), _weights(second))
    for a, b in zip(whole.average.state_dict().values(), second.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("learner", ["maml", "anil", "protonet", "centroid"])
def test_every_learner_trains(zoo, learner):
    method = _method(learner=learner)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 2)[-1]
    assert metrics["distillation"] > 0
    assert metrics["replay_batches"] >= 1
    predictor = method.learner(state).adapt(torch.rand(4, 3, 16, 16), torch.tensor([0, 0, 1, 1]))
    assert predictor(torch.rand(2, 3, 16, 16)).shape == (2, 2)


def test_average_alignment_is_the_mean_gradient_and_sequential_is_not(zoo, monkeypatch):
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)  # whose rounding is larger than the step
    outcomes = {}
    for alignment, lr in (("average", 0.1), ("sequential", 0.1), ("sequential", 1e-4)):
        method = _method(warmup_steps=0, alignment=alignment, fast_lr=lr, replay={"patience": 0}, rounds=1)
        state = method.init(zoo, Rng(0))
        run_steps(method, state, zoo, 0, 1)
        outcomes[alignment, lr] = torch.cat([p.grad.flatten() for p in state.model.distilled_parameters().values()])
    plain = outcomes["average", 0.1]
    near, far = ((plain - outcomes["sequential", lr]).norm() for lr in (1e-4, 0.1))
    assert near < 0.05 * plain.norm()
    assert far > 3 * near


def test_too_many_validation_teachers_are_refused(zoo):
    with pytest.raises(InputError, match="5 validation teachers of a zoo of 5"):
        _method(validation_teachers=5).init(zoo, Rng(0))


@pytest.mark.parametrize("options", [{"replay": {"way": 9}}, {"replay": {"shot": 3, "queries": 5}, "bank_capacity": 7}])
def test_episodes_that_the_bank_can_never_fill_are_refused_before_any_work(zoo, options):
    with pytest.raises(InputError, match="training classes of at most"):
        _method(**options).init(zoo, Rng(0))


def test_few_images_of_a_held_out_class_make_smaller_episodes(zoo):
    method = _method(images_per_class=2)
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 3)
    assert state.validation.queries == 5
    assert 0 <= method.validate(state, Rng(9))["pseudo_val"] <= 100
