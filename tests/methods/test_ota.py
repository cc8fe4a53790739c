import copy
from itertools import permutations

import pytest
import torch

from dfml.errors import InputError
from dfml.functional.matching import reordered
from dfml.methods.ota import OTA
from dfml.nn.units import interchangeable_units
from dfml.randomness import Rng
from dfml.training.weights import float_tensors
from dfml.zoo import Counted, LocalTeacher
from toys import ToyZoo, toy_teacher


def test_a_network_and_permuted_copies_of_it_fuse_to_the_same_function():
    zoo = ToyZoo()
    own = zoo.network("t0")
    groups = interchangeable_units(own.backbone)
    for seed, name in enumerate(zoo.ids[1:]):
        network = copy.deepcopy(own)
        orders = [torch.randperm(4, generator=Rng(seed).generator(i)) for i in range(len(groups))]
        network.backbone.load_state_dict(reordered(float_tensors(own.backbone), groups, orders), strict=False)
        zoo.teachers[name] = Counted(LocalTeacher(zoo.cards[name], network), zoo.tally)
    images = torch.rand(5, 3, 16, 16)
    assert not torch.allclose(zoo.teacher("t1").features(images), zoo.teacher("t0").features(images))
    (encoder,) = OTA().init(zoo, Rng(0)).learner.networks
    torch.testing.assert_close(encoder(images), zoo.teacher("t0").features(images), rtol=1e-4, atol=1e-5)


def test_networks_that_were_trained_apart_are_averaged_in_the_order_of_the_first_and_left_alone():
    zoo = ToyZoo()
    before = copy.deepcopy({i: zoo.network(i).state_dict() for i in zoo.ids})
    (encoder,) = OTA().init(zoo, Rng(0)).learner.networks
    first = encoder.backbone.state_dict()["blocks.0.weight"]
    kernels = {i: before[i]["backbone.blocks.0.weight"] for i in zoo.ids}
    # Naively: of all 24 orders of four channels the one that lies nearest.
    nearest = []
    for kernel in kernels.values():
        orders = [list(p) for p in permutations(range(4))]
        far = [(kernel[o] - kernels["t0"]).flatten(1).norm(dim=1).sum() for o in orders]
        nearest.append(kernel[orders[int(torch.stack(far).argmin())]])
    torch.testing.assert_close(first, torch.stack(nearest).mean(0))
    assert all(torch.equal(v, before[i][k]) for i in zoo.ids for k, v in zoo.network(i).state_dict().items())


def test_mixed_architectures_are_refused():
    zoo = ToyZoo()
    zoo.teachers["t1"] = toy_teacher("t1", width=8)
    with pytest.raises(InputError, match="conv4-4, conv4-8"):
        OTA().init(zoo, Rng(0))
