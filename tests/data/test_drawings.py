import pytest
import torch

from dfml.data.drawings import draw
from dfml.nn import InputSpec
from dfml.randomness import Rng


@pytest.mark.parametrize("drawing", ["leaves", "things", "characters", "things and characters"])
@pytest.mark.parametrize("spec", [InputSpec(size=32), InputSpec(1, 20, (0.5,), (0.25,))])
def test_pictures_fit_any_canvas_and_follow_their_generator(drawing, spec):
    first, second, other = (draw(drawing, 5, spec, Rng(seed).generator("draw")) for seed in (0, 0, 1))
    assert first.shape == (5, *spec.shape)
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert float(first.flatten(1).std(1).min()) > 0.01  # there is something to see


def test_of_two_kinds_as_many_are_drawn():
    spec = InputSpec(size=32)
    both = draw("things and characters", 9, spec, Rng(0).generator("draw"))
    things = draw("things", 4, spec, Rng(0).generator("draw"))
    found = [any(torch.equal(image, each) for each in things) for image in both]
    assert sum(found) == 4
    assert found != sorted(found)  # in no order
    assert found != sorted(found, reverse=True)
