import torch

from dfml.randomness import Rng
from dfml.recovery import DeepInversion, Visit
from toys import SPEC, toy_teacher

LABELS = torch.arange(3).repeat(6)


def recover(**options):
    recovery = DeepInversion(**{"steps": 30, **options})
    return recovery.recover(recovery.init(SPEC, Rng(0)), [Visit(toy_teacher(), LABELS)], rng=Rng(1))[0]


def test_pixels_come_to_look_like_what_the_teacher_knows():
    first, last = recover(steps=1), recover()
    assert last.images.shape == (18, 3, 16, 16)
    assert 0 <= last.images.min() < last.images.max() <= 1
    assert last.terms["class"] < first.terms["class"] / 2
    assert last.terms["bn"] < first.terms["bn"] / 2
    right = toy_teacher().forward(last.images).logits.argmax(-1) == LABELS
    assert right.float().mean() > 0.9


def test_equal_generators_give_equal_images_and_the_total_variation_smooths():
    images = recover().images
    assert torch.equal(images, recover().images)
    rough = recover(tv_weight=0.0)
    assert set(rough.terms) == {"class", "bn"}
    assert images.diff(dim=3).abs().mean() < rough.images.diff(dim=3).abs().mean()


def test_without_batchnorm_statistics():
    assert set(recover(bn_weight=0.0).terms) == {"class", "tv"}


def test_images_start_as_white_or_as_natural_noise():
    rough = {}
    for start in ("white", "natural"):
        images = recover(start=start, steps=1, lr=0.0).images  # a step of no size
        rough[start] = float(images.diff(dim=3).abs().mean() / images.std())
        moved = recover(start=start, steps=3, lr=0.01).images - images
        assert 0 < moved.abs().max() <= 0.031  # three steps of Adam move a pixel by at most three step sizes
    assert rough["natural"] < rough["white"] / 2
