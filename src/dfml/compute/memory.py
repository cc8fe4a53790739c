"""How much memory there is, and how the C library handles that of tensors."""

import ctypes
import os
import platform
from pathlib import Path

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
