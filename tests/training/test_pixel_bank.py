"""A bank whose pixels are learned, and which classes are."""

import copy

import pytest
import torch

import dfml.training.pixel_bank
from dfml.training.feedback import Feedback
from dfml.training.pixel_bank import COPIES, PixelBank, learned_classes
from toys import ToyZoo

ROWS = [2, 5, 7, 9]


@pytest.fixture(scope="module")
def zoo() -> ToyZoo:
    return ToyZoo()


def bank() -> PixelBank:
    """Every image is of one colour, by which it is known again."""
    shades = torch.arange(4 * 6).view(4, 6, 1, 1, 1) / 100 + 0.1
    return PixelBank(shades.expand(4, 6, 3, 4, 4), ROWS, lr=0.1)


def test_a_teachers_outputs_find_their_images_in_the_teachers_order():
    assert bank().known(torch.tensor([9, 1, 2])) == [(0, 3), (2, 0)]


def test_adam_moves_the_classes_of_a_step_alone_and_keeps_pixels_in_range():
    mine = bank()
    start = mine.images(range(4)).detach()
    up = torch.full((6, 3, 4, 4), -1.0)
    mine.follow({1: up, 3: -up})
    after = mine.images(range(4)).detach()
    torch.testing.assert_close(after[1], start[1] + 0.1)
    torch.testing.assert_close(after[3], (start[3] - 0.1).clamp(0, 1))
    mine.follow({1: up})
    assert torch.equal(mine.images([3]).detach()[0], after[3]), "no drift by momentum"
    for _ in range(20):
        mine.follow({1: up})
    assert float(mine.images([1]).detach().max()) == 1
    assert mine.visits.tolist() == [0, 22, 0, 1]


def test_an_episode_is_made_of_visited_classes_and_no_image_is_support_and_query():
    mine = bank()
    assert mine.ready(4) == []
    mine.follow({place: torch.zeros(6, 3, 4, 4) for place in (0, 2, 3)})
    assert mine.ready(4) == [0, 2, 3]
    assert mine.ready(7) == []
    episode = mine.episode(way=2, shot=1, queries=3, generator=torch.Generator().manual_seed(0))
    shades = (100 * (torch.cat([episode.support_x, episode.query_x])[:, 0, 0, 0] - 0.1)).round().long()
    assert shades.unique().numel() == 8
    labels = torch.cat([episode.support_y, episode.query_y])
    classes = [set((shades[labels == label] // 6).tolist()) for label in range(2)]
    assert all(len(each) == 1 for each in classes)
    assert classes[0] != classes[1]
    assert classes[0] | classes[1] <= {0, 2, 3}
    assert episode.support_y.tolist() == [0, 1]
    assert not episode.support_x.requires_grad


def test_a_state_travels_with_moments_and_visits():
    one, other = bank(), bank()
    push = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    one.follow({0: push})
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, other):
        each.follow({0: -0.3 * push, 2: push})
    assert torch.equal(one.images(range(4)), other.images(range(4)))
    assert torch.equal(one.visits, other.visits)


def learned(zoo, **options) -> list[str]:
    values = {"but": ["a"], "at_most": 99, "images_per_class": 2, "together": 5} | options
    return [zoo.class_ids[row] for row in learned_classes(zoo, zoo.ids, generator=torch.Generator(), **values)]


def test_all_classes_are_learned_but_those_held_out(zoo):
    assert learned(zoo) == list("bcdefgh")


def test_of_too_many_classes_those_that_one_teacher_knows_are_learned(zoo):
    three = learned(zoo, but=[], at_most=3)
    assert any(set(three) == set(zoo.entry(name).class_ids) for name in zoo.ids)
    assert len(learned(zoo, at_most=5, together=1)) == 5


def test_memory_is_bounded(zoo, monkeypatch):
    monkeypatch.setattr(dfml.training.pixel_bank, "BANK_BYTES", 2 * COPIES * 4 * 2 * 3 * 16 * 16 + 1)
    assert len(learned(zoo)) == 2


def test_feedback_waits_for_a_better_accuracy():
    feedback = Feedback()
    for accuracy in (30.0, 40.0, 40.0, 35.0):
        feedback.hear(accuracy)
    assert feedback.waited == 2
    other = Feedback()
    other.load_state_dict(feedback.state_dict())
    other.hear(41.0)
    assert (other.waited, other.best) == (0, 41.0)
    other.reset()
    other.hear(1.0)
    assert other.waited == 0
