import pytest
import torch

from dfml.errors import InputError
from dfml.learners import LEARNERS
from dfml.learners.confidence import adapt_surely, left_out


@pytest.mark.parametrize("name", ["ridge", "centroid", "protonet", "maml"])
def test_an_image_is_answered_by_a_support_without_it(make_encoder, name):
    learner = LEARNERS[name](make_encoder()).eval()
    g = torch.Generator().manual_seed(0)
    images, labels = torch.rand(6, 3, 16, 16, generator=g), torch.tensor([1, 0, 1, 0, 1, 2])
    logits, wanted = left_out(learner, images, labels)
    assert wanted.tolist() == [1, 0, 1, 0, 1]  # the first of each class, the second, the third; not the only one
    rest = torch.tensor([2, 3, 4, 5])
    alone = learner.adapt(images[rest], labels[rest])(images[:2])
    torch.testing.assert_close(logits[:2], alone, atol=1e-4, rtol=1e-4)


def test_calibration_changes_no_answer_and_the_floor_lies_at_the_share(make_encoder, support, queries):
    learner = LEARNERS["ridge"](make_encoder()).eval()
    plain = adapt_surely(learner, *support, calibrate=False)
    sure = adapt_surely(learner, *support, reject=0.25)
    assert plain.floor is None
    torch.testing.assert_close(plain.predictor(queries), sure.predictor(queries) * sure.confidence.temperature)
    logits, _ = left_out(learner, *support)
    below = (logits.max(-1).values / sure.confidence.temperature < sure.floor).float().mean()
    assert abs(float(below) - 0.25) <= 1 / len(logits)
    assert sure.confidence.images == 7
    once = torch.tensor([0, 1, 3])
    single = adapt_surely(learner, support[0][once], support[1][once])
    assert (single.confidence.images, single.confidence.temperature) == (0, 1.0)
    with pytest.raises(InputError, match="two images of a class"):
        adapt_surely(learner, support[0][once], support[1][once], reject=0.1)
