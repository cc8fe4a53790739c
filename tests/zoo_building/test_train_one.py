import pytest
import torch

from dfml.errors import InputError
from dfml.randomness import Rng
from dfml.zoo_building.train_one import _batches, held_out_accuracy, scale, train_classifier
from tiny_zoo import SPEC, network

SETTINGS = {"epochs": 3, "batch_size": 32, "lr": 0.01, "optimiser": "adam"}


def coloured(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes, told apart by their strongest channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(n)
    images = torch.randint(0, 150, (3 * n, 3, 16, 16), generator=generator)
    images[torch.arange(3 * n), labels] += 50
    return images.byte(), labels


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_it_learns_and_leaves_the_network_in_eval_mode(optimiser):
    images, labels = coloured(100)
    net, losses = network(0), []
    settings = SETTINGS | {"optimiser": optimiser, "rng": Rng(0), "on_epoch": lambda epoch, loss: losses.append(loss)}
    train_classifier(images, labels, net, SPEC, **settings)
    accuracy = held_out_accuracy(*coloured(50, seed=1), net, SPEC)
    assert accuracy["mean"] > 90
    assert accuracy["n"] == 150
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert not net.training


def test_equal_seeds_give_equal_weights():
    images, labels = coloured(20)
    networks = [network(0), network(0), network(0)]
    for net, seed in zip(networks, (1, 1, 2), strict=True):
        train_classifier(images, labels, net, SPEC, rng=Rng(seed), shift=2, **SETTINGS)
    first, again, other = (net.head.weight for net in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def batches(flips: bool, shift: int, n: int = 64) -> list[torch.Tensor]:
    """Augmented copies of one image whose pixels are all different."""
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    padded = torch.nn.functional.pad(image.float(), (shift,) * 4, mode="replicate").byte()
    padded = padded.permute(0, 2, 3, 1).expand(n, -1, -1, -1)
    return next(_batches(padded, torch.arange(n), 1, 16, flips, shift, torch.Generator().manual_seed(0)))[1]


def test_without_augmentation_images_are_as_given():
    assert (batches(flips=False, shift=0) == torch.arange(256).view(16, 16)).all()


def test_half_of_the_images_are_mirrored():
    image = torch.arange(256).view(16, 16)
    kinds = [bool((one[0] == image).all()) for one in batches(flips=True, shift=0)]
    mirrored = [bool((one[0] == image.flip(-1)).all()) for one in batches(flips=True, shift=0)]
    assert all(a != b for a, b in zip(kinds, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


def test_shifts_move_whole_images_by_at_most_the_given_pixels():
    corners = {
        (int(one[0, 8, 8]) // 16 - 8, int(one[0, 8, 8]) % 16 - 8) for one in batches(flips=False, shift=2, n=500)
    }
    assert corners == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_bytes_are_scaled_as_the_spec_says():
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(scale(images, SPEC), (images.float() / 255 - 0.5) / 0.25)


def test_accuracy_and_its_interval():
    net = network(0, classes=2)
    net.head.weight.data.zero_()
    net.head.bias.data = torch.tensor([1.0, 0.0])
    images = torch.zeros(1000, 3, 16, 16, dtype=torch.uint8)
    accuracy = held_out_accuracy(images, (torch.arange(1000) >= 900).long(), net, SPEC)
    assert accuracy == {"mean": 90.0, "ci95": pytest.approx(196 * (0.09 / 1000) ** 0.5, abs=1e-3), "n": 1000}


def test_images_of_another_size_are_refused():
    with pytest.raises(InputError, match="16, 16"):
        train_classifier(
            torch.zeros(6, 3, 20, 20).byte(), torch.zeros(6).long(), network(0), SPEC, rng=Rng(0), **SETTINGS
        )
