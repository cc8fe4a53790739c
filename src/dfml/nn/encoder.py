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

    def fit(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c size size"]:
        """Resize (antialiased) to ``size`` where needed.

        Raises:
            InputError: another number of channels.
        """
        if images.shape[1] != self.channels:
            raise InputError(f"images with {images.shape[1]} channels", f"{self.channels} channels", "convert them")
        if images.shape[-2:] == (self.size, self.size):
            return images
        return F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)


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
