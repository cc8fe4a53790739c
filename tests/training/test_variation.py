import torch

from dfml.randomness import Rng
from dfml.recovery import Recovered
from dfml.training.variation import Variation
from toys import SPEC


def test_images_that_vary_by_themselves_are_only_shifted_and_mirrored():
    generator = torch.Generator().manual_seed(0)
    alike, natural = (torch.rand(6, 3, 16, 16, generator=generator) for _ in range(2))
    shown = [Recovered(alike, torch.zeros(6).long(), {}), Recovered(natural, torch.zeros(6).long(), {}, varied=True)]
    images = Variation(distortion=1.6, mixed=1.0, flip=False)(shown, SPEC, Rng(0))

    def seen_in(image, originals):
        """Whether it is one of them, moved: its middle is cut from there."""
        windows = originals.unfold(2, 8, 1).unfold(3, 8, 1)
        return float((windows - image[:, None, None, 4:12, 4:12]).abs().amax((1, 4, 5)).min()) < 1e-4

    assert len(images) == 12
    assert [seen_in(image, natural) for image in images] == [True] * 6 + [False] * 6
    assert not any(seen_in(image, alike) for image in images)
    plain = Variation(distortion=0.0, mixed=0.0, flip=False)(shown[:1], SPEC, Rng(0))
    assert all(seen_in(image, alike) for image in plain)
