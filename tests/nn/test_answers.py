import pytest
import torch
import torch.nn.functional as F

from dfml.nn import (
    AnsweringBackbone,
    Encoder,
    InputSpec,
    batch_statistics,
    build_backbone,
    inference_copy,
    network_name,
    norm_layers,
)
from dfml.nn.answers import JointLogits


def _network(classes=((4, 0, 1, 2),), hidden: int = 0) -> AnsweringBackbone:
    torch.manual_seed(0)
    return AnsweringBackbone(build_backbone("conv4", image_size=16, width=8), classes, hidden=hidden).eval()


def test_squared_distances_are_twice_the_squared_hellinger_distance():
    network, images = _network(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features = network(images)
        p, q = network.logits(images).softmax(-1)
    expected = 1 - (p * q).sqrt().sum()
    torch.testing.assert_close((features[0] - features[1]).square().sum(), 2 * expected)


def test_an_answer_that_says_nothing_is_the_origin():
    network = _network([[0, 1, 2], [2, 3]])
    torch.nn.init.zeros_(network.heads.weight)
    torch.nn.init.zeros_(network.heads.bias)
    torch.testing.assert_close(network(torch.randn(4, 3, 16, 16)), torch.zeros(4, 9), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("classifiers", "counts"), [(3, 9 / 6 - 1), (40, 1.0)])
def test_what_is_joined_to_the_answers_and_how_much_it_counts(classifiers, counts):
    classes = [[i % 6, (i + 1) % 6, (i + 3) % 6] for i in range(classifiers)]
    network, images = _network(classes, hidden=16), torch.rand(5, 3, 16, 16)
    known = 6
    with torch.no_grad():
        features, hidden, logits = network(images), network.trunk(network.backbone(images)), network.logits(images)
        roots = logits.unflatten(1, (-1, 3)).softmax(-1).sqrt() - 3**-0.5
        posterior = (JointLogits(classes)(logits) / 2).softmax(-1).sqrt() - known**-0.5
    assert network.feature_size == features.shape[1] == 3 * classifiers + known + 16
    answers, all_classes, layer = (F.normalize(part, dim=-1) for part in (roots.flatten(1), posterior, hidden))
    expected = answers @ answers.T + counts * (all_classes @ all_classes.T) + 30 / classifiers * (layer @ layer.T)
    torch.testing.assert_close(features @ features.T, expected, atol=1e-5, rtol=1e-4)


def test_the_hidden_layer_is_a_product_its_norm_and_what_is_positive():
    trunk, features = _network(hidden=16).trunk, torch.randn(5, 8)
    convolution, norm = trunk[1], trunk[2]
    norm.running_mean.normal_()
    expected = F.batch_norm(
        features @ convolution.weight.flatten(1).T, norm.running_mean, norm.running_var, norm.weight, norm.bias
    ).relu()
    torch.testing.assert_close(trunk(features), expected)


def test_joint_logits_are_those_that_all_classifiers_were_derived_from():
    classes = [[7, 2, 3], [3, 5], [5, 9, 7], [2, 9]]
    known = sorted({c for each in classes for c in each})
    true = torch.randn(6, len(known))
    seen = torch.cat([true[:, [known.index(c) for c in each]] + torch.randn(6, 1) for each in classes], 1)
    found = JointLogits(classes)(seen)
    torch.testing.assert_close(
        found, true - true.mean(1, keepdim=True), atol=0.05, rtol=0
    )  # the ridge shrinks a little


def test_joint_logits_are_the_least_squares_solution():
    classes, logits = [[0, 1, 2], [2, 3], [1, 3, 4]], torch.randn(8)
    rows = torch.zeros(8, 5)
    rows[range(8), [c for each in classes for c in each]] = 1
    wanted = torch.cat([part - part.mean() for part in logits.split([3, 2, 3])])
    compared = torch.cat([part - part.mean(0) for part in rows.split([3, 2, 3])])
    stacked = torch.cat([compared, 0.1 * torch.eye(5)])  # a ridge of 0.01
    expected = torch.linalg.lstsq(stacked, torch.cat([wanted, torch.zeros(5)])[:, None]).solution[:, 0]
    torch.testing.assert_close(JointLogits(classes)(logits[None])[0], expected, atol=1e-4, rtol=1e-4)


def test_no_joint_posterior_where_nothing_is_shared():
    network = _network([[0, 1], [2, 3]])
    assert network.joint is None
    assert network.feature_size == 4


def test_the_joint_posterior_needs_no_map_from_outputs_to_classes():
    classes = [range(start, start + 300) for start in range(0, 900, 3)]  # 90,000 outputs of 1,197 classes
    joint = JointLogits(classes)
    assert sum(b.numel() for b in joint.buffers()) < 1197**2 + 3 * 90_000
    true = torch.randn(2, 1197)
    logits = torch.cat([true[:, list(each)] for each in classes], 1)
    torch.testing.assert_close(joint(logits), true - true.mean(1, keepdim=True), atol=0.05, rtol=0)  # the ridge shrinks


def test_a_hidden_layer_obeys_the_batchnorm_policy_and_folds_away():
    encoder = Encoder(_network([[0, 1, 2], [2, 3]], hidden=16), InputSpec(channels=3, size=16)).eval()
    images = torch.rand(6, 3, 16, 16)
    with torch.no_grad():
        for layer in norm_layers(encoder):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
        assert len(norm_layers(encoder)) == 5
        running = encoder(images)
        torch.testing.assert_close(inference_copy(encoder)(images), running, atol=1e-5, rtol=1e-4)
        with batch_statistics(encoder):
            assert not torch.allclose(encoder(images), running, atol=1e-3)


def test_it_is_named_after_its_backbone():
    assert network_name([_network()]) == "conv4-8"


def test_many_classes_are_joined_without_their_matrix(monkeypatch):
    """Conjugate gradients give what the inverse gives."""
    generator = torch.Generator().manual_seed(0)
    classes = [torch.randperm(60, generator=generator)[:12].tolist() for _ in range(25)]
    logits = torch.randn(7, 12 * 25, generator=generator)
    dense = JointLogits(classes)(logits)
    monkeypatch.setattr("dfml.nn.answers.DENSE", 10)
    stepwise = JointLogits(classes)
    assert stepwise.inverse is None
    torch.testing.assert_close(stepwise(logits), dense, rtol=1e-3, atol=1e-3)
