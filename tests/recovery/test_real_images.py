import pytest
import torch

from dfml.errors import InputError
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.recovery import RealImages, Visit
from toys import SPEC, toy_teacher


def test_every_image_shows_the_wanted_class_of_its_teacher(shades):
    recovery = RealImages(data=shades)
    visits = [Visit(toy_teacher("t", ("c", "a")), torch.tensor([0, 1, 0])), Visit(toy_teacher("u"), torch.arange(3))]
    shown = recovery.recover(recovery.init(SPEC, Rng(0)), visits, rng=Rng(0))
    shades = [(255 * r.images.mean((1, 2, 3))).round().tolist() for r in shown]
    assert shades == [[40, 0, 40], [0, 20, 40]]


def test_a_class_that_the_data_lacks_is_refused(shades):
    recovery = RealImages(data=shades)
    state = recovery.init(SPEC, Rng(0))
    with pytest.raises(InputError, match=r"knows z, which .* lacks"):
        recovery.recover(state, [Visit(toy_teacher("t", ("a", "z")), torch.tensor([0]))], rng=Rng(0))


def test_a_run_with_real_images_says_so(shades):
    method = resolve("best", {"recovery": "real_images", "recovery.data": shades}).build()
    assert method.recovery.uses_data
    assert method.uses_data
    assert not resolve("best").build().uses_data
