import pickle
from pathlib import Path

import pytest
import torch

from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.zoo import BlackBox, Capability, Counted, Tally, Teacher, Zoo
from dfml.zoo.index import Entry, Index
from dfml.zoo.told import Told
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
    assert tally.by_teacher == {"toy": 12, "b": 1}


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


@pytest.mark.parametrize("name", ["rounded", "top1", "top3", "top9"])
def test_a_black_box_may_tell_fewer_or_rounded_probabilities(name):
    own = toy_teacher()
    box = BlackBox(own, Told.named(name))
    whole, said = own.answers(IMAGES, "probabilities"), box.answers(IMAGES, "probabilities")
    torch.testing.assert_close(said.sum(-1), torch.ones(5))
    assert torch.equal(said.argmax(-1), whole.argmax(-1))
    assert not torch.equal(said, whole)
    assert float(said.min()) > 0
    if name == "top1":
        rest = said.sort(-1).values[:, :-1]
        torch.testing.assert_close(rest[:, 0], rest[:, 1])
    else:
        torch.testing.assert_close(said, whole, atol=0.011, rtol=0)
    assert torch.equal(box.answers(IMAGES, "labels"), whole.argmax(-1))


def test_other_names_of_what_is_told_are_refused():
    for name in ("top0", "logits", "some"):
        with pytest.raises(InputError, match="labels, top3"):
            Told.named(name)


@pytest.mark.parametrize("name", ["labels", "rounded"])
def test_a_zoo_of_black_boxes_is_the_same_models_of_which_one_sees_less(name):
    zoo = Zoo.open("glyphs")
    boxes = zoo.as_black_boxes(Told.named(name))
    model = zoo.ids[0]
    assert boxes.hash == zoo.hash
    assert Capability.LABELS in boxes.capabilities(model)
    assert Capability.GRADIENTS not in boxes.capabilities(model)
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(boxes.teacher(model).answers(images, "labels"), zoo.teacher(model).answers(images, "labels"))
    assert boxes.tally.by_teacher == {model: 3}
    with pytest.raises(InputError, match="weights are at hand"):
        boxes.network(model)
    same = boxes.on(torch.device("cpu")).subset(zoo.ids[:2]).set_up(canvas_size=16, cache_bytes=None)
    assert same.capabilities(model) == boxes.capabilities(model)
    assert pickle.loads(pickle.dumps(boxes)).told == boxes.told
    assert Capability.GRADIENTS in boxes.as_black_boxes(None).capabilities(model)


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
