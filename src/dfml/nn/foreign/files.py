"""Networks that are files: what holds one needs nothing else to be whole."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Archived(nn.Module):
    """A network whose state is its file, byte for byte.

    Its weights stand in the file, so that they are left out of the state; loading a state opens the file in it.

    Args:
        size: bytes of the file.
        opened: a file's bytes to the network in it.
        runtime: a file's bytes to what gives the same answers faster on a CPU, head and all, without gradients.
    """

    def __init__(
        self, size: int, opened: Callable[[bytes], nn.Module], runtime: Callable[[bytes], nn.Module] | None = None
    ):
        super().__init__()
        self.archive: Tensor
        self.register_buffer("archive", torch.zeros(size, dtype=torch.uint8))
        self.network: nn.Module = nn.Identity()
        self.head: str | None = None  # of the network, taken off as soon as it is open
        self._opened, self._runtime = opened, runtime
        self._running: nn.Module | None = None
        self.register_state_dict_post_hook(_without_weights)
        self.register_load_state_dict_pre_hook(_opened_first)

    @staticmethod
    def of(
        content: bytes, opened: Callable[[bytes], nn.Module], runtime: Callable[[bytes], nn.Module] | None = None
    ) -> "Archived":
        """The network in a file's bytes."""
        archived = Archived(len(content), opened, runtime)
        archived.take(content)
        return archived

    def take(self, content: bytes) -> None:
        """Be the network in these bytes."""
        self.archive = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self.open()

    def open(self) -> None:
        """Make the network of the bytes."""
        self.network = self._opened(self.archive.cpu().numpy().tobytes()).requires_grad_(False)
        if self.head is not None:
            self.without(self.head)

    @property
    def running(self) -> nn.Module | None:
        """What answers faster, where there is such a thing and the network is on a CPU."""
        if self._runtime is not None and self._running is None and self.archive.device.type == "cpu":
            self._running = self._runtime(self.archive.numpy().tobytes())
        return self._running

    def without(self, head: str) -> nn.Module:
        """Take the head off, now or when the file is opened; gives it where it is there."""
        self.head = head
        return without_head(self.network, head) if head in dict(self.network.named_modules()) else nn.Identity()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Any:
        """What the network in the file gives."""
        return self.network(x)


def _without_weights(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}network.")]:
        del state[name]


def _opened_first(module: Archived, state: dict[str, Any], prefix: str, *_: Any) -> None:
    archive = state.get(f"{prefix}archive")
    if archive is None or archive.shape != module.archive.shape:
        return  # load_state_dict says so
    with torch.no_grad():
        module.archive.copy_(archive)
    module.open()
    state |= {f"{prefix}network.{name}": value for name, value in module.network.state_dict().items()}


def without_head(network: nn.Module, head: str) -> nn.Module:
    """Put `nn.Identity` in the place of a layer, and give the layer."""
    owner, _, name = head.rpartition(".")
    found = network.get_submodule(head)
    setattr(network.get_submodule(owner), name, nn.Identity())
    return found
