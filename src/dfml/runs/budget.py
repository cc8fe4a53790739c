"""What a run may cost, and what it has cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dfml.learners.base import Metrics
from dfml.methods.base import StepReport
from dfml.recipes.options import RunOptions


def budget_used(options: RunOptions, step: int, seconds: float) -> float:
    """The part of the budget that is used, 0 to 1: of steps or of time, whichever is more."""
    by_steps = step / options.steps if options.steps else 0.0
    by_time = seconds / (60 * options.minutes) if options.minutes else 0.0
    return min(1.0, max(by_steps, by_time))


@dataclass(frozen=True)
class Update:
    """What `on_progress` hears after each step: ``seconds`` of training in all, budgets, and the step's metrics."""

    step: int
    seconds: float
    options: RunOptions
    metrics: Metrics = field(default_factory=dict)
    validation: Metrics = field(default_factory=dict)
    images_per_second: float = 0.0
    notes: tuple[str, ...] = ()
    """For people, in plain sentences: what was cut, what a step costs, and after the last that they were few."""

    @property
    def fraction(self) -> float:
        """The part of the budget that is used, 0 to 1."""
        return budget_used(self.options, self.step, self.seconds)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the part that is used; None before there is one."""
        return self.seconds * (1 / self.fraction - 1) if self.fraction > 0 else None


@dataclass
class Totals:
    """What a run has cost so far, all resumes together: seconds, CPU seconds, recovered images, teacher queries."""

    total: float = 0.0
    recover: float = 0.0
    cpu: float = 0.0
    images: float = 0.0
    queries: float = 0.0
    peak_memory_mb: float = 0.0
    load: float = 0.0
    device: str = "cpu"

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time of the block."""
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.total += time.monotonic() - wall
        self.cpu += time.process_time() - cpu

    def add(self, report: StepReport) -> None:
        """Count what a step did."""
        self.images += report.images
        self.queries += report.queries
        self.recover += report.recover_seconds


OnProgress = Callable[[Update], None]
