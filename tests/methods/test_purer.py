import copy
from dataclasses import replace

import pytest
import torch

from dfml.compute.ranks import AbstractRanks
from dfml.errors import InputError
from dfml.methods.base import Role
from dfml.methods.purer import PURER
from dfml.nn import norm_layers
from dfml.randomness import Rng
from dfml.runs.train import check_capabilities
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from toys import ToyZoo, run_steps

SMALL = {"validation_teachers": 0, "teachers_per_step": 3, "adversarial_from": 0}


def build(learner: str = "maml", *, replay: dict | None = None, inner: dict | None = None, **options) -> PURER:
    return PURER(
        model=ModelOptions(learner, inner or {}, width=4),
        replay=ReplayOptions(**{"limit": 1, "episodes": 2, "way": 3, "queries": 3} | (replay or {})),
        **SMALL | options,
    )


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)


def pushes(method, state, zoo, monkeypatch) -> dict[int, torch.Tensor]:
    """The gradients that a step hands to Adam, which then stays where it is."""
    found: list[dict[int, torch.Tensor]] = []
    monkeypatch.setattr("dfml.training.pixel_bank.PixelBank.follow", lambda _, gradients: found.append(gradients))
    run_steps(method, state, zoo, 0, 1)
    return found[0]


def visited(method, state, zoo) -> list[str]:
    return method.plan(state, zoo, Rng(0).at("step", 0))[Role.VISIT]


def test_pixels_follow_the_plain_sum_of_what_each_teacher_says_of_its_classes_in_its_order(zoo, exact, monkeypatch):
    method = build(teachers_per_step=5, flip=False)
    state = method.init(zoo, Rng(0))
    found = pushes(method, state, zoo, monkeypatch)
    wanted = {row: torch.zeros(4, 3, 16, 16) for row in range(8)}
    for i, name in enumerate(visited(method, state, zoo)):
        teacher = zoo.teacher(name)
        rows = [zoo.class_ids.index(c) for c in teacher.card.class_ids]
        blocks = [state.bank.pixels[row].detach().clone().requires_grad_() for row in rows]
        labels = torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
        augment = Rng(0).at("step", 0).generator("augment", i)
        terms = method.inversion.terms(teacher, torch.cat(blocks), labels, augment)
        loss = 1.0 * terms["class"] + 10.0 * terms["bn"] + 10.0 * terms["tv"]
        for row, gradient in zip(rows, torch.autograd.grad(loss, blocks), strict=True):
            wanted[row] += gradient
    assert found.keys() == wanted.keys()
    for row, gradient in wanted.items():
        torch.testing.assert_close(found[row], gradient)


def test_an_adversarial_step_takes_off_the_weighted_gradient_of_the_outer_loss(zoo, monkeypatch):
    method = build()
    plain = pushes(method, method.init(zoo, Rng(0)), zoo, monkeypatch)
    state = method.init(zoo, Rng(0))
    state.feedback.waited = method.patience
    places = sorted(plain)
    _, climb = method._outer(state, places, Rng(0).at("step", 0).generator("adversarial"))
    pushed = pushes(method, state, zoo, monkeypatch)
    for place, own in zip(places, climb, strict=True):
        torch.testing.assert_close(pushed[place], plain[place] - 10.0 * own)
    assert float(climb.abs().max()) > 0


@pytest.mark.parametrize("learner", ["maml", "anil", "protonet"])
def test_the_outer_loss_is_differentiated_through_the_inner_loop(zoo, learner):
    inner = {"train_steps": 2, "inner_lr": 0.5} if learner != "protonet" else {}
    method = build(learner, inner=inner)
    state = method.init(zoo, Rng(0))
    state.learner.double()
    state.bank.pixels.double()
    places = [0, 2, 3, 6]

    def outer():
        return method._outer(state, places, Rng(0).generator("episode"))

    episode = state.bank.episode_of(places, way=3, shot=1, queries=3, generator=Rng(0).generator("episode"))
    loss, gradient = outer()
    torch.testing.assert_close(loss, state.learner.meta_loss(episode)[0].detach())
    size, direction = 1e-5, torch.randn(4, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    supports = torch.stack(
        [(state.bank.pixels[p][:, None] == episode.support_x).all(4).all(3).all(2).any(1) for p in places]
    )
    assert int(supports.sum()) == 3
    direction = direction * supports[:, :, None, None, None]  # images of the support alone: what the inner loop sees
    readings = []
    for sign in (1, -1):
        with torch.no_grad():
            for place, own in zip(places, direction, strict=True):
                state.bank.pixels[place] += sign * size * own
        readings.append(float(outer()[0]))
        with torch.no_grad():
            for place, own in zip(places, direction, strict=True):
                state.bank.pixels[place] -= sign * size * own
    difference = (readings[0] - readings[1]) / (2 * size)
    assert float((gradient * direction).sum()) == pytest.approx(difference, rel=1e-3)


def test_a_prototypical_network_learns_no_statistics_from_the_adversarial_episode(zoo):
    method = build("protonet")
    state = method.init(zoo, Rng(0))
    before = [layer.running_mean.clone() for layer in norm_layers(state.learner)]
    method._outer(state, [0, 1, 2], Rng(0).generator("episode"))
    assert all(torch.equal(a, b.running_mean) for a, b in zip(before, norm_layers(state.learner), strict=True))


def test_tasks_get_harder_when_accuracy_no_longer_rises_and_not_before(zoo, monkeypatch):
    accuracies = iter([30.0, 40.0, 40.0, 39.0, 20.0, 20.0, 20.0, 20.0])
    met = {"replay_loss": 1.0, "replay_batches": 1.0}
    monkeypatch.setattr(
        "dfml.methods.purer.replay", lambda *_, **__: (met | {"replay_accuracy": next(accuracies)}, None)
    )
    method = build(patience=2)
    told = [m["adversarial"] for m in run_steps(method, method.init(zoo, Rng(0)), zoo, 0, 8)]
    assert told == [0, 0, 0, 0, 1, 0, 0, 1], "two in a row without a better one; the best starts anew afterwards"
    accuracies = iter([50.0] * 8)
    late = build(patience=2, adversarial_from=6)
    told = [m["adversarial"] for m in run_steps(late, late.init(zoo, Rng(0)), zoo, 0, 8)]
    assert told == [0, 0, 0, 0, 0, 0, 1, 0]
    accuracies = iter([50.0] * 8)
    never = build(patience=2, adversarial_weight=0.0)
    assert not any(m["adversarial"] for m in run_steps(never, never.init(zoo, Rng(0)), zoo, 0, 8))


def test_an_adversarial_step_makes_an_episode_harder_than_a_plain_one(zoo, exact):
    losses = {}
    for waited in (0, 6):
        method = build(replay={"patience": 0})
        state = method.init(zoo, Rng(0))
        run_steps(method, state, zoo, 0, 10)
        state.feedback.waited = waited
        run_steps(method, state, zoo, 10, 11)
        places = state.bank.ready(4)
        generators = [Rng(1).generator(i) for i in range(20)]
        losses[waited] = sum(float(method._outer(state, places, g)[0]) for g in generators)
    assert losses[6] > losses[0]


def test_teachers_come_to_see_their_classes_in_the_pixels(zoo):
    method = build(replay={"patience": 0}, teachers_per_step=5)
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 40)
    assert metrics[-1]["class"] < metrics[0]["class"] / 3
    assert metrics[-1]["bn"] < metrics[0]["bn"]
    assert metrics[0]["images"] == 8 * 4
    assert metrics[1]["images"] == 0, "the same images, moved"
    (sheet,) = method.recovered_sheet(state, [zoo.teacher("t3")], Rng(0))
    said = zoo.teacher("t3").answers(sheet.images, "labels")
    assert float((said == sheet.labels).float().mean()) > 0.9
    assert sheet.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_the_learner_learns_from_the_pixels(zoo):
    method = build("protonet", replay={"limit": 8, "patience": 8, "lr": 0.01}, teachers_per_step=5)
    losses = [m["replay_loss"] for m in run_steps(method, method.init(zoo, Rng(0)), zoo, 0, 20)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_held_out_classes_have_no_pixels(zoo):
    method = build(validation_teachers=1, validation_episodes=2, replay={"way": 2})
    state = method.init(zoo, Rng(0))
    assert state.validation.class_ids
    assert not {zoo.class_ids.index(c) for c in state.validation.class_ids} & state.bank.place_of.keys()
    assert set(state.visited).isdisjoint(state.validation.ids)
    run_steps(method, state, zoo, 0, 2)
    assert method.validate(state, Rng(9)).keys() == {"pseudo_val", "pseudo_val_chance"}
    (sheet,) = method.recovered_sheet(state, [zoo.teacher(state.validation.ids[0])], Rng(0))
    assert len(sheet.images) == len(sheet.labels) > 0


def test_no_more_classes_are_learned_than_asked_for_and_a_teacher_of_many_shows_some_at_a_time(zoo):
    method = build(classes=4, classes_per_visit=2)
    state = method.init(zoo, Rng(0))
    assert len(state.bank.pixels) == 4
    assert "4 of 8 classes" in state.notes[0]
    known = {zoo.class_ids[row] for row in state.bank.place_of}
    assert all(known & set(zoo.entry(name).class_ids) for name in state.visited)
    state.zoo.tally.queries = 0
    run_steps(method, state, zoo, 0, 2)
    assert state.zoo.tally.queries <= 2 * 3 * 2 * 4
    assert build().init(zoo, Rng(0)).notes == ()


def test_a_run_goes_on_to_the_same_bits_through_an_adversarial_step(zoo):
    method = build(patience=1)
    whole, first, second = (method.init(zoo, Rng(0)) for _ in range(3))
    told = [m["adversarial"] for m in run_steps(method, whole, zoo, 0, 9)]
    assert 1 in told[6:]
    run_steps(method, first, zoo, 0, 6)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run_steps(method, second, zoo, 6, 9)
    for name in ("learner", "average"):
        ours, theirs = (getattr(state, name).state_dict() for state in (whole, second))
        assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
    assert torch.equal(whole.bank.images(range(8)), second.bank.images(range(8)))


class Backwards(AbstractRanks):
    """As several processes: what is computed first is not what comes first."""

    rank, world = 0, 2

    def map(self, function, items):
        return [function(items[i]) for i in reversed(range(len(items)))][::-1]


def test_who_computes_what_makes_no_difference(zoo):
    images = []
    for ranks in (None, Backwards()):
        method = build("protonet", patience=1)
        state = method.init(zoo, Rng(0))
        state.ranks = ranks or state.ranks
        run_steps(method, state, zoo, 0, 4)
        images.append(state.bank.images(range(8)).detach())
    assert torch.equal(*images)


def test_black_boxes_are_refused_before_any_work():
    closed = ToyZoo()
    closed._entries = {i: replace(closed.entry(i), capabilities=("labels", "probabilities")) for i in closed.ids}
    with pytest.raises(InputError, match=r"t0 cannot give LOGITS\|GRADIENTS"):
        check_capabilities(build(), closed)


def test_episodes_that_the_pixels_can_never_fill_are_refused(zoo):
    with pytest.raises(InputError, match="training classes of at most 3 images"):
        build(images_per_class=3).init(zoo, Rng(0))
