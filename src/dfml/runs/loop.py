"""The training loop: flat, resumable to the same bits on a CPU, stoppable between two steps."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import NoReturn

import torch

from dfml.compute.memory import keep_freed_memory
from dfml.compute.ranks import SERIAL_RANKS, AbstractRanks
from dfml.errors import InputError, LostRank, NoAnswer, NotFinite
from dfml.files import printable
from dfml.learners.base import Metrics
from dfml.learners.learner_file import LEARNER, save_learner
from dfml.methods.base import AbstractMethod, AbstractState, StepReport, Teachers, teachers_of
from dfml.randomness import Rng
from dfml.recipes.options import RunOptions
from dfml.runs.budget import OnProgress, Totals, Update, budget_used
from dfml.runs.checkpoint import restore
from dfml.runs.determinism import reproducible, seed_strays
from dfml.runs.doubts import doubts
from dfml.runs.forecast import cost_notes, end_notes
from dfml.runs.growing import grow, initial_state
from dfml.runs.measures import load_average, peak_memory_mb
from dfml.runs.run_folder import RunFolder
from dfml.runs.soundness import Collapsed, Snapshot, check_step, slow_down, unsound_teachers
from dfml.stopping import first_signal
from dfml.zoo import Zoo

CPU = torch.device("cpu")


class Stopped(KeyboardInterrupt):
    """Training was asked to stop (Ctrl-C, SIGTERM or SIGHUP), finished its step and wrote a checkpoint.

    Args:
        signum: the signal.
        step: finished steps.
        folder: the run folder.
    """

    def __init__(self, signum: int, step: int, folder: RunFolder):
        super().__init__(f"stopped after step {step}; checkpoint written to {folder.path}; continue with --resume")
        self.signum, self.step, self.folder = signum, step, folder

    def __reduce__(self):
        return Stopped, (self.signum, self.step, self.folder)


class Loop:
    """One run of one method over one zoo, in one process or in several that take the same steps.

    The first process writes: metrics, checkpoints, progress. Its clock and anyone's stop signal are everyone's.

    Args:
        method: the method.
        zoo: its teachers.
        folder: takes metrics and checkpoints.
        options: budget, seed, intervals.
        on_progress: called after every step.
        ranks: the processes of the run.
        device: where teachers and state are.
        on_start: called with the state before its first step, in the process that writes.
    """

    def __init__(
        self,
        method: AbstractMethod,
        zoo: Zoo,
        folder: RunFolder,
        options: RunOptions,
        on_progress: OnProgress | None = None,
        *,
        ranks: AbstractRanks = SERIAL_RANKS,
        device: torch.device = CPU,
        on_start: Callable[[AbstractState], None] | None = None,
    ):
        self.method, self.zoo, self.folder, self.options = method, zoo.on(device), folder, options
        self.on_progress, self.on_start = on_progress, on_start
        self.ranks, self.writes = ranks, ranks.rank == 0
        self.rng = Rng(options.seed)
        self.device, self.totals = device, Totals(device=device.type)
        self.validation: Metrics = {}
        self.stop_signal: int | None = None
        self.resumed_at = -1

    def start(self) -> AbstractState:
        """The state before the first step, or of the newest sound checkpoint."""
        seed_strays(self.rng.at("init"))
        saved, stages = self.folder.checkpoints.latest(), self.folder.stages
        before = stages if saved is None else stages[: saved.get("stages", 1)]
        state = initial_state(self.method, self.zoo, before, self.rng.at("init"))
        state.to(self.device)
        if saved is not None:
            restore(state, saved, self.folder.path)
            for number in range(len(before), len(stages)):
                grow(self.method, state, self.zoo, stages, number, self.rng.at("init"))
            state.to(self.device)
            self.resumed_at = state.step
            self.totals, self.validation = Totals(**saved["totals"]), saved["validation"]
            state.bring_back(at_once=True)  # whoever goes on has seen to the servers
        state.ranks = self.ranks
        if self.options.compile:
            state.compile(self.device)
        self._agree()  # also: everyone has read before the first one writes
        if self.writes:
            self.folder.rewind(state.step)
        return state

    def run(self) -> AbstractState:
        """Train until the budget is used.

        Raises:
            Stopped: a signal came; the checkpoint is written.
            InputError: training diverged, or no teacher is left; the last sound state is written.
            LostRank: another process of the run is gone; the newest checkpoint stands.
        """
        keep_freed_memory()
        with reproducible(self.folder.threads), self._listening(), self._losing_no_rank():
            state = self.start()
            if self.writes and self.on_start:
                self.on_start(state)
            saved_at, last_saved = time.monotonic(), self.resumed_at
            if self.ranks.world > 1 and last_saved < 0:
                self.save(state)  # with several processes one may be lost at any time
            while self.method.trains and not self._done(state) and self.stop_signal is None:
                rng = self.rng.at("step", state.step + 1)
                with self._step(state, rng) as (teachers, made):
                    made.append(self.method.step(state, teachers, rng))
                if time.monotonic() - saved_at >= 60 * self.options.checkpoint_minutes:
                    self.save(state)
                    saved_at, last_saved = time.monotonic(), state.step
            if state.step != last_saved:
                self.save(state)
            self._agree()  # the last checkpoint is there for everyone
        if self.stop_signal is not None and not self._done(state):
            raise Stopped(self.stop_signal, state.step, self.folder)
        return state

    @contextmanager
    def _losing_no_rank(self) -> Iterator[None]:
        try:
            yield
        except LostRank as lost:
            saved = self.folder.checkpoints.latest()
            there = f"step {saved['step']}" if saved else "no step"
            message = f"{lost}; checkpoint of {there} in {self.folder.path}; continue with --resume"
            # At once: the launcher is about to end this process too.
            print(printable(message), file=sys.stderr, flush=True)
            raise LostRank(message) from lost

    def save(self, state: AbstractState) -> None:
        """Write a checkpoint."""
        if not self.writes:
            return
        self.totals.peak_memory_mb = max(self.totals.peak_memory_mb, peak_memory_mb())
        self.totals.load = load_average()
        progress = {"totals": asdict(self.totals), "validation": self.validation, "stages": len(self.folder.stages)}
        self._save_learner(state)  # first: a checkpoint on disk means that its learner is there
        self.folder.checkpoints.save(state.step, {"step": state.step, "state": state.state_dict()} | progress)

    def _save_learner(self, state: AbstractState) -> None:
        """What the run is for, in files that need neither the run nor its zoo."""
        try:
            learner = self.method.learner(state)
        except InputError:  # nothing is learned yet, as whoever asks for the learner is told
            return
        about = {"method": type(self.method).__name__, "step": state.step, "zoo": self.zoo.name, "hash": self.zoo.hash}
        save_learner(learner, self.folder.path / LEARNER, about=about)

    def _done(self, state: AbstractState) -> bool:
        steps, minutes = self.options.steps, self.options.minutes
        return (steps is not None and state.step >= steps) or (
            minutes is not None and self.totals.total >= 60 * minutes
        )

    @contextmanager
    def _step(self, state: AbstractState, rng: Rng) -> Iterator[tuple[Teachers, list[StepReport]]]:
        """Around a step of the method: its teachers before; clock, checks, validation and metrics after.

        A step that leaves numbers which are none is taken back, and the teachers that caused it are set aside; one
        whose images are alike is, too, and the generator goes on in smaller steps. Where a teacher did not answer, the
        same step is taken anew without it: what the others answered is at hand then.
        """
        number, asked, made = state.step + 1, self.zoo.tally.queries, list[StepReport]()
        before = Snapshot(state)
        with self._clock():
            seed_strays(rng)
            for name in state.bring_back():
                warnings.warn(f"step {number}: teacher {name} is asked again", stacklevel=2)
            state.progress = budget_used(self.options, state.step, self.totals.total)
            teachers = teachers_of(self.zoo, self.method.plan(state, self.zoo, rng))
            try:
                yield teachers, made
                check_step(state, made[0])
            except NotFinite as error:
                before.restore()
                self._set_aside(state, teachers, error)
                made = made or [StepReport()]
                made[0].terms = {}
            except Collapsed as error:
                before.restore()
                self._slow_down(state, error)
                made[0].terms = {}
            except NoAnswer as error:
                before.restore()
                self._pause(state, error)
                return
            except torch.OutOfMemoryError as error:
                before.restore()
                self._give_up(
                    state,
                    error,
                    f"step {number} does not fit into the memory of {self.device}",
                    wanted="a step that fits",
                    do="train anew with fewer images_per_class, a smaller meta_batch or network, or on another device",
                )
            queries = self.zoo.tally.queries - asked
            if number == 1 or number % self.options.val_every == 0:
                self._blame(state, unsound_teachers(teachers, self.zoo.canvas, free=True))
            state.step = number
        self._report(state, made[0], queries)

    def _set_aside(self, state: AbstractState, teachers: Teachers, error: NotFinite) -> None:
        """Ask the teachers of an unsound step no more; without one to blame, training itself has diverged."""
        found = unsound_teachers(teachers, self.zoo.canvas)
        self._blame(state, found)
        if not found:
            self._diverged(state, error)

    def _slow_down(self, state: AbstractState, error: Collapsed) -> None:
        """Go on with smaller steps of the generator; where that has not helped, training itself has diverged."""
        if not slow_down(state):
            self._diverged(state, error)
        warnings.warn(f"step {state.step + 1}: taken back, the generator's steps halved: {error}", stacklevel=2)

    def _blame(self, state: AbstractState, found: dict[str, str]) -> None:
        new = {name: reason for name, reason in found.items() if name not in state.aside}
        state.aside |= new
        for name, reason in new.items():
            warnings.warn(f"step {state.step + 1}: teacher {name} is set aside: {reason}", stacklevel=2)

    def _diverged(self, state: AbstractState, error: Exception) -> NoReturn:
        self._give_up(
            state,
            error,
            f"training diverged in step {state.step + 1}",
            wanted="losses and weights that stay numbers, images that differ",
            do="lower the step sizes or weights of the losses, and train anew",
        )

    def _give_up(self, state: AbstractState, error: Exception, given: str, *, wanted: str, do: str) -> NoReturn:
        """End the run; what it has learned is kept."""
        self.save(state)
        reason, kept = str(error).splitlines()[0], f"the state of step {state.step} is kept in {self.folder.path}"
        raise InputError(f"{given}: {reason}; {kept}", wanted, do) from error

    def _pause(self, state: AbstractState, error: NoAnswer) -> None:
        """Set a teacher that did not answer aside, for some steps where it may come back."""
        self._check_everywhere(error)
        name, until = error.teacher, "for good"
        if error.comes_back:
            until = f"for {state.pause(name, error.reason)} steps"
        else:
            state.aside[name] = error.reason
        warnings.warn(f"step {state.step + 1}: teacher {name} is set aside {until}: {error.reason}", stacklevel=2)
        self.save(state)  # where no other is left, the next step ends the run

    def _check_everywhere(self, error: Exception) -> None:
        """Processes that do not know of the same must not go on together: this one ends, as the others notice."""
        if isinstance(error, NoAnswer) and self.ranks.world > 1 and not error.everywhere:
            raise InputError(
                f"one of {self.ranks.world} processes had no answer: {error.given}",
                "servers that answer all of them",
                "go on with --resume, in one process where it happens again",
            ) from error

    def _report(self, state: AbstractState, report: StepReport, queries: int) -> None:
        """Count, validate where it is time, and write a line of metrics."""
        number, validation = state.step, Metrics()
        report.queries = self._sum(queries)
        self.totals.add(report)
        if number % self.options.val_every == 0 or self._done(state):
            with self._clock():
                rng = self.rng.at("validate", number)
                seed_strays(rng)
                try:
                    validation = self.method.validate(state, rng)
                except (NotFinite, NoAnswer) as error:  # of those held out: training goes on without being watched
                    self._check_everywhere(error)
                    warnings.warn(f"step {number}: no validation: {error}", stacklevel=2)
                self.validation = validation or self.validation
        if not self.writes:
            return
        seconds, metrics = self.totals.total, report.metrics()
        aside = {"aside": dict(state.aside)} if state.aside else {}
        self.folder.log({"step": number, "seconds": round(seconds, 3)} | metrics | validation | aside)
        if self.on_progress:
            rate = self.totals.images / seconds if seconds else 0.0
            notes = cost_notes(self.options, number, seconds) if number == 1 else ()
            if self._done(state):
                notes += end_notes(self.method, number) + doubts(self.folder.metrics())
            self.on_progress(Update(number, seconds, self.options, metrics, self.validation, rate, notes))

    def _sum(self, count: int) -> int:
        """Over all processes, each of which asked its share."""
        said = self.ranks.map(lambda _: [torch.tensor(float(count))], range(self.ranks.world))
        return int(sum(float(value) for (value,) in said))

    @contextmanager
    def _clock(self) -> Iterator[None]:
        with self.totals.clock():
            yield
        self._agree()

    def _agree(self) -> None:
        """Take over the first process's clock and the stop signal of any."""

        def own(_: int) -> list[torch.Tensor]:
            return [torch.tensor([self.totals.total, self.stop_signal or 0], dtype=torch.float64)]

        said = torch.stack([values for (values,) in self.ranks.map(own, range(self.ranks.world))])
        self.totals.total, self.stop_signal = float(said[0, 0]), int(said[:, 1].max()) or None

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """A signal asks to stop after the step at hand."""

        def ask(signum: int, _frame: object) -> None:
            self.stop_signal = signum

        with first_signal(ask):
            yield
