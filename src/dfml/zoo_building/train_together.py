"""Train several teachers at once, to the numbers of one after the other: what a GPU does best."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from dfml.compute.devices import send
from dfml.nn import BatchNorm2d, InputSpec, norm_layers, record_statistics
from dfml.nn.norm import MOMENTUM, Statistics
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.zoo_building.train_one import Optimiser, draw_places, one_cycle, pad, scale


def train_together(
    images: UInt8[Tensor, "teachers n c h w"],
    labels: Int[Tensor, "teachers n"],
    networks: Sequence[nn.Module],
    spec: InputSpec,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    optimiser: Optimiser,
    rngs: Sequence[Rng],
    flips: bool = True,
    shift: int = 0,
) -> None:
    """`train_classifier` of each network on its own images, in place, all of them in every step.

    Parameters are stacked and a step is one call of vmap, so that a GPU is given the work of all at once.

    Args:
        images: as many of every teacher.
        labels: 0..classes-1 of each.
        networks: of one architecture.
        spec: their normalisation.
        epochs: see `train_classifier`, as for the others.
        batch_size: images of a step and teacher.
        lr: the highest learning rate.
        optimiser: ``adam`` or ``sgd``.
        rngs: order and augmentation of each.
        flips: mirror each image with probability one half.
        shift: move each image by up to this many pixels.
    """
    network, steps = networks[0].train(), -(-images.shape[1] // batch_size)
    parameters, buffers = stack_module_state(list(networks))
    descend = one_cycle(parameters.values(), optimiser, lr, epochs * steps)
    device, own = images.device, torch.arange(len(networks), device=images.device)[:, None]
    padded = torch.stack([pad(one, shift) for one in images])

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Statistics]:
        with record_statistics(network) as statistics:
            logits = functional_call(network, p, (x,))
        return F.cross_entropy(logits.float(), y), statistics

    for epoch in range(epochs):
        generators = [rng.generator("epoch", epoch) for rng in rngs]
        orders = [torch.randperm(images.shape[1], generator=g) for g in generators]
        drawn = zip(orders, generators, strict=True)
        places = torch.stack([draw_places(o, steps, spec.size, flips, shift, g) for o, g in drawn])
        order, places = send(torch.stack(orders), device), send(places, device)
        for chosen, place in zip(order.chunk(steps, 1), places.chunk(steps, 1), strict=True):
            rows, columns = place[:, :, 0, :, None], place[:, :, 1, None, :]
            shown = padded[own[..., None, None], chosen[..., None, None], rows, columns].movedim(-1, 2)
            with mixed_precision():
                x = scale(shown.flatten(0, 1), spec).unflatten(0, shown.shape[:2])
                losses, statistics = vmap(loss)(parameters, x, labels.gather(1, chosen))
            descend(losses.sum())
            _follow(network, buffers, statistics)
    for i, one in enumerate(networks):
        one.load_state_dict({name: stacked[i].detach() for name, stacked in (parameters | buffers).items()})
        one.eval()


@torch.no_grad()
def _follow(network: nn.Module, buffers: dict[str, Tensor], statistics: Statistics) -> None:
    """Running statistics of all teachers after a batch, as torch's BatchNorm keeps them."""
    names = {layer: name for name, layer in network.named_modules()}
    for i, layer in enumerate(norm_layers(network)):
        mean, variance = statistics[i]
        count = cast(BatchNorm2d, layer).count
        unbiased = variance * (count / (count - 1))
        for name, seen in (("running_mean", mean), ("running_var", unbiased)):
            running = buffers[f"{names[layer]}.{name}"]
            running.lerp_(seen.to(running.dtype), MOMENTUM)
        buffers[f"{names[layer]}.num_batches_tracked"] += 1
