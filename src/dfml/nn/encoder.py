"""What an image must look like to a network, and networks that normalise their own input."""

from dataclasses import asdict, dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.layout import channels_last


@dataclass(frozen=True)
class InputSpec:
    """Images that a network takes: channels, height = width = ``size`` pixels, per-channel mean and std."""

    channels: int = 3
    size: int = 32
    mean: tuple[float, ...] | list[float] = (0.5, 0.5, 0.5)  # a list, as JSON gives it, becomes a tuple
    std: tuple[float, ...] | list[float] = (0.25, 0.25, 0.25)

    def __post_init__(self):
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise InputError(
                f"mean {self.mean} and std {self.std} for {self.channels} channels",
                "one mean and one positive std per channel",
                "correct the input_spec of the model card",
            )

        if not all(0 <= m <= 1 for m in self.mean) or max(self.std) > 1:
            raise InputError(
                f"mean {self.mean} and std {self.std}",
                "means from 0 to 1 and stds of at most 1, since images are in [0, 1]",
                "divide them by 255 if they belong to images in 0..255; correct the input_spec of the model card",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.size, self.size

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    def normalise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """(images - mean) / std, per channel; images in [0, 1]. Channels-last, which networks run faster in."""
        mean, std = _constants(self, images.device, images.dtype)
        return channels_last((images - mean) / std)

    def fit(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels size size"]:
        """Images of any shape as this network takes them: cropped to the middle square, resized, grey or in colour.

        A crop keeps what is round round; squeezing would not. Resizing is antialiased. Colour becomes grey as in
        Pillow (ITU-R 601-2 luma), and grey becomes three equal channels.

        Raises:
            InputError: another number of channels that is neither 1 nor 3.
        """
        channels = images.shape[1]
        if channels != self.channels:
            if {channels, self.channels} != {1, 3}:
                raise InputError(f"images with {channels} channels", f"{self.channels} channels", "convert them")
            images = grey(images) if channels == 3 else images.expand(-1, 3, -1, -1)
        return resized(images, self.size)


LUMA = (0.299, 0.587, 0.114)


def grey(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """One channel of the weighted colours."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def resized(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """The middle square of each image, antialiased at another size; unchanged where it has that size."""
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    images = images[..., top : top + square, left : left + square]
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def as_images(images: Tensor, dtype: torch.dtype = torch.float32) -> Float[Tensor, "n c h w"]:
    """Images as somebody gives them, as floats in [0, 1]: bytes are divided by 255, floats must lie there already.

    Args:
        images: [n, channels, height, width], uint8 or floating.
        dtype: wanted.

    Raises:
        InputError: another type or shape, or values that are no numbers or outside [0, 1].
    """
    given = f"images of type {str(images.dtype).removeprefix('torch.')} and shape {tuple(images.shape)}"
    wanted = "[n, channels, height, width], uint8 in 0..255 or floats in 0..1"
    if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise InputError(given, wanted, "convert them; a single image needs a first axis of length 1")
    if images.dtype == torch.uint8:
        return images.to(dtype) / 255
    if images.numel():
        low, high = (float(bound) for bound in images.detach().aminmax())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also where one of them is NaN
            do = "divide them by 255, or give them as uint8" if high <= 255 and low >= 0 else "scale them to 0..1"
            raise InputError(f"{given} from {low:g} to {high:g}", wanted, do)
    return images.to(dtype)


TOLERANCE = 1e-3  # of rounding, where images were resized or stored in half precision


@cache
def _constants(spec: InputSpec, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Mean and std. Sending waits for the device, so it is done once; outside of inference, for autograd to use."""
    with torch.inference_mode(False):
        return torch.tensor([spec.mean, spec.std], device=device, dtype=dtype)[:, :, None, None]


class Encoder(nn.Module):
    """A backbone that normalises its own input: images in [0, 1] to flat features."""

    def __init__(self, backbone: nn.Module, spec: InputSpec):
        super().__init__()
        self.backbone, self.spec = backbone, spec
        self.mean: Tensor
        self.std: Tensor
        device = next((p.device for p in backbone.parameters()), None)
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
        return self.backbone(self.normalise(images))
