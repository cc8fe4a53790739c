"""Train one teacher: a classifier on a few thousand images in memory, quickly, on one thread."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dfml.compute.devices import send
from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng

Optimiser = Literal["adam", "sgd"]


def train_classifier(
    images: UInt8[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    network: nn.Module,
    spec: InputSpec,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    optimiser: Optimiser,
    rng: Rng,
    flips: bool = True,
    shift: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> None:
    """Train ``network`` in place with cross-entropy and one cycle of the learning rate; the last step's weights stay.

    It is trained on the device that it is on.

    Args:
        images: training images at the size of ``spec``.
        labels: 0..classes-1.
        network: gives logits of normalised images; left in eval mode, in channels-last layout.
        spec: its normalisation.
        epochs: passes over the images.
        batch_size: images per step; each epoch is cut into equal batches of about this size.
        lr: the highest learning rate.
        optimiser: ``adam``, or ``sgd`` with momentum 0.9 and weight decay 5e-4.
        rng: order and augmentation.
        flips: mirror each image with probability one half; wrong for characters.
        shift: move each image by up to this many pixels, edges repeated.
        on_epoch: called after each epoch with its number (from 1) and mean loss.

    Raises:
        InputError: images that are not of the size and channels of ``spec``; no epoch.
    """
    if images.shape[1:] != (spec.channels, spec.size, spec.size) or epochs < 1:
        raise InputError(
            f"images {tuple(images.shape)} for {epochs} epochs",
            f"[n, {spec.channels}, {spec.size}, {spec.size}] and at least one epoch",
            "resize the images, or change the input spec or the epochs",
        )
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = _device(network)
    images, labels = images.to(device), labels.to(device)
    steps = -(-len(images) // batch_size)
    descend = one_cycle(network.parameters(), optimiser, lr, epochs * steps)
    padded = pad(images, shift)
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        generator = rng.generator("epoch", epoch)
        order = torch.randperm(len(images), generator=generator)
        for chosen, batch in _batches(padded, order, steps, spec.size, flips, shift, generator):
            with mixed_precision():
                logits = network(scale(batch, spec))
            loss = F.cross_entropy(logits.float(), labels[chosen])
            descend(loss)
            total += loss.detach()
        if on_epoch is not None:
            on_epoch(epoch + 1, float(total) / steps)
    network.eval()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def one_cycle(parameters: Iterable[Tensor], name: Optimiser, lr: float, steps: int) -> Callable[[Tensor], None]:
    """Takes a loss and a step on it: Adam, or SGD with momentum 0.9 and weight decay 5e-4; one cycle of step sizes."""
    update: torch.optim.Optimizer
    if name == "adam":
        update = torch.optim.Adam(parameters, lr=lr, fused=True)
    else:
        update = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(update, max_lr=lr, total_steps=steps)

    def descend(loss: Tensor) -> None:
        update.zero_grad(set_to_none=True)
        loss.backward()
        update.step()
        schedule.step()

    return descend


def pad(images: UInt8[Tensor, "n c h w"], shift: int) -> UInt8[Tensor, "n hp wp c"]:
    """With ``shift`` more pixels at every edge, which is repeated; channels last."""
    return F.pad(images.float(), (shift,) * 4, mode="replicate").byte().permute(0, 2, 3, 1).contiguous()


def draw_places(
    order: Int[Tensor, " n"], steps: int, size: int, flips: bool, shift: int, generator: torch.Generator
) -> Int[Tensor, "n 2 size"]:
    """For every image of an epoch the rows and columns of its padded form that it is shown as."""
    line, places = torch.arange(size), []
    for n in map(len, order.chunk(steps)):
        corner = torch.randint(2 * shift + 1, (2, n, 1), generator=generator)
        mirrored = torch.rand(n, 1, generator=generator) < (0.5 if flips else 0.0)
        places.append(torch.stack([line + corner[0], torch.where(mirrored, line.flip(0), line) + corner[1]], 1))
    return torch.cat(places)


def _batches(
    padded: UInt8[Tensor, "n hp wp c"],
    order: Int[Tensor, " n"],
    steps: int,
    size: int,
    flips: bool,
    shift: int,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and augmented images uint8 [b, c, size, size]; crop and mirror are one gather."""
    places = send(draw_places(order, steps, size, flips, shift, generator), padded.device)
    everything = zip(send(order, padded.device).chunk(steps), places.chunk(steps), strict=True)
    for chosen, place in everything:
        rows, columns = place.unbind(1)
        yield chosen, padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def scale(images: UInt8[Tensor, "n c h w"], spec: InputSpec) -> Float[Tensor, "n c h w"]:
    """Bytes to normalised floats; the layout is kept."""
    return spec.normalise(images.float().div_(255))


@torch.no_grad()
def held_out_accuracy(
    images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"], network: nn.Module, spec: InputSpec
) -> dict[str, float]:
    """Accuracy in percent with its 95 % interval (normal approximation) and the number of images.

    Returns:
        ``{"mean": percent, "ci95": percent, "n": images}``; as the card of a model keeps it.
    """
    network.eval()
    images, labels = images.to(_device(network)), labels.to(_device(network))
    right = sum(
        int((network(scale(part, spec)).argmax(-1) == truth).sum())
        for part, truth in zip(images.split(500), labels.split(500), strict=True)
    )
    share = right / len(images)
    return {
        "mean": round(100 * share, 3),
        "ci95": round(196 * (share * (1 - share) / len(images)) ** 0.5, 3),
        "n": len(images),
    }
