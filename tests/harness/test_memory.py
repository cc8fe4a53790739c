import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from dfml.harness.memory import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(8_000_000)
before = faults()
for _ in range(10):
    torch.ones(8_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_tensor_takes_the_memory_that_another_left():
    def faults(call):
        script = SCRIPT.format(call=call)
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    fresh, kept = faults(""), faults("assert keep_freed_memory()")
    assert fresh > 50_000 and kept < fresh / 20
