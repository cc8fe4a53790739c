import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from dfml.learners.alignment import align
from dfml.learners.meta_model import build_meta_model
from dfml.nn import norm_layers
from dfml.randomness import Rng
from dfml.ranks import ALONE
from threads import in_threads
from toys import SPEC


def aligned(model, tasks, kind, ranks):
    """What one outer step makes of the model, and the loss."""
    model = copy.deepcopy(model)

    def loss(images, labels, parameters, *, ranks):
        share, weight = ranks.share(len(images))
        return weight * F.cross_entropy(
            functional_call(model, parameters, (images[share],), tie_weights=False), labels[share]
        )

    met = align(
        model,
        [lambda p, *, ranks, task=task: loss(*task, p, ranks=ranks) for task in tasks],
        torch.optim.SGD(model.distilled_parameters().values(), lr=1.0),
        kind=kind,
        lr=0.1,
        fast_optimiser="sgd",
        scale=None,
        generator=Rng(0).generator("order"),
        ranks=ranks,
    )
    means, variances = zip(*((layer.running_mean, layer.running_var) for layer in norm_layers(model)), strict=True)
    return [met, *model.distilled_parameters().values(), *means, *variances]


@pytest.mark.parametrize("kind", ["sequential", "average"])
@pytest.mark.parametrize("images", [8, 2])  # two are fewer than the processes
def test_processes_that_share_the_batches_align_as_one(kind, images):
    options = {"network": "conv4", "width": 4, "spec": SPEC, "classes": 3, "head": "class"}
    model = build_meta_model("protonet", {}, **options, rng=Rng(0)).double()
    generator = torch.Generator().manual_seed(0)
    tasks = [
        (torch.rand(images, 3, 16, 16, generator=generator).double(), torch.randint(3, (images,), generator=generator))
        for _ in range(3)
    ]
    alone = aligned(model, tasks, kind, ALONE)
    assert any(not torch.equal(a, b) for a, b in zip(alone[1:], model.distilled_parameters().values(), strict=False))
    shared = in_threads(lambda ranks: aligned(model, tasks, kind, ranks), world=3)
    same = len(alone) - (0 if images >= 3 else 4)  # an image in every process counts thrice in n / (n - 1)
    for values in shared:
        torch.testing.assert_close(values[:same], alone[:same])
    for first, other in zip(shared[0], shared[1], strict=True):
        assert torch.equal(first, other)  # every process goes on with the same bits
