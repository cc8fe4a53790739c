"""Devices and cores, copies to a device that nobody waits for, and compiled functions."""

import os
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable)
Accelerator = Literal["cpu", "auto"]


def send(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``, without waiting for the copy.

    A plain ``to(device)`` waits until a GPU has done all that it was asked for before. Whatever is computed from the
    copy comes after it in the GPU's queue, so nothing is gained by that. MPS is waited for: there torch may release
    the source before it is read (https://github.com/pytorch/pytorch/issues/189690).
    """
    return values.to(device, non_blocking=device.type != "mps")


def compiled(function: Function, device: torch.device) -> Function:
    """`torch.compile`; on a CUDA GPU the compiled kernels are also taken into one CUDA graph.

    For functions that are called with the same shapes again and again: each new shape is compiled anew.
    """
    mode = "reduce-overhead" if device.type == "cuda" else None
    return torch.compile(function, dynamic=False, mode=mode)  # type: ignore[return-value]


def devices(accelerator: Accelerator) -> list[torch.device]:
    """The CPU, or with ``auto`` all GPUs that torch finds on this machine, if any."""
    kind = torch.accelerator.current_accelerator(check_available=True) if accelerator == "auto" else None
    if kind is None:
        return [torch.device("cpu")]
    return [torch.device(kind.type, i) for i in range(torch.accelerator.device_count())]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
