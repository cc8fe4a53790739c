import copy

import pytest
import torch

from dfml.errors import InputError
from dfml.methods import Average, OracleB
from dfml.randomness import Rng
from toys import ToyZoo, run_steps, toy_teacher


def test_average_is_the_mean_of_all_backbones_and_leaves_them_alone():
    zoo = ToyZoo()
    before = copy.deepcopy(zoo.network("t0").backbone.state_dict())
    learner = Average().init(zoo, Rng(0)).learner
    for name, value in learner.encoders[0].backbone.state_dict().items():
        if value.is_floating_point():
            all_of_them = torch.stack([zoo.network(i).backbone.state_dict()[name] for i in zoo.ids])
            torch.testing.assert_close(value, all_of_them.mean(0))
    assert all(torch.equal(v, before[k]) for k, v in zoo.network("t0").backbone.state_dict().items())


def test_average_refuses_networks_of_different_widths():
    zoo = ToyZoo()
    zoo.teachers["t1"] = toy_teacher("t1", width=8)
    with pytest.raises(InputError, match="conv4-4, conv4-8"):
        Average().init(zoo, Rng(0))


def test_oracle_b_learns_the_real_classes_and_says_that_it_uses_data(shades):
    method, zoo = OracleB(data=shades, updates=10, batch_size=16, width=8), ToyZoo()
    state = method.init(zoo, Rng(0))
    metrics = run_steps(method, state, zoo, 0, 4)
    assert method.uses_data
    assert metrics[-1]["cross_entropy"] < 0.5 * metrics[0]["cross_entropy"]
    assert method.learner(state).describe() == {"learner": "ridge", "network": "conv4-8", "networks_at_inference": 1}
