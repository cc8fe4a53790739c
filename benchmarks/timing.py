"""Two ways of doing the same thing, timed side by side in one process."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from dfml.compute.memory import MMAP_THRESHOLD, TOP_PAD, TRIM_THRESHOLD, keep_freed_memory, set_allocator
from dfml.nn import BatchNorm2d
from dfml.nn.pooling import MaxPool2x2

HERE = Path(__file__).parent


@contextmanager
def memory_as_usual() -> Iterator[None]:
    """Inside, the C library gives freed memory back as it does in any program that has freed a large tensor before.

    glibc's thresholds grow with what is freed, up to these values, unless a program sets them (`keep_freed_memory`).
    """
    set_allocator({MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10})
    yield
    keep_freed_memory()


@contextmanager
def as_published() -> Iterator[None]:
    """Inside, arithmetic and memory are as in the published code: float32, channels first, torch's own layers."""
    with (
        memory_as_usual(),
        patch("dfml.nn.generators.channels_last", lambda x: x),
        patch("dfml.nn.precision.bfloat16_is_fast", lambda: False),
        patch.object(MaxPool2x2, "forward", lambda _, x: F.max_pool2d(x, 2)),
        patch.object(BatchNorm2d, "_affine", lambda n, x, *s: F.batch_norm(x, *s, n.weight, n.bias, False, 0.0, n.eps)),
        patch("dfml.nn.encoder.channels_last", lambda x: x),
    ):
        yield


@dataclass(frozen=True)
class Side:
    """One of two ways.

    Args:
        name: in the results.
        run: does the work once.
        times: how many of these make the whole; more than one is an extrapolation.
        inside: the surroundings of the work.
    """

    name: str
    run: Callable[[], Any]
    times: float = 1.0
    inside: Callable[[], AbstractContextManager] = nullcontext

    def seconds(self) -> float:
        """Wall time of the whole."""
        with self.inside():
            start = time.perf_counter()
            self.run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return self.times * (time.perf_counter() - start)


@dataclass
class Comparison:
    """A line of the results: ``ours`` against each of ``others``.

    Args:
        name: of the task.
        ours: our way.
        others: the other ways.
        floor_s: what cannot be undercut, where something is known.
        facts: further keys of the lines.
    """

    name: str
    ours: Side
    others: list[Side]
    floor_s: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def lines(self, repeats: int) -> list[dict[str, Any]]:
        """Sides take turns; medians after one round to warm up."""
        sides = [self.ours, *self.others]
        taken: dict[str, list[float]] = {side.name: [] for side in sides}
        for _ in range(repeats + 1):
            for side in sides:
                taken[side.name].append(side.seconds())
        ours = median(taken[self.ours.name][1:])
        about = {
            "floor_s": self.floor_s and round(self.floor_s, 4),
            "repeats": repeats,
            "device": device(),
        } | self.facts
        others = {side.name: (median(taken[side.name][1:]), side.times != 1) for side in self.others}
        return [
            {"name": self.name, "ours_s": round(ours, 4), "other": name, "other_s": round(seconds, 4)}
            | {"ratio": round(seconds / ours, 2), "extrapolated": extrapolated}
            | about
            | self._rates(ours, seconds)
            for name, (seconds, extrapolated) in others.items()
        ]

    def _rates(self, ours: float, other: float) -> dict[str, Any]:
        """Images a second, where the task is to make some."""
        if "images" not in self.facts:
            return {}
        made = self.facts["images"]
        return {"images_a_second": {"ours": round(made / ours, 1), "other": round(made / other, 1)}}


def device() -> str:
    """What the numbers are of: a GPU, or CPU threads and the load that other work put on the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu x{torch.get_num_threads()}, load {os.getloadavg()[0]:.1f}"


def write(lines: list[dict[str, Any]], path: Path = HERE / "results.jsonl") -> None:
    """Put lines in the place of those with the same name and other side."""
    old = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    new = {(line["name"], line.get("other")) for line in lines}
    kept = [line for line in old if (line["name"], line.get("other")) not in new]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept + lines))


def show(lines: list[dict[str, Any]]) -> None:
    """A Markdown table."""
    print("| task | ours | other | its time | ratio | floor | images/s | extrapolated |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        floor = f"{1000 * line['floor_s']:.0f} ms" if line["floor_s"] else "-"
        times = [f"{1000 * line[key]:.0f} ms" for key in ("ours_s", "other_s")]
        rates = "{ours:.0f}, {other:.0f}".format(**line["images_a_second"]) if "images_a_second" in line else "-"
        cells = [line["name"], times[0], line["other"], times[1], f"{line['ratio']:.1f}", floor, rates]
        print("|", " | ".join([*cells, "yes" if line["extrapolated"] else "no"]), "|")
