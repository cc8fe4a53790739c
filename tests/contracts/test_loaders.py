"""What every registered loader promises. Names come from the registry: a new one needs no edit here."""

import pytest
import torch

from dfml.errors import InputError
from dfml.zoo import Capability, Teacher, Zoo
from dfml.zoo.loaders import LOADERS, loader_of, loaders
from dfml.zoo.store import EMBEDDED


def models(prefix: str) -> list[tuple[Zoo, str]]:
    """Of the zoos that ship, those of this source."""
    zoos = [Zoo.open(name) for name in EMBEDDED]
    return [(zoo, i) for zoo in zoos for i in zoo.ids if zoo.entry(i).source.startswith(f"{prefix}:")]


@pytest.mark.parametrize("prefix", loaders())
def test_what_a_loader_promises_its_teachers_give(prefix):
    assert isinstance(loaders()[prefix].capabilities(f"{prefix}:any"), Capability)
    for zoo, model in models(prefix)[:2]:
        teacher, images = zoo.teacher(model), torch.rand(3, *zoo.canvas.shape)
        assert isinstance(teacher, Teacher)
        assert zoo.capabilities(model) & ~teacher.capabilities == Capability(0)
        answers = teacher.answers(images, "labels")
        assert answers.shape == (3,)
        if Capability.LOGITS in teacher.capabilities:
            assert teacher.answers(images).shape == (3, len(teacher.card.class_ids))
        if Capability.GRADIENTS in teacher.capabilities:
            (gradient,) = torch.autograd.grad(teacher.forward(images.requires_grad_()).logits.sum(), [images])
            assert gradient.abs().sum() > 0


def test_every_loader_of_ours_has_a_model_to_be_tested_on():
    assert all(models(prefix) for prefix in LOADERS)


@pytest.mark.parametrize("source", ["conv4", "timm", "unknown:resnet", "dfml:"])
def test_a_source_without_a_loader_is_refused(source):
    with pytest.raises(InputError, match="source"):
        loader_of(source)
