import pytest
import torch

from dfml.errors import InputError
from dfml.training.bank import AnswerBank, Bank


def _bank(**options) -> Bank:
    return Bank(**{"classes": 6, "capacity": 8, "shape": (1, 2, 2)} | options)


def _flat(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_the_newest_images_of_a_class_stay():
    bank = _bank(capacity=3)
    bank.add(_flat([i / 255 for i in range(5)]), torch.zeros(5, dtype=torch.long), teacher=0)
    assert bank.images(0)[:, 0, 0, 0].tolist() == [2, 3, 4]
    bank.add(_flat([9 / 255]), torch.tensor([0]), teacher=0)
    assert sorted(bank.images(0)[:, 0, 0, 0].tolist()) == [3, 4, 9]


def test_quantisation_rounds_by_default_and_floors_when_asked():
    for floor, expected in ((False, 2), (True, 1)):
        bank = _bank(floor=floor)
        bank.add(_flat([1.6 / 255]), torch.tensor([1]), teacher=0)
        assert int(bank.images(1)[0, 0, 0, 0]) == expected


def test_episodes_are_balanced_over_teachers():
    bank = _bank(classes=2, capacity=100)
    for c in (0, 1):
        bank.add(torch.zeros(90, 1, 2, 2), torch.full((90,), c), teacher=0)
        bank.add(torch.ones(10, 1, 2, 2), torch.full((10,), c), teacher=1)
    generator = torch.Generator().manual_seed(0)
    share = torch.stack(
        [bank.episode(way=2, shot=1, queries=1, generator=generator).query_x.mean() for _ in range(300)]
    ).mean()
    assert 0.4 < float(share) < 0.6, "a teacher with a tenth of the images should still give half of the draws"


def test_episode_labels_and_images_belong_together():
    bank = _bank()
    for c in range(6):
        bank.add(_flat([c / 255] * 8), torch.full((8,), c), teacher=c)
    episode = bank.episode(way=4, shot=2, queries=3, generator=torch.Generator().manual_seed(1))
    assert episode.support_x.shape == (8, 1, 2, 2)
    assert episode.query_y.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for label in range(4):
        support = episode.support_x[episode.support_y == label].unique()
        query = episode.query_x[episode.query_y == label].unique()
        assert support.tolist() == query.tolist()
        assert len(support) == 1


def test_too_small_a_bank_says_so():
    with pytest.raises(InputError, match="0 classes have 16 images"):
        _bank().episode(way=5, shot=1, queries=15, generator=torch.Generator())


def test_images_of_one_teacher():
    bank = _bank()
    bank.add(_flat([0.2] * 4), torch.tensor([2, 2, 3, 3]), teacher=5)
    bank.add(_flat([0.8] * 4), torch.tensor([2, 2, 3, 3]), teacher=6)
    images, labels = bank.of_teacher(5, torch.tensor([3, 2]), 4, torch.Generator().manual_seed(0))
    assert labels.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(images, torch.full_like(images, round(0.2 * 255) / 255))


def test_state_round_trip():
    bank, other = _bank(), _bank()
    bank.add(torch.rand(8, 1, 2, 2), torch.arange(8) % 6, teacher=1)
    other.load_state_dict(bank.state_dict())
    assert all(torch.equal(bank.images(c), other.images(c)) for c in range(6))
    assert len(other) == 8
    bank.add(torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.long), teacher=1)
    assert len(other) == 8, "the other bank has images of its own"


def test_the_class_that_waits_longest_for_an_image_is_forgotten_first(monkeypatch):
    monkeypatch.setattr("dfml.training.bank.BANK_BYTES", 4 * 10)  # ten images of four bytes
    bank = _bank(capacity=4)
    for c in (0, 1, 0, 2, 3):
        bank.add(_flat([c / 255] * 3), torch.full((3,), c), teacher=c)
    assert bank.counts.tolist() == [4, 0, 3, 3, 0, 0]
    assert len(bank) == 10
    other = _bank(capacity=4)
    other.load_state_dict(bank.state_dict())
    for after in (bank, other):
        after.add(_flat([1.0]), torch.tensor([1]), teacher=1)
        assert after.counts.tolist() == [0, 1, 3, 3, 0, 0], "a resumed bank forgets in the same order"
    assert set((bank.sample(100, torch.Generator()) * 255).unique().tolist()) == {2, 3, 255}
    assert len(bank.of_teacher(0, torch.tensor([0]), 4, torch.Generator())[0]) == 0


def test_a_bank_takes_the_memory_of_its_images_however_many_classes_there_are():
    bank = Bank(classes=1_000_000, capacity=400, shape=(3, 32, 32))  # 1.2 TB if every class had its images
    bank.add(torch.rand(20, 3, 32, 32), torch.tensor([7, 999_999]).repeat(10), teacher=0)
    assert len(bank) == 20
    assert [len(bank.images(c)) for c in (7, 8, 999_999)] == [10, 0, 10]
    assert list(bank.state_dict()["rings"]) == [7, 999_999]


def _answers(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count).float()[:, None].expand(-1, 3)


def test_answers_stay_with_their_images_and_the_oldest_make_room():
    bank = AnswerBank(capacity=5, shape=(1, 2, 2), outputs=3)
    for first in (0, 4):
        bank.add(_flat(list(range(first, first + 4))).byte(), _answers(first, 4))
    images, answers = bank.sample(200, torch.Generator().manual_seed(0))
    held = (images[:, 0, 0, 0] * 255).round()
    assert sorted(set(held.tolist())) == [3, 4, 5, 6, 7]
    assert torch.equal(answers, held[:, None].expand(-1, 3))


def test_a_half_filled_bank_of_answers_travels():
    bank, other = (AnswerBank(capacity=5, shape=(1, 2, 2), outputs=3) for _ in range(2))
    bank.add(_flat([1.0, 2.0]).byte(), _answers(1, 2))
    assert len(bank.state_dict()["images"]) == 2
    other.load_state_dict(bank.state_dict())
    first, second = (b.sample(9, torch.Generator().manual_seed(3)) for b in (bank, other))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
