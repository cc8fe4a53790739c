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


def _network() -> AnsweringBackbone:
    torch.manual_seed(0)
    return AnsweringBackbone(build_backbone("conv4", image_size=16, width=8), (3, 2)).eval()


def test_squared_distances_are_twice_the_sum_of_squared_hellinger_distances():
    network, images = _network(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features, logits = network(images), network.logits(images)
    expected = 0.0
    for part in (slice(0, 3), slice(3, 5)):
        p, q = logits[:, part].softmax(-1)
        expected += 1 - (p * q).sqrt().sum()  # the squared Hellinger distance
    torch.testing.assert_close((features[0] - features[1]).square().sum(), 2 * expected)


def test_an_answer_that_says_nothing_is_the_origin():
    network = _network()
    torch.nn.init.zeros_(network.heads.weight)
    torch.nn.init.zeros_(network.heads.bias)
    torch.testing.assert_close(network(torch.randn(4, 3, 16, 16)), torch.zeros(4, 5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("classifiers", [2, 40])
def test_the_hidden_layer_counts_as_ten_classifiers(classifiers):
    torch.manual_seed(0)
    backbone = build_backbone("conv4", image_size=16, width=8)
    network = AnsweringBackbone(backbone, [3] * classifiers, hidden=16).eval()
    images = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        features, hidden = network(images), network.trunk(backbone(images))
        roots = network.logits(images).unflatten(1, (-1, 3)).softmax(-1).sqrt() - 3**-0.5
    assert network.feature_size == features.shape[1] == 3 * classifiers + 16
    answers, joined = (F.normalize(part, dim=-1) for part in (roots.flatten(1), hidden))
    expected = answers @ answers.T + 10 / classifiers * (joined @ joined.T)
    torch.testing.assert_close(features @ features.T, expected, atol=1e-5, rtol=1e-4)


def test_a_hidden_layer_obeys_the_batchnorm_policy_and_folds_away():
    torch.manual_seed(0)
    backbone, spec = build_backbone("conv4", image_size=16, width=8), InputSpec(channels=3, size=16)
    encoder = Encoder(AnsweringBackbone(backbone, (3, 2), hidden=16), spec).eval()
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
