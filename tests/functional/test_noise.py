import pytest
import torch

from dfml.functional.noise import CAST, COLOUR, GREY, natural_noise


def _noise(channels: int = 3, seed: int = 0) -> torch.Tensor:
    return natural_noise(300, channels, 32, torch.Generator().manual_seed(seed))


def test_amplitudes_fall_as_one_over_frequency():
    spectrum = torch.fft.fft2(_noise()).abs().mean((0, 1))
    for f in (2, 4, 7):
        for there, twice in ((spectrum[0, f], spectrum[0, 2 * f]), (spectrum[f, f], spectrum[2 * f, 2 * f])):
            assert float(there / twice) == pytest.approx(2, rel=0.25)  # clamping to [0, 1] adds a little at every one


def test_channels_mostly_agree_and_images_differ_in_tone():
    images = _noise()
    assert images.shape == (300, 3, 32, 32)
    assert 0 <= float(images.min()) < 0.1
    assert 0.9 < float(images.max()) <= 1
    within = images - images.mean((2, 3), keepdim=True)
    red, green = within[:, 0].flatten(), within[:, 1].flatten()
    shared = GREY**2 / (GREY**2 + COLOUR**2)
    assert float(torch.corrcoef(torch.stack([red, green]))[0, 1]) == pytest.approx(shared, abs=0.05)
    means = images.mean((2, 3))
    assert float(means.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(means.std()) == pytest.approx(CAST, rel=0.15)


def test_one_channel_and_equal_generators():
    assert _noise(1).shape == (300, 1, 32, 32)
    assert torch.equal(_noise(), _noise())
    assert not torch.equal(_noise(), _noise(seed=1))
