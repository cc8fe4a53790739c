import torch

from dfml.nn import AnsweringBackbone, build_backbone, network_name


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


def test_it_is_named_after_its_backbone():
    assert network_name([_network()]) == "conv4-8"
