"""What every registered loader promises. Names come from the registry: a new one needs no edit here.

Those whose library is not installed are tested where it is (`make test-vision`).
"""

import pytest
import torch

from dfml.errors import InputError
from dfml.zoo import Capability, Teacher, Zoo
from dfml.zoo.loaders import LOADERS, loader_of, loaders
from dfml.zoo.views import answers_and_features
from foreign_models import zoo_of


@pytest.fixture(params=loaders())
def model(request, tmp_path) -> tuple[Zoo, str]:
    """A small zoo with a model of this source, and its id."""
    return zoo_of(request.param, tmp_path)


def test_what_a_loader_promises_its_teachers_give(model):
    zoo, name = model
    assert isinstance(loader_of(zoo.entry(name).source).capabilities(zoo.entry(name).source), Capability)
    teacher, images = zoo.teacher(name), torch.rand(3, *zoo.canvas.shape)
    assert isinstance(teacher, Teacher)
    assert zoo.capabilities(name) & ~teacher.capabilities == Capability(0)
    answers = teacher.answers(images, "labels")
    assert answers.shape == (3,)
    if Capability.LOGITS in teacher.capabilities:
        assert teacher.answers(images).shape == (3, len(teacher.card.class_ids))
        again = torch.cat([teacher.answers(image[None]) for image in images])
        torch.testing.assert_close(again, teacher.answers(images), rtol=1e-3, atol=1e-3)  # neighbours do not matter
    if Capability.PROBABILITIES in teacher.capabilities:
        torch.testing.assert_close(teacher.answers(images, "probabilities").sum(-1), torch.ones(3))
    if Capability.FEATURES in teacher.capabilities:
        assert teacher.features(images).shape == (3, zoo.network(name).backbone.feature_size)
        logits, features = answers_and_features(teacher, images)
        torch.testing.assert_close(logits, teacher.answers(images), rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(features, teacher.features(images), rtol=5e-2, atol=5e-2)  # bfloat16
    if Capability.GRADIENTS in teacher.capabilities:
        (gradient,) = torch.autograd.grad(teacher.forward(images.requires_grad_()).logits.square().sum(), [images])
        assert gradient.abs().sum() > 0
        seen = teacher.forward(images, statistics=True).statistics
        assert bool(seen) == (Capability.BN_STATISTICS in teacher.capabilities)


def test_every_loader_of_ours_has_a_model_to_be_tested_on():
    from foreign_models import MADE

    assert MADE.keys() == LOADERS.keys()


@pytest.mark.parametrize("source", ["conv4", "timm", "unknown:resnet", "dfml:"])
def test_a_source_without_a_loader_is_refused(source):
    with pytest.raises(InputError, match="source"):
        loader_of(source)
