"""How much memory there is, and how the C library handles that of tensors."""

import ctypes
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # glibc's names for mallopt


def set_allocator(thresholds: dict[int, int]) -> bool:
    """Set glibc's thresholds by name, for the whole process; False where the C library is another."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) == 1 for name, value in thresholds.items())


def keep_freed_memory() -> bool:
    """Ask glibc to keep what a tensor leaves for the next one; False where the C library is another.

    By default every large tensor is a fresh mapping, which the kernel fills with zeros page by page at its first use: a
    fifth of the time of a training step on a CPU. Holds for the whole process; its peak of memory stays what it was.
    """
    return set_allocator({MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 1 << 28})


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or what its control group allows."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30
    try:
        allowed = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # another system, or no limit
        return machine
    return min(machine, allowed)


def in_parts(look: Callable[[Tensor], T], images: Tensor, most: int) -> list[T]:
    """What ``look`` gives for parts of at most so many images, one after another.

    Where the device has no memory for a part, it and the others are half as long from then on, with a warning.

    Raises:
        torch.OutOfMemoryError: there is none for a single image.
    """
    given: list[T] = []
    start = 0
    while not given or start < len(images):
        part = images[start : start + most]
        try:
            given.append(look(part))
            start += len(part)
            continue
        except torch.OutOfMemoryError:
            if len(part) <= 1:
                raise
        most = len(part) // 2
        torch.cuda.empty_cache()  # once the exception, and what it holds, is gone
        warnings.warn(f"no memory for {len(part)} images at once: {most} from here on", stacklevel=2)
    return given
