"""Arrays as people hand them over: converted where the meaning is certain, else refused; never NaN."""

import pytest
import torch

from dfml.errors import InputError
from dfml.learners import LEARNERS
from dfml.learners.task_classifier import TaskClassifier
from dfml.zoo.views import Counted, Tally
from toys import toy_encoder, toy_teacher

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


@pytest.mark.parametrize("ask", ["forward", "features", "answers"])
@pytest.mark.parametrize("view", [lambda teacher: teacher, lambda teacher: Counted(teacher, Tally())])
def test_teachers_convert_by_type_and_never_answer_nan(ask, view):
    """Their answers are asked for in inner loops, so values are not looked at."""
    teacher = view(toy_teacher("toy", ("a", "b"), seed=0))
    size = teacher.card.input_spec.size
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def answer(given):
        answers = getattr(teacher, ask)(given)
        return answers.logits if ask == "forward" else answers

    wanted = answer(images.float() / 255)
    assert torch.equal(answer(images), wanted)
    assert torch.equal(answer((images.float() / 255).double()), wanted)
    torch.testing.assert_close(answer((images.float() / 255).half()), wanted, atol=5e-2, rtol=0)
    for wrong in (images.int(), images.long()):
        with pytest.raises(InputError, match="images of type int"):
            answer(wrong)


def test_a_classifier_takes_images_of_any_size_and_colour():
    classifier = TaskClassifier(LEARNERS["protonet"](toy_encoder()).adapt(FLOATS, LABELS), ("a", "b"))
    for shape in ((2, 3, 40, 30), (2, 1, 16, 16)):
        assert classifier.predict(torch.rand(shape)).probabilities.shape == (2, 2)


@pytest.mark.parametrize("norm", ["running", "support", "query_batch"])
def test_a_predictor_looks_at_a_bounded_number_of_images_at_once(norm):
    predictor = LEARNERS["protonet"](toy_encoder()).adapt(FLOATS, LABELS, norm=norm)
    seen = []
    predictor.encoders[0].register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    many = FLOATS.repeat(75, 1, 1, 1)
    answers = predictor(many)
    assert seen == ([300] if norm == "query_batch" else [128, 128, 44])
    if norm != "query_batch":
        torch.testing.assert_close(answers, predictor(FLOATS).repeat(75, 1))
