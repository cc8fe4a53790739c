"""How much of a lattice recovered images show: their energy at the highest frequencies, beside that of natural ones.

    python reproduce/recovery_frontier/lattice.py --zoo reproduce/zoos/cifar_fs_conv4 --data DATA

For each way of doubling in the meta-generator: 60 visits to 20 models, then 100 images of each of 10. Energy is that of
grey images under a Hann window, at 0.40 to 0.46 and from 0.46 cycles a pixel on, as a multiple of that of 1,000 images
of the validation classes, which only this measurement sees. *Statistics distance* is that of the other table. Lines go
to ``lattice.jsonl``.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfml.data import load_data
from dfml.functional.priors import batchnorm_norms
from dfml.nn.generators import GENERATORS, PixelShuffleGenerator, _double
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.zoo import Zoo

HERE, FROM = Path(__file__).parent, (0.40, 0.46)


class SubPixel(PixelShuffleGenerator):
    """PixelShuffle with filters of its own for each place, as it was."""

    def __init__(self, **options: int):
        super().__init__(**options)
        self.up3 = nn.Conv2d(32, 12 * 4, 3, padding=1)
        with torch.no_grad():
            self.up3.weight.copy_(self.up3.weight[::4].repeat_interleave(4, 0))

    def forward(self, codes: Tensor) -> Tensor:
        return self.end(F.leaky_relu(_double(self.up3.weight, self.up3.bias, self.half(codes)), 0.2))

    def half(self, codes: Tensor) -> Tensor:
        x = self.linear(codes).view(-1, 128, self.start, self.start)
        x = F.leaky_relu(self.norm1(_double(self.up1.weight, None, self.norm(x))), 0.2)
        return F.leaky_relu(self.norm2(_double(self.up2.weight, None, x)), 0.2)

    def end(self, x: Tensor) -> Tensor:
        return self.last(x).sigmoid()[..., : self.size, : self.size]


class NarrowLast(SubPixel):
    """Interpolated once more in the end, with a convolution after it."""

    def __init__(self, **options: int):
        super().__init__(**options)
        self.up3, self.middle = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        x = doubled(F.leaky_relu(self.up3(self.half(codes)), 0.2), "bilinear")
        return self.end(F.leaky_relu(self.middle(x), 0.2))


class Interpolated(PixelShuffleGenerator):
    """Interpolation before every convolution that doubles."""

    mode = "bilinear"

    def __init__(self, **options: int):
        super().__init__(**options)
        self.up1 = nn.Conv2d(128, 64, 3, padding=1, bias=False)
        self.up2 = nn.Conv2d(64, 32, 3, padding=1, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.norm(self.linear(codes).view(-1, 128, self.start, self.start))
        x = F.leaky_relu(self.norm1(self.up1(doubled(x, self.mode))), 0.2)
        x = F.leaky_relu(self.norm2(self.up2(doubled(x, self.mode))), 0.2)
        return self.last(F.leaky_relu(self.up3(doubled(x, self.mode)), 0.2)).sigmoid()


class Nearest(Interpolated):
    mode = "nearest"


def doubled(x: Tensor, mode: str) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode=mode)


class Blurred(MetaGenerator):
    """Teachers see images through a blur of half a pixel."""

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        right, down = images.roll(1, -1), images.roll(1, -2)
        return super().augment((images + right + down + down.roll(1, -1)) / 4, generator)


WAYS: dict[str, tuple[type[nn.Module], type[MetaGenerator]]] = {
    "sub-pixel filters, as before": (SubPixel, MetaGenerator),
    "the same, teachers see it blurred": (SubPixel, Blurred),
    "nearest-neighbour interpolation before each doubling": (Nearest, MetaGenerator),
    "bilinear interpolation before each": (Interpolated, MetaGenerator),
    "narrow filters, then bilinear interpolation": (NarrowLast, MetaGenerator),
    "filters behind bilinear interpolation in the last, as it is": (PixelShuffleGenerator, MetaGenerator),
}


def energy(images: Tensor) -> list[float]:
    """Mean over images, in the two bands."""
    grey = images.float().mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    window = torch.hann_window(grey.shape[-1], periodic=False)
    power = torch.fft.fft2(grey * window[:, None] * window).abs().square()
    frequency = torch.fft.fftfreq(grey.shape[-1]).abs()
    highest = torch.maximum(frequency[:, None], frequency)
    low, high = FROM
    bands = ((highest >= low) & (highest < high), highest >= high)
    return [float((power * band).sum((1, 2)).mean()) for band in bands]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, val = Zoo.open(args.zoo), load_data(args.data).val
    natural = energy(val.batch(torch.randperm(len(val), generator=torch.Generator().manual_seed(0))[:1000]))
    labels = torch.arange(5).repeat(20)
    for name, (generator, recovering) in WAYS.items():
        GENERATORS["pixelshuffle"] = generator
        recovery, start = recovering(), time.process_time()
        state = recovery.init(zoo.canvas, Rng(0))
        for visit in range(60):
            recovery.recover(state, [Visit(zoo.teacher(zoo.ids[visit % 20]), labels)], rng=Rng(0).at("visit", visit))
        seconds = time.process_time() - start
        shown, distances, right = [], [], []
        for number in range(10):
            teacher = zoo.teacher(zoo.ids[number])
            (told,) = recovery.recover(state, [Visit(teacher, labels)], rng=Rng(1).at(number), learn=False)
            seen = teacher.forward(told.images, statistics=True)
            shown.append(told.images)
            distances.append(float(batchnorm_norms(seen.statistics)))
            right.append(float((seen.logits.argmax(-1) == labels).float().mean()))
        times = [round(own / real, 1) for own, real in zip(energy(torch.cat(shown)), natural, strict=True)]
        line = {"schema": 1, "way": name, "times_natural": times, "wanted": round(10 * sum(right), 1)}
        line |= {"statistics_distance": round(sum(distances) / 10, 1), "cpu_seconds": round(seconds)}
        print(json.dumps(line), flush=True)
        with (HERE / "lattice.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
