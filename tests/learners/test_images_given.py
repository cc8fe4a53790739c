"""Arrays as people hand them over: converted where the meaning is certain, else refused; never NaN."""

import pytest
import torch

from dfml.errors import InputError
from dfml.learners import LEARNERS
from dfml.learners.predictor_file import TaskClassifier
from toys import toy_encoder

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 1])
FLOATS = IMAGES.float() / 255


@pytest.fixture(params=LEARNERS)
def learner(request):
    return LEARNERS[request.param](toy_encoder())


def test_bytes_and_other_floats_mean_the_same(learner):
    wanted = learner.adapt(FLOATS, LABELS).probabilities(FLOATS)
    assert torch.isfinite(wanted).all()
    assert torch.equal(learner.adapt(IMAGES, LABELS).probabilities(IMAGES), wanted)
    torch.testing.assert_close(
        learner.adapt(FLOATS.double(), LABELS).probabilities(FLOATS.half()), wanted, atol=2e-2, rtol=0
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (IMAGES.float(), "divide them by 255"),
        (IMAGES.int(), "images of type int32"),
        (FLOATS - 0.5, "from -0.5"),
        (FLOATS + float("inf"), "inf"),
        (FLOATS.clone().fill_(float("nan")), "nan"),
        (FLOATS[0], r"shape \(3, 16, 16\)"),
        (FLOATS > 0.5, "images of type bool"),
    ],
)
def test_what_is_no_image_in_0_to_1_is_refused(learner, wrong, words):
    with pytest.raises(InputError, match=words):
        learner.adapt(wrong, LABELS)
    with pytest.raises(InputError, match=words):
        learner.adapt(FLOATS, LABELS)(wrong)


def test_a_classifier_takes_images_of_any_size_and_colour():
    classifier = TaskClassifier(LEARNERS["protonet"](toy_encoder()).adapt(FLOATS, LABELS), ("a", "b"))
    for shape in ((2, 3, 40, 30), (2, 1, 16, 16)):
        assert classifier.predict(torch.rand(shape)).probabilities.shape == (2, 2)
