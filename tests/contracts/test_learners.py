"""What every registered learner promises (any way, uneven shots)."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dfml.episode import Episode
from dfml.learners import learners
from dfml.learners.base import Predictor
from dfml.learners.learner_file import load_learner, save_learner
from toys import toy_encoder


def _build(name: str):
    return learners()[name](toy_encoder())


def _task(way: int, seed: int = 0) -> Episode:
    g = torch.Generator().manual_seed(seed)
    shots = torch.randint(1, 4, (way,), generator=g)  # uneven
    y, q = torch.arange(way).repeat_interleave(shots), torch.arange(way).repeat_interleave(2)
    return Episode(torch.rand(len(y), 3, 16, 16, generator=g), y, torch.rand(len(q), 3, 16, 16, generator=g), q)


@pytest.mark.parametrize("name", learners())
@pytest.mark.parametrize("way", [2, 3, 5, 12])
def test_any_number_of_classes_and_uneven_shots(name, way):
    learner, task = _build(name), _task(way)
    predictor = learner.adapt(task.support_x, task.support_y)
    assert isinstance(predictor, Predictor)
    probabilities = predictor.probabilities(task.query_x)
    assert probabilities.shape == (2 * way, way)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2 * way))
    loss, accuracy = learner.meta_loss(task)
    assert loss.ndim == 0
    assert loss.requires_grad
    shifted = [Episode(task.support_x, task.support_y, task.query_x, (task.query_y + k) % way) for k in range(way)]
    each = [float(learner.meta_loss(episode)[1]) for episode in shifted]
    assert float(accuracy) == pytest.approx(each[0])
    assert sum(each) == pytest.approx(100), "in percent: under one of the shifted labels every answer is right"


@pytest.mark.parametrize("name", learners())
@pytest.mark.parametrize("norm", ["running", "support", "query_batch"])
def test_adapting_leaves_the_learner_alone_and_predicting_twice_gives_the_same(name, norm):
    learner, task = _build(name), _task(5)
    before = {k: v.clone() for k, v in learner.state_dict().items()}
    predictor = learner.adapt(task.support_x, task.support_y, norm=norm)
    assert torch.equal(predictor(task.query_x), predictor(task.query_x))
    assert all(torch.equal(v, before[k]) for k, v in learner.state_dict().items())
    again = learner.adapt(task.support_x, task.support_y, norm=norm)
    assert torch.equal(again(task.query_x), predictor(task.query_x))


@pytest.mark.parametrize("name", learners())
def test_threads_may_share_a_learner_and_a_predictor(name):
    learner, task = _build(name), _task(3)
    expected = learner.adapt(task.support_x, task.support_y, norm="support")(task.query_x)
    shared = learner.adapt(task.support_x, task.support_y, norm="support")

    def work(number: int):
        if number % 2:
            return shared(task.query_x)
        return learner.adapt(task.support_x, task.support_y, norm="support")(task.query_x)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(48)))
    assert all(torch.equal(answer, expected) for answer in answers)


@pytest.mark.parametrize("name", learners())
def test_a_file_of_it_adapts_to_the_same_bits(name, tmp_path):
    learner, task = _build(name).eval(), _task(3)
    save_learner(learner, tmp_path / "learner")
    again = load_learner(tmp_path)
    expected = learner.adapt(task.support_x, task.support_y)(task.query_x)
    assert torch.equal(again.adapt(task.support_x, task.support_y)(task.query_x), expected)


@pytest.mark.parametrize("name", learners())
def test_the_inductive_answer_does_not_depend_on_its_neighbours(name):
    learner, task = _build(name), _task(4)
    predictor = learner.adapt(task.support_x, task.support_y)
    together = predictor.probabilities(task.query_x)
    alone = torch.cat([predictor.probabilities(x[None]) for x in task.query_x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", learners())
def test_it_learns_separable_colours(name):
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])[:, :, None, None]
    g = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat(4)
    images = (colours[y] + 0.05 * torch.randn(12, 3, 16, 16, generator=g)).clamp(0, 1)
    predictor = _build(name).adapt(images[:6], y[:6])
    assert float((predictor(images[6:]).argmax(-1) == y[6:]).float().mean()) >= 0.8


@pytest.mark.parametrize("name", learners())
def test_queries_can_be_looked_at_together(name):
    learner, task = _build(name), _task(4)
    before = {k: v.clone() for k, v in learner.state_dict().items()}
    logits = learner.predict_transductive(task.support_x, task.support_y, task.query_x)
    assert logits.shape == (8, 4)
    assert logits.isfinite().all()
    others = torch.cat([task.query_x[:1], torch.rand(7, 3, 16, 16)])
    assert not torch.allclose(learner.predict_transductive(task.support_x, task.support_y, others)[0], logits[0])
    assert all(torch.equal(v, before[k]) for k, v in learner.state_dict().items())
