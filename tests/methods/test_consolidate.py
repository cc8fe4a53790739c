import pytest
import torch
import torch.nn.functional as F

from dfml.functional.divergences import kl_divergence
from dfml.methods.consolidate import Consolidate, _mean_kl
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from toys import ToyZoo

QUICK = {
    "width": 4, "images_per_class": 6, "updates": 3, "batch_size": 16, "relations": 64, "capacity": 300, "cycle": 30,
    "validation_episodes": 3,
}  # fmt: skip


def _method(**options) -> Consolidate:
    return Consolidate(recovery=MetaGenerator(latent=8, steps=1), **QUICK | options)


def _run(method: Consolidate, state, zoo: ToyZoo, first: int, last: int) -> list[dict]:
    metrics = []
    for step in range(first, last):
        rng = Rng(0).at("step", step)
        metrics.append(method.step(state, [zoo.teacher(i) for i in method.select(state, zoo, rng)], rng))
    return metrics


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def test_answers_are_the_teachers_own_and_the_sketch_keeps_distances(zoo):
    method = _method(relations=4096)
    state = method.init(zoo, Rng(0))
    teachers = [zoo.teacher(i) for i in state.committee]
    images = torch.rand(12, 3, 16, 16)
    answers = method._ask(teachers, images, state.sketch)
    with torch.no_grad():
        for teacher in teachers:
            given = answers["logits"][:, state.committee[teacher.card.id]]
            torch.testing.assert_close(given, teacher.logits(images), rtol=0.05, atol=0.05)  # bfloat16
        joined = torch.cat([F.normalize(t.features(images), dim=-1) for t in teachers], -1)
    wanted = torch.cdist(joined, joined) ** 2 / len(teachers)
    sketched = torch.cdist(answers["relations"], answers["relations"]) ** 2
    off = ~torch.eye(12, dtype=torch.bool)
    assert (sketched / wanted)[off].sub(1).abs().mean() < 0.1


def test_the_divergence_is_the_mean_over_teachers_of_any_number_of_classes():
    wanted, given = torch.randn(2, 7, 8)
    parts = [slice(0, 3), slice(3, 5), slice(5, 8)]
    each = torch.stack([kl_divergence(wanted[:, p], given[:, p]) for p in parts])
    torch.testing.assert_close(_mean_kl(wanted, given, parts), each.mean())


def test_the_student_learns_the_committees_answers(zoo):
    method = _method(updates=20, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    metrics = _run(method, state, zoo, 0, 8)
    assert metrics[-1]["logits"] < 0.7 * metrics[0]["logits"]
    assert metrics[-1]["relations"] < 0.7 * metrics[0]["relations"]
    assert metrics[0]["adversarial"] == 0
    assert metrics[-1]["adversarial"] != 0


def test_a_committee_bounds_who_answers_but_not_who_is_visited(zoo):
    method = _method(committee=2, validation_teachers=0, teachers_per_step=4)
    state = method.init(zoo, Rng(0))
    assert len(state.committee) == 2
    chosen = method.select(state, zoo, Rng(0))
    assert len(chosen) == 4 + 2
    assert chosen[4:] == list(state.committee)
    _run(method, state, zoo, 0, 2)
    assert state.bank.answers["logits"].shape[1] == 6


def test_every_image_is_answered_by_every_member_once_for_each_variant(zoo):
    method = _method(variants=2, validation_teachers=0)
    state = method.init(zoo, Rng(0))
    (metrics,) = _run(method, state, zoo, 0, 1)
    assert metrics["images"] == 4 * 18
    assert len(state.bank) == 2 * 4 * 18
    assert metrics["queries"] == 2 * 4 * 18 * len(state.committee)
