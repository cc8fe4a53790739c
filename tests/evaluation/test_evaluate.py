import copy
import math
from dataclasses import replace

import pytest
import torch

from dfml.errors import InputError
from dfml.evaluation import evaluate as module
from dfml.evaluation import kernels as episode_kernels
from dfml.evaluation.evaluate import check_disjoint, evaluate, evaluate_shots
from dfml.evaluation.kernels import embed_all
from dfml.evaluation.manifest import make_manifest
from dfml.evaluation.score import Score, paired_difference
from dfml.learners.base import AbstractLearner, Predictor, embed
from dfml.learners.frozen import FrozenLearner
from toys import toy_encoder


def manifest_of(image_set, shot=2, episodes=12, **change):
    values = {"way": 4, "shot": shot, "queries": 5, "episodes": episodes, "seed": 0, "split": "test"} | change
    return make_manifest(image_set, **values)


def naive_accuracies(learner, image_set, manifest, norm):
    """Episode by episode through the predictor that a user gets."""
    accuracies = []
    for indices in manifest.episodes:
        episode = image_set.episode(indices)
        answers = learner.adapt(episode.support_x, episode.support_y, norm=norm)(episode.query_x).argmax(-1)
        accuracies.append(100 * (answers == episode.query_y).double().mean())
    return torch.stack(accuracies)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("head", ["centroid", "ridge"])
def test_embedding_once_equals_predicting_episode_by_episode(encoders, image_set, normalise, shot, head):
    learner = FrozenLearner(encoders, head=head, normalise=normalise)
    manifest = manifest_of(image_set, shot)
    score = evaluate(learner, image_set, manifest)
    expected = naive_accuracies(learner, image_set, manifest, "running")
    assert score.norm == "running"
    assert torch.allclose(score.per_episode.double(), expected)
    assert 100 / 4 < score.mean < 100  # better than chance, not trivial
    assert score.mean == pytest.approx(float(expected.mean()))


@pytest.mark.parametrize("norm", ["support", "query_batch"])
def test_other_settings_adapt_to_each_episode(encoders, image_set, norm):
    learner, manifest = FrozenLearner(encoders[:1]), manifest_of(image_set, episodes=6)
    score = evaluate(learner, image_set, manifest, norm=norm)
    assert score.norm == norm
    assert torch.allclose(score.per_episode.double(), naive_accuracies(learner, image_set, manifest, norm))


def test_chunks_do_not_matter(encoders, image_set, monkeypatch):
    learner, manifest = FrozenLearner(encoders), manifest_of(image_set)
    whole = evaluate(learner, image_set, manifest).per_episode
    monkeypatch.setattr(episode_kernels, "CHUNK_BYTES", 1)
    monkeypatch.setattr(episode_kernels, "EMBED_BATCH", 7)
    assert torch.equal(evaluate(learner, image_set, manifest).per_episode, whole)


@pytest.mark.parametrize("architecture", ["conv4", "resnet10", "resnet12", "resnet18"])
def test_embed_all_gives_the_features_of_the_encoder(make, image_set, architecture):
    encoder = make.encoder(4, architecture)
    encoder.train()
    state = copy.deepcopy(encoder.state_dict())
    features = embed_all(encoder, image_set, normalise=True)
    assert encoder.training
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())
    with torch.no_grad():
        expected = embed([encoder.eval()], image_set.batch(torch.arange(len(image_set))))
    assert torch.allclose(features, expected, atol=1e-5)


def test_a_network_whose_weights_are_no_parameters_is_evaluated(image_set):
    """As those that are read from ONNX."""
    encoder = toy_encoder()
    expected = evaluate(FrozenLearner(encoder), image_set, manifest_of(image_set)).mean
    for module_ in list(encoder.modules()):
        for name, weight in list(module_.named_parameters(recurse=False)):
            delattr(module_, name)
            module_.register_buffer(name, weight.detach())
    assert not list(encoder.parameters())
    learner = FrozenLearner(encoder)
    assert evaluate(learner, image_set, manifest_of(image_set)).mean == expected
    manifest = manifest_of(image_set, episodes=3)
    expected = naive_accuracies(learner, image_set, manifest, "support")
    assert torch.allclose(evaluate(learner, image_set, manifest, norm="support").per_episode.double(), expected)


def test_evaluation_leaves_the_learner_alone(encoders, image_set):
    learner = FrozenLearner(encoders).train()
    state = copy.deepcopy(learner.state_dict())
    for norm in ("running", "support", "query_batch"):
        evaluate(learner, image_set, manifest_of(image_set, episodes=2), norm=norm)
    assert all(m.training for m in learner.modules())
    assert all(torch.equal(v, state[k]) for k, v in learner.state_dict().items())


def test_interval_is_that_of_the_mean_over_episodes():
    values = torch.tensor([40.0, 60.0, 20.0, 80.0, 50.0])
    score = Score.of(values, seconds=1.0, norm="running", manifest=None)
    mean = 50.0
    std = math.sqrt(sum((float(v) - mean) ** 2 for v in values) / 4)
    assert score.mean == pytest.approx(mean)
    assert score.ci95 == pytest.approx(1.96 * std / math.sqrt(5))
    assert score.to_dict() == {"mean": 50.0, "ci95": 19.6, "episodes": 5, "norm": "running", "seconds": 1.0}


def test_paired_difference_is_over_the_same_episodes(encoders, image_set):
    manifest = manifest_of(image_set)
    a = evaluate(FrozenLearner(encoders), image_set, manifest)
    b = evaluate(FrozenLearner(encoders[:1]), image_set, manifest.first(8))
    mean, ci95 = paired_difference(a, b)
    differences = a.per_episode[:8].double() - b.per_episode.double()
    assert mean == pytest.approx(float(differences.mean()))
    assert ci95 == pytest.approx(1.96 * float(differences.std()) / math.sqrt(8))
    assert paired_difference(a, a) == (0.0, 0.0)
    with pytest.raises(InputError, match="different episodes"):
        paired_difference(a, evaluate(FrozenLearner(encoders), image_set, manifest_of(image_set, seed=1)))


def test_a_zoo_that_knows_an_evaluation_class_is_refused(zoo, image_set):
    check_disjoint(zoo, image_set)
    names = ("train 1", "train 2", *image_set.class_names[2:])
    with pytest.raises(InputError, match="share 2 classes: train 1, train 2\n"):
        check_disjoint(zoo, replace(image_set, class_names=names))


def test_other_images_than_the_manifest_s_are_refused(encoders, image_set):
    other = replace(image_set, images=image_set.images.flip(0))
    with pytest.raises(InputError, match="a manifest made for"):
        evaluate(FrozenLearner(encoders), other, manifest_of(image_set))


@pytest.mark.parametrize("norm", ["running", "support"])
def test_images_of_another_size_are_fitted_to_the_networks(encoders, image_set, norm):
    large = replace(image_set, images=image_set.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
    learner = FrozenLearner(encoders)
    fitted = learner.networks[0].spec.fit(large.batch(torch.arange(len(large))))
    small = replace(large, images=(255 * fitted).round().byte())
    ours, theirs = (evaluate(learner, images, manifest_of(images), norm=norm) for images in (large, small))
    assert ours.mean == pytest.approx(theirs.mean, abs=1.0)


class HalfRight(AbstractLearner):
    """Not frozen: its predictor always answers class 0."""

    kind, norm, networks, options = "half-right", "support", (), {}

    def _adapt(self, support_x, support_y, *, norm):
        encoder, way = toy_encoder(), int(support_y.max()) + 1
        return Predictor([encoder], torch.zeros(way, encoder.feature_size), torch.eye(way)[0])

    def meta_loss(self, episode):
        raise NotImplementedError


def test_table_of_shots(encoders, image_set, monkeypatch):
    monkeypatch.setattr(module, "FROZEN_EPISODES", 9)
    monkeypatch.setattr(module, "EPISODES", 5)
    values = {"split": "test", "way": 4, "queries": 5, "transductive_episodes": 3}
    table = evaluate_shots(FrozenLearner(encoders[:1]), image_set, **values)
    assert list(table) == [1, 5]
    for shot, scores in table.items():
        assert (len(scores["inductive"].per_episode), len(scores["transductive"].per_episode)) == (9, 3)
        assert (scores["inductive"].norm, scores["transductive"].norm) == ("running", "query_batch")
        assert scores["inductive"].manifest.shot == shot
        paired_difference(scores["transductive"], scores["inductive"])
    done = []
    table = evaluate_shots(
        HalfRight(), image_set, **values | {"transductive_episodes": 0}, progress=lambda i, n: done.append((i, n))
    )
    assert list(table[1]) == ["inductive"]
    assert table[1]["inductive"].norm == "support"
    assert table[1]["inductive"].per_episode.tolist() == [25.0] * 5
    assert done[:5] == [(i, 5) for i in range(1, 6)]
