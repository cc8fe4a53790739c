import errno
import os
import signal

import pytest
import torch
from fakes import FakeMethod, FakeZoo, fake_config
from test_checkpoint import same

from dfml.files import read_json
from dfml.methods import Consolidate
from dfml.recipes.options import RunOptions
from dfml.recipes.resolving import resolve
from dfml.runs.budget import budget_used
from dfml.runs.loop import Loop, Stopped
from dfml.runs.run_folder import RunFolder

ZOO = FakeZoo()


def run(path, on_progress=None, resume=False, **options):
    config = fake_config(**options)
    folder = (RunFolder.reopen if resume else RunFolder.create)(path, config, ZOO)
    Loop(FakeMethod(), ZOO, folder, config.run, on_progress).run()
    return folder


def outcome(folder):
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.metrics()]
    return folder.checkpoints.latest()["state"], lines


def stop_at(step, signum):
    return lambda update: os.kill(os.getpid(), signum) if update.step == step else None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_gives_the_same_bits(tmp_path, signum):
    whole = outcome(run(tmp_path / "whole", steps=10))
    torch.manual_seed(99)  # the caller's random state has no say
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where whoever runs the tests has it ignored
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="continue with --resume") as stopped:
        run(tmp_path / "parts", stop_at(5, signum), steps=10)
    assert (stopped.value.signum, stopped.value.step) == (signum, 5)
    assert signal.getsignal(signal.SIGTERM) is before
    parts = outcome(run(tmp_path / "parts", resume=True, steps=10))
    assert same(whole[0], parts[0])
    assert whole[1] == parts[1]
    assert [line["step"] for line in whole[1]] == list(range(1, 11))


def test_a_crash_after_the_checkpoint_replays_to_the_same_bits(tmp_path):
    whole = outcome(run(tmp_path / "whole", steps=6))

    def crash(update):
        if update.step == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "parts", crash, steps=6, checkpoint_minutes=1e-9)
    folder = RunFolder(tmp_path / "parts")
    assert (folder.checkpoints.latest()["step"], len(folder.metrics())) == (3, 4)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"schema": 1, "step"')  # a line cut short
    parts = outcome(run(tmp_path / "parts", resume=True, steps=6))
    assert same(whole[0], parts[0])
    assert whole[1] == parts[1]


def test_the_budget_may_grow_and_a_finished_run_stays(tmp_path):
    whole = outcome(run(tmp_path / "whole", steps=9))
    run(tmp_path / "grown", steps=5)
    before = outcome(run(tmp_path / "grown", resume=True, steps=5))
    assert len(before[1]) == 5
    grown = outcome(run(tmp_path / "grown", resume=True, steps=9))
    assert same(whole[0], grown[0])


def test_minutes_count_all_resumes_together(tmp_path):
    folder = run(tmp_path / "run", minutes=0.002)
    seconds = folder.checkpoints.latest()["totals"]["total"]
    assert 0.12 <= seconds < 5
    steps = len(folder.metrics())
    assert len(run(tmp_path / "run", resume=True, minutes=0.002).metrics()) == steps


def test_updates_and_validation(tmp_path):
    updates = []
    folder = run(tmp_path / "run", updates.append, steps=6)
    assert [u.step for u in updates] == [1, 2, 3, 4, 5, 6]
    assert updates[2].fraction == 0.5
    assert updates[-1].seconds_left == 0
    assert updates[-1].images_per_second > 0
    assert [line["step"] for line in folder.metrics() if "pseudo_val" in line] == [4, 6]
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_used_part_of_a_budget_is_that_of_steps_or_time_whichever_is_more():
    assert budget_used(RunOptions(steps=10), 5, 99.0) == 0.5
    assert budget_used(RunOptions(minutes=2), 5, 30.0) == 0.25
    assert budget_used(RunOptions(minutes=2, steps=10), 5, 90.0) == 0.75
    assert budget_used(RunOptions(minutes=2, steps=10), 12, 0.0) == 1.0


@pytest.mark.parametrize(("least", "steps", "told"), [(10, 4, 1), (10, 9, 1), (10, 10, 0), (0, 1, 0)])
def test_a_run_that_is_far_too_short_says_so_once_when_it_ends(tmp_path, monkeypatch, least, steps, told):
    monkeypatch.setattr(FakeMethod, "least_steps", least)
    updates = []
    run(tmp_path / "run", updates.append, steps=steps)
    said = [(u.step, note) for u in updates for note in u.notes if "too short" in note]
    assert [step for step, _ in said] == [steps] * told
    assert all(f"{steps} steps where 10 are the least" in note for _, note in said)


def test_a_short_run_by_time_says_so_too_unless_it_is_stopped_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeMethod, "least_steps", 10**9)
    updates = []
    run(tmp_path / "timed", updates.append, minutes=0.002)
    assert ["too short" in "".join(u.notes) for u in updates] == [False] * (len(updates) - 1) + [True]
    updates.clear()

    def stop(update):
        updates.append(update)
        stop_at(2, signal.SIGTERM)(update)

    with pytest.raises(Stopped):
        run(tmp_path / "stopped", stop, steps=9)
    assert not any("too short" in note for u in updates for note in u.notes)


@pytest.mark.parametrize("recipe", ["best", "fast"])
def test_no_recipe_of_consolidation_is_told_to_be_too_short(recipe):
    assert resolve(recipe).run.steps >= 2 * Consolidate.least_steps


def test_a_learner_that_could_not_be_written_is_written_when_the_run_goes_on(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dfml.runs.loop.save_learner", full)
        with pytest.raises(OSError, match="No space"):
            run(tmp_path / "run", steps=3)
    folder = run(tmp_path / "run", resume=True, steps=3)
    assert read_json(folder.path / "learner.json")["about"]["step"] == 3
