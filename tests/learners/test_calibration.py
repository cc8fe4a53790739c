import pytest
import torch

from dfml.functional.contrastive import supervised_contrastive
from dfml.learners import LEARNERS
from dfml.learners.base import embed
from dfml.learners.calibration import IMAGES, TEMPERATURE, calibrated, inverted
from dfml.learners.learner_file import load_learner, save_learner
from toys import toy_encoder

G = torch.Generator().manual_seed(0)
COLOURS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])[:, :, None, None]
LABELS = torch.arange(3).repeat(4)
IMAGES_OF_COLOURS = (COLOURS[LABELS] + 0.1 * torch.randn(12, 3, 16, 16, generator=G)).clamp(0, 1)
SUPPORT, QUERY = IMAGES_OF_COLOURS[:6], IMAGES_OF_COLOURS[6:]


def adapt(name: str, **options):
    return LEARNERS[name](toy_encoder(), **options).adapt(SUPPORT, LABELS[:6])


def contrast(predictor, images, labels) -> float:
    features = embed(list(predictor.encoders), torch.cat([SUPPORT, images]), normalise=predictor.normalise)
    return float(supervised_contrastive(features, torch.cat([LABELS[:6], labels]), temperature=TEMPERATURE))


@pytest.mark.parametrize("name", ["maml", "anil", "protonet"])
def test_off_by_default_and_after_some_steps_support_and_inverted_images_agree_better(name):
    plain, none, some = adapt(name), adapt(name, icfil_steps=0), adapt(name, icfil_steps=20)
    assert torch.equal(plain(QUERY), none(QUERY))
    assert not torch.allclose(plain(QUERY), some(QUERY))
    images, labels = inverted(plain, 3)
    assert images.shape == (3 * IMAGES, 3, 16, 16)
    assert contrast(some, images, labels) < 0.95 * contrast(plain, images, labels)
    assert float((some(QUERY).argmax(-1) == LABELS[6:]).float().mean()) >= 0.8


def test_inverted_images_are_of_the_wanted_classes_for_the_predictor_and_the_same_at_every_call():
    predictor = adapt("maml", inner_lr=0.5, test_steps=20)
    images, labels = inverted(predictor, 3)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert float((predictor(images).argmax(-1) == labels).float().mean()) > 0.6
    assert torch.equal(images, inverted(predictor, 3)[0])


@pytest.mark.parametrize("norm", ["running", "support", "query_batch"])
def test_the_predictor_that_is_calibrated_stays_as_it_is(norm):
    predictor = LEARNERS["maml"](toy_encoder()).adapt(SUPPORT, LABELS[:6], norm=norm)
    before = predictor(QUERY)
    after = calibrated(predictor, SUPPORT, LABELS[:6], steps=2)
    assert torch.equal(predictor(QUERY), before)
    assert after.transductive == (norm == "query_batch")
    assert not torch.allclose(after(QUERY), before)
    assert not any(p.requires_grad for p in after.parameters())


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_a_file_keeps_the_option_and_says_nothing_where_it_is_off(name, tmp_path):
    learner = LEARNERS[name](toy_encoder(), icfil_steps=2).eval()
    assert learner.frozen_encoders is None
    save_learner(learner, tmp_path / "learner")
    again = load_learner(tmp_path).adapt(SUPPORT, LABELS[:6])
    assert torch.equal(again(QUERY), learner.adapt(SUPPORT, LABELS[:6])(QUERY))
    assert "icfil_steps" not in LEARNERS[name](toy_encoder()).options
