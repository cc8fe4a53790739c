"""OTA: the mean of all models' parameters, after their channels are brought into one order."""

import copy

import torch

from dfml.functional.matching import matching, reordered
from dfml.learners.maml import MAML
from dfml.methods.base import AbstractBaseline, FixedState, Role
from dfml.nn import Encoder
from dfml.nn.units import interchangeable_units
from dfml.randomness import Rng
from dfml.training.weights import check_one_architecture, float_tensors
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


class OTA(AbstractBaseline):
    """Singh, Jaggi: "Model Fusion via Optimal Transport", NeurIPS 2020, https://arxiv.org/abs/1910.05653.

    It is the "OTA" row of the data-free meta-learning papers. Layer after layer the channels of every network are
    reordered, so that their incoming weights lie nearest to those of the zoo's first network; then all parameters and
    BatchNorm statistics are averaged. Written from the paper's abstract and from memory of its algorithm.

    *Deviations from the paper*: layers are as wide in all networks, where exact transport between uniform marginals is
    a permutation, so that nothing is split; where a residual stream has several incoming weights, it is matched by
    those whose inputs are in order already; heads are left out, since their outputs mean different classes. A task is
    adapted to by the data-free papers' ten gradient steps, from prototypes, with the support's BatchNorm statistics:
    the mean of running statistics fits no network.

    *Deviations from the published code*: it was not read.
    """

    def requires(self) -> dict[Role, Capability]:
        """Weights to start from."""
        return {Role.START: Capability.WHITE_BOX}

    def init(self, zoo: Zoo, rng: Rng) -> FixedState:
        """The mean of the aligned backbones, as an initialisation for MAML's inner loop.

        Raises:
            InputError: teachers of different architectures or widths, or that are not dfml's own.
        """
        check_one_architecture(zoo)
        fused = copy.deepcopy(zoo.network(zoo.ids[0]).backbone)
        groups, total = interchangeable_units(fused), float_tensors(fused)
        anchor = {name: t.clone() for name, t in total.items()}
        with torch.no_grad():
            for name in zoo.ids[1:]:
                other = float_tensors(zoo.network(name).backbone)
                aligned = reordered(other, groups, matching(other, anchor, groups))
                torch._foreach_add_(list(total.values()), [aligned[k] for k in total])
            torch._foreach_div_(list(total.values()), len(zoo.ids))
        return FixedState(0, MAML(Encoder(fused, zoo.canvas)))
