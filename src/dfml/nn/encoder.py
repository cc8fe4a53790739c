"""What an image must look like to a network, and networks that normalise their own input."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import chain
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.layout import channels_last
from dfml.plain import check_types

LARGEST_SIDE = 4096  # pixels of an image that a network takes
MOST_CHANNELS = 64
Interpolation = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True)
class InputSpec:
    """Images that a network takes.

    Args:
        channels: of an image.
        size: height in pixels; also the width, unless ``width`` is given.
        mean: of each channel, taken off.
        std: of each channel, divided by.
        width: in pixels, of a network whose images are no squares.
        interpolation: of resizing, always antialiased.
        crop: the middle part of an image that the network looks at, as a share of its sides.

    Raises:
        InputError: values that go with no images.
    """

    channels: int = 3
    size: int = 32
    mean: tuple[float, ...] | list[float] = (0.5, 0.5, 0.5)  # a list, as JSON gives it, becomes a tuple
    std: tuple[float, ...] | list[float] = (0.25, 0.25, 0.25)
    width: int | None = None
    interpolation: Interpolation = "bilinear"
    crop: float = 1.0

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "InputSpec":
        """Of values as a file or a user gives them.

        Raises:
            InputError: values of another type, or that go with no images.
            TypeError: unknown names.
        """
        try:
            check_types(InputSpec, values)
        except TypeError as error:
            raise InputError(
                f"images of which {error}",
                "whole numbers for channels, size and width; lists of numbers for mean and std",
                "correct them (--channels, --size, --width, --mean, --std; input_spec of a model's card)",
            ) from error
        return InputSpec(**values)

    def __post_init__(self):
        sides = self.size, self.width if self.width is not None else self.size
        if not 1 <= self.channels <= MOST_CHANNELS or not all(1 <= side <= LARGEST_SIDE for side in sides):
            raise InputError(
                f"images of {self.channels} channels, {sides[0]} pixels high and {sides[1]} wide",
                f"1 to {MOST_CHANNELS} channels, and sides of 1 to {LARGEST_SIDE} pixels",
                "correct them (--channels, --size, --width; input_spec of a model's card)",
            )
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise InputError(
                f"mean {self.mean} and std {self.std} for {self.channels} channels",
                "one mean and one positive std per channel",
                "correct them (--mean, --std; input_spec of a model's card)",
            )
        if not all(0 <= m <= 1 for m in self.mean) or max(self.std) > 1:
            raise InputError(
                f"mean {self.mean} and std {self.std}",
                "means from 0 to 1 and stds of at most 1, since images are in [0, 1]",
                "divide them by 255 if they belong to images in 0..255 (--mean, --std; input_spec of a model's card)",
            )
        if self.interpolation not in get_args(Interpolation) or not 0.1 <= self.crop <= 1:
            raise InputError(
                f"interpolation {self.interpolation!r} and crop {self.crop}",
                f"one of {', '.join(get_args(Interpolation))}, and a share of the sides from 0.1 to 1",
                "correct them (--interpolation, --crop; input_spec of a model's card)",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.size, self.width or self.size

    def to_dict(self) -> dict:
        """Plain values, for JSON; what is as usual is left out where older versions of dfml did not know of it."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        newer = ("width", "interpolation", "crop")
        usual = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in values.items() if name not in newer or value != usual[name]}

    def normalise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """(images - mean) / std, per channel; images in [0, 1]. Channels-last, which networks run faster in."""
        mean, std = _constants(self, images.device, images.dtype)
        return channels_last((images - mean) / std)

    def fit(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n channels height width"]:
        """Images of any shape as this network takes them: cropped to the middle, resized, grey or in colour.

        A crop keeps what is round round; squeezing would not. Resizing is antialiased. Colour becomes grey as in
        Pillow (ITU-R 601-2 luma), and grey becomes three equal channels. Bytes become floats in [0, 1].

        Raises:
            InputError: another number of channels that is neither 1 nor 3, or integers that are not bytes.
        """
        images = images if images.is_floating_point() else as_floats(images)
        channels = images.shape[1]
        if channels != self.channels:
            if {channels, self.channels} != {1, 3}:
                raise InputError(f"images with {channels} channels", f"{self.channels} channels", "convert them")
            images = grey(images) if channels == 3 else images.expand(-1, 3, -1, -1)
        return resized(images, *self.shape[1:], interpolation=self.interpolation, crop=self.crop)


LUMA = (0.299, 0.587, 0.114)


def grey(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """One channel of the weighted colours."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def resized(
    images: Float[Tensor, "n c h w"],
    height: int,
    width: int | None = None,
    *,
    interpolation: Interpolation = "bilinear",
    crop: float = 1.0,
) -> Float[Tensor, "n c height width"]:
    """The middle of each image, as large as its new shape allows, antialiased at that shape.

    Args:
        images: of any height and width.
        height: wanted.
        width: wanted; the height unless given.
        interpolation: of resizing; bicubic is cut to [0, 1], as Pillow does.
        crop: share of the sides of that middle that is looked at.
    """
    width, (tall, wide) = width or height, images.shape[-2:]
    scale = min(tall / height, wide / width) * crop
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (tall - rows) // 2, (wide - columns) // 2
    images = images[..., top : top + rows, left : left + columns]
    if (rows, columns) == (height, width):
        return images
    if interpolation == "nearest":
        return F.interpolate(images, (height, width), mode="nearest-exact")
    images = F.interpolate(images, (height, width), mode=interpolation, antialias=True, align_corners=False)
    return images.clamp(0, 1) if interpolation == "bicubic" else images


def as_floats(images: Tensor, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Images as floats, by their type alone, so that no device is waited for: bytes are divided by 255.

    Args:
        images: uint8 or floating; bfloat16, in which mixed precision computes, stays.
        dtype: wanted.

    Raises:
        InputError: another type.
    """
    if images.dtype in (dtype, torch.bfloat16):
        return images
    if images.dtype == torch.uint8:
        return images.to(dtype) / 255
    if images.is_floating_point():
        return images.to(dtype)
    raise InputError(
        f"images of type {str(images.dtype).removeprefix('torch.')} and shape {tuple(images.shape)}",
        "uint8 in 0..255 or floats in 0..1",
        "convert them: images.to(torch.uint8) where they hold 0..255",
    )


def as_images(images: Tensor, dtype: torch.dtype = torch.float32) -> Float[Tensor, "n c h w"]:
    """Images as somebody gives them: `as_floats` whose values are looked at, too.

    Args:
        images: [n, channels, height, width], uint8 or floating.
        dtype: wanted.

    Raises:
        InputError: another type or shape, or values that are no numbers or outside [0, 1].
    """
    floats = as_floats(images, dtype)
    given = f"images of type {str(images.dtype).removeprefix('torch.')} and shape {tuple(images.shape)}"
    wanted = "[n, channels, height, width], uint8 in 0..255 or floats in 0..1"
    if images.ndim != 4:
        raise InputError(given, wanted, "put the channels second; a single image needs a first axis of length 1")
    if images.is_floating_point() and images.numel():
        low, high = (float(bound) for bound in images.detach().aminmax())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also where one of them is NaN
            do = "divide them by 255, or give them as uint8" if high <= 255 and low >= 0 else "scale them to 0..1"
            raise InputError(f"{given} from {low:g} to {high:g}", wanted, do)
    return floats.to(dtype)


TOLERANCE = 1e-3  # of rounding, where images were resized or stored in half precision


@cache
def _constants(spec: InputSpec, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Mean and std. Sending waits for the device, so it is done once; outside of inference, for autograd to use."""
    with torch.inference_mode(False):
        return torch.tensor([spec.mean, spec.std], device=device, dtype=dtype)[:, :, None, None]


def tensors_of(network: nn.Module) -> Iterator[Tensor]:
    """Parameters, then buffers: a network that was read from ONNX has no parameters."""
    return chain(network.parameters(), network.buffers())


class Encoder(nn.Module):
    """A backbone that normalises its own input: images in [0, 1] to flat features."""

    mixture: float | None = None
    """Inside `mixing_features`, the share of the second image."""

    def __init__(self, backbone: nn.Module, spec: InputSpec):
        super().__init__()
        self.backbone, self.spec = backbone, spec
        self.mean: Tensor
        self.std: Tensor
        device = next((t.device for t in tensors_of(backbone)), None)
        for name, values in (("mean", spec.mean), ("std", spec.std)):
            self.register_buffer(name, torch.tensor(values, device=device)[:, None, None], persistent=False)

    @property
    def feature_size(self) -> int:
        """Length of the feature vector."""
        return int(self.backbone.feature_size)  # type: ignore[arg-type]

    def normalise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """As `InputSpec.normalise`, by buffers: a compiler takes them as they are."""
        return channels_last((images - self.mean) / self.std)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Features of images in [0, 1]."""
        if self.mixture is None:
            return self.backbone(self.normalise(images))
        first, second = self.backbone(self.normalise(torch.cat(images.chunk(2, 1)))).chunk(2)
        return torch.lerp(first, second, self.mixture)


@contextmanager
def mixing_features(encoder: Encoder, share: float | None) -> Iterator[None]:
    """Inside, the encoder takes two images, on the channel axis, and gives (1 - share) f(first) + share f(second).

    So a learner that knows nothing of it is trained on mixtures. With share None nothing changes.
    """
    before, encoder.mixture = encoder.mixture, share
    try:
        yield
    finally:
        encoder.mixture = before
