from pathlib import Path

import pytest
import torch

from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.zoo import BlackBox, Capability, Counted, Tally, Teacher, Zoo
from dfml.zoo.index import Entry, Index
from dfml.zoo.views import local
from toys import toy_teacher

IMAGES = torch.rand(5, 3, 16, 16)


def test_every_image_that_passes_through_a_teacher_is_counted_once():
    tally, own = Tally(), toy_teacher()
    one, other = Counted(own, tally), Counted(toy_teacher("b"), tally)
    assert isinstance(one, Teacher)
    assert local(one) is own
    assert torch.equal(one.forward(IMAGES).logits, own.forward(IMAGES).logits)
    assert tally.queries == 5
    one.answers(IMAGES)
    one.features(IMAGES[:2])
    other.forward(IMAGES[:1], statistics=True)
    assert tally.queries == 5 + 5 + 2 + 1


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_a_black_box_gives_its_kind_of_answer_and_nothing_more(kind):
    own = toy_teacher()
    box = BlackBox(own, kind)
    assert isinstance(box, Teacher)
    assert Capability.LABELS in box.capabilities
    assert (Capability.PROBABILITIES in box.capabilities) == (kind == "probabilities")
    assert not box.capabilities & (Capability.LOGITS | Capability.GRADIENTS | Capability.FEATURES)
    labels = own.answers(IMAGES).argmax(-1)
    assert torch.equal(box.answers(IMAGES, "labels"), labels)
    if kind == "probabilities":
        assert torch.equal(box.answers(IMAGES, kind).argmax(-1), labels)
        torch.testing.assert_close(box.answers(IMAGES, kind).sum(-1), torch.ones(5))
    refused = ["logits"] + (["probabilities"] if kind == "labels" else [])
    for more in refused:
        with pytest.raises(InputError, match=f"{more} of toy, which gives {kind} alone"):
            box.answers(IMAGES, more)
    for asked in (box.forward, box.features):
        with pytest.raises(InputError, match=f"which gives {kind} alone"):
            asked(IMAGES)


def test_what_is_asked_of_a_black_box_counts_too():
    tally = Tally()
    box = Counted(BlackBox(toy_teacher(), "labels"), tally)
    box.answers(IMAGES, "labels")
    assert tally.queries == 5
    assert local(box) is None


def test_a_teacher_fits_images_of_another_canvas_itself():
    own = toy_teacher()
    large = torch.rand(4, 3, 40, 40)
    fitted = own.card.input_spec.fit(large)
    assert torch.equal(own.forward(large).logits, own.forward(fitted).logits)
    assert torch.equal(own.answers(large), own.answers(fitted))
    images = large.requires_grad_()
    (gradient,) = torch.autograd.grad(own.forward(images).logits.sum(), [images])
    assert gradient.abs().sum() > 0


def canvas(*specs: InputSpec) -> InputSpec:
    models = tuple(Entry(f"m{i}", "dfml:conv4", (f"c{i}", f"d{i}"), "", {}, spec) for i, spec in enumerate(specs))
    return Zoo(Path("nowhere"), Index("z", False, models=models)).canvas


def test_the_canvas_is_what_all_models_take_where_they_agree():
    spec = InputSpec(size=28, channels=1, mean=(0.1,), std=(0.3,))
    assert canvas(spec, spec) == spec


def test_of_several_sizes_it_takes_the_median_with_a_bound_and_of_several_channels_the_most():
    grey = InputSpec(size=28, channels=1, mean=(0.1,), std=(0.3,))
    small, large = InputSpec(size=32), InputSpec(size=224)
    assert canvas(large) == InputSpec(size=96)
    assert canvas(grey, small, large).size == 32
    assert canvas(grey, small, large).channels == 3
    assert canvas(small, large) == InputSpec(size=32)
