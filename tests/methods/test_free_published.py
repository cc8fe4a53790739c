import pytest
import torch

from dfml.errors import InputError
from dfml.methods.base import Role
from dfml.methods.free_published import PublishedFREE
from dfml.nn import Classifier, build_backbone
from dfml.randomness import Rng
from dfml.zoo import Counted, LocalTeacher
from toys import ToyZoo, run_steps


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def test_it_keeps_only_the_last_teachers_images_and_its_student_is_the_last_replayed_learner(zoo):
    method = PublishedFREE(way=3, warmup_steps=1, patience=2, width=4)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 3)
    assert len(state.bank) == 2 * 3 * 20
    assert [m["student"] for m in metrics] == [0, 0, 1]
    assert all("bn" not in m for m in metrics)
    assert metrics[1]["replay_batches"] >= 3  # two without a better one
    assert metrics[2]["adversarial"] != 0
    assert state.last_support[0].shape == (3, 3, 16, 16)


def test_teachers_are_drawn_with_replacement(zoo):
    method = PublishedFREE(way=3, width=4)
    state = method.init(zoo, Rng(0))
    drawn = [method.plan(state, zoo, Rng(i))[Role.VISIT] for i in range(20)]
    assert all(len(ids) == 4 for ids in drawn)
    assert any(len(set(ids)) < 4 for ids in drawn)


def test_a_shared_head_needs_teachers_of_its_own_number_of_classes(zoo):
    with pytest.raises(InputError, match="t0 has 3 classes"):
        PublishedFREE().init(zoo, Rng(0))


def test_a_run_in_its_warm_up_has_no_learner(zoo):
    method = PublishedFREE(way=3, width=4)
    with pytest.raises(InputError, match="all of them warm-up"):
        method.learner(method.init(zoo, Rng(0)))


# Measured in double precision with the method that this one was copied from, when it was FREE with every switch set
# (commit 40b40c2), on teachers with random weights.
GOLDEN = [
    {"class": 1.0400069825029705, "adversarial": 0.0},
    {"class": 0.9696829380878995, "adversarial": 0.0, "distillation": -0.4566329962002283},
]


@pytest.mark.slow
def test_a_whole_step_gives_the_numbers_of_the_code_that_it_was_copied_from(monkeypatch):
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    zoo = ToyZoo()
    torch.set_default_dtype(torch.float64)
    try:
        for seed, (name, teacher) in enumerate(list(zoo.teachers.items())):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                network = Classifier(build_backbone("conv4", image_size=16, width=4), 3)
            zoo.teachers[name] = Counted(LocalTeacher(teacher.card, network), zoo.tally)
        method = PublishedFREE(way=3, warmup_steps=1, patience=1, width=4)
        state = method.init(zoo, Rng(0))
        for metrics, golden in zip(run_steps(method, state, zoo, 0, 2), GOLDEN, strict=True):
            assert {name: metrics[name] for name in golden} == pytest.approx(golden, rel=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)
