import torch

from dfml.randomness import Rng
from dfml.recovery import ByTeacher, Visit
from dfml.zoo import BlackBox, Capability
from toys import SPEC, toy_teacher

LABELS = torch.arange(3).repeat(4)


def recovered(recovery, state, teachers, number=0):
    return recovery.recover(state, [Visit(t, LABELS) for t in teachers], rng=Rng(0).at("step", number))


def test_a_teacher_that_the_meta_generator_does_not_reach_is_settled_on_pixels():
    recovery = ByTeacher(trials=2, enough=1.0, pixel_steps=3, pixel_classes=2)
    state, teacher = recovery.init(SPEC, Rng(0)), toy_teacher("t")
    for number in range(4):
        (shown,) = recovered(recovery, state, [teacher], number)
    assert state.visits == 3
    assert state.ways == {"t": "pixels"}
    assert shown.terms["pixels"] == 1
    assert shown.labels.unique().tolist() == [0, 1]


def test_one_that_it_reaches_stays():
    recovery = ByTeacher(trials=1, enough=0.0)
    state = recovery.init(SPEC, Rng(0))
    for number in range(3):
        (shown,) = recovered(recovery, state, [toy_teacher("t")], number)
    assert state.ways == {"t": "meta_generator"}
    assert shown.terms["pixels"] == 0
    assert len(shown.images) == len(LABELS)


def test_black_and_white_boxes_are_visited_side_by_side_in_their_order():
    recovery = ByTeacher(only="pixels", pixel_steps=2)
    state = recovery.init(SPEC, Rng(0))
    black, white = BlackBox(toy_teacher("b"), "labels"), toy_teacher("w", seed=1)
    drawn, pixels = recovered(recovery, state, [black, white])
    assert drawn.terms["drawn"] == 1
    assert pixels.terms["pixels"] == 1
    assert torch.equal(drawn.labels, black.answers(drawn.images, "labels"))


def test_what_was_found_travels_with_a_checkpoint():
    recovery = ByTeacher(trials=0, enough=1.0, pixel_steps=1)
    state = recovery.init(SPEC, Rng(0))
    recovered(recovery, state, [toy_teacher("t")])
    other = recovery.init(SPEC, Rng(1))
    other.load_state_dict(state.state_dict())
    assert (other.ways, other.visits, other.found) == (state.ways, state.visits, state.found)
    again, first = (recovered(recovery, s, [toy_teacher("t")], 1)[0] for s in (other, state))
    assert torch.equal(again.images, first.images)


def trained_beside(peer):
    """What was found of a teacher of a, b, c by the meta-generator, in two visits with one peer."""
    recovery = ByTeacher(trials=1, enough=0.0)
    state = recovery.init(SPEC, Rng(0))
    for number in range(2):
        visit = Visit(toy_teacher("t"), LABELS, peers=[peer])
        (shown,) = recovery.recover(state, [visit], rng=Rng(0).at("step", number))
    return state, shown


def test_a_teacher_whose_images_its_peers_do_not_recognise_is_settled_on_pixels():
    agreeing, _ = trained_beside(toy_teacher("p", ("a", "b", "c")))
    contradicting, _ = trained_beside(toy_teacher("p", ("b", "c", "a")))
    assert (agreeing.ways["t"], contradicting.ways["t"]) == ("meta_generator", "pixels")
    assert agreeing.found["t"]["recognised"] > 0 > contradicting.found["t"]["recognised"]


def test_the_score_of_a_peer_is_above_chance_and_of_common_classes_alone():
    peer = toy_teacher("p", ("c", "x"), seed=2)
    _, shown = trained_beside(peer)
    of_c = shown.images[shown.labels == 2]
    share = float((peer.answers(of_c, "labels") == 0).float().mean())
    assert shown.terms["recognised"] == 2 * share - 1


def test_peers_that_know_none_of_the_classes_say_nothing():
    recovery = ByTeacher(trials=0)
    state = recovery.init(SPEC, Rng(0))
    visit = Visit(toy_teacher("t"), LABELS, peers=[toy_teacher("p", ("x", "y", "z"))])
    (shown,) = recovery.recover(state, [visit], rng=Rng(0))
    assert "recognised" not in shown.terms
    assert state.found["t"].keys() == {"wanted"}


def test_a_share_of_the_visits_is_by_pixels_all_the_same():
    recovery = ByTeacher(trials=100, pixel_share=0.5, pixel_steps=1, steps=1)
    state, teachers = recovery.init(SPEC, Rng(0)), [toy_teacher(f"t{i}") for i in range(4)]
    shares = [r.terms["pixels"] for number in range(4) for r in recovered(recovery, state, teachers, number)]
    assert 4 <= sum(shares) <= 12
    assert state.visits == 16 - sum(shares)
    (shown,) = recovery.recover(state, [Visit(teachers[0], LABELS)], rng=Rng(0), learn=False)
    assert shown.terms["pixels"] == 0, "people look at what the meta-generator shows"


def test_one_way_for_all_is_for_all():
    recovery = ByTeacher(only="meta_generator", trials=0, pixel_share=1.0, steps=1)
    state = recovery.init(SPEC, Rng(0))
    shares = [recovered(recovery, state, [toy_teacher("t")], number)[0].terms["pixels"] for number in range(3)]
    assert shares == [0, 0, 0]


def test_half_of_the_visits_to_a_teacher_without_statistics_are_by_pixels():
    recovery, known = ByTeacher(trials=100, pixel_steps=1, steps=1), toy_teacher("k")
    unknown = toy_teacher("u")
    unknown.capabilities &= ~Capability.BN_STATISTICS
    state = recovery.init(SPEC, Rng(0))
    shown = [recovered(recovery, state, [known, unknown], number) for number in range(12)]
    by_pixels = [sum(each.terms["pixels"] for each in of_one) for of_one in zip(*shown, strict=True)]
    assert by_pixels[0] == 0
    assert 3 <= by_pixels[1] <= 9
