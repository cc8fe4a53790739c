import platform
import subprocess
import sys

import pytest
import torch

from dfml.compute.memory import in_parts

SCRIPT = """
import resource, statistics, torch
from dfml.compute.memory import keep_freed_memory
from dfml.nn import build_backbone
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.set_num_threads(1)
network, images = build_backbone("conv4", image_size=32, channels=3, width=64), torch.rand(64, 3, 32, 32)
def step():
    network(images).square().mean().backward()
def five_steps():
    before = faults()
    for _ in range(5):
        step()
    return faults() - before
print(round(statistics.median(five_steps() for _ in range(9))))  # the heap grows, or does not, in single ones
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_training_step_takes_the_memory_that_the_one_before_left():
    def faults(call):
        script = SCRIPT.format(call=call)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    fresh, kept = faults(""), faults("assert keep_freed_memory()")
    assert fresh > 10_000
    assert kept < fresh / 10


def test_parts_get_shorter_where_memory_ends_and_nothing_is_left_out():
    asked = []

    def look(part):
        asked.append(len(part))
        if len(part) > 5:
            raise torch.OutOfMemoryError("full")
        return 2 * part

    with pytest.warns(UserWarning, match="no memory for 16 images at once: 8 from here on"):
        given = in_parts(look, torch.arange(37), 16)
    assert torch.equal(torch.cat(given), 2 * torch.arange(37))
    assert asked == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1]
    assert len(in_parts(look, torch.arange(0), 16)) == 1
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(lambda part: look(torch.arange(9)), torch.arange(3), 2)
