"""A run that is what it says comes out the same again; whatever was changed in it is found."""

import json
import os
import shutil
import signal

import pytest
from small import FREE

from dfml import InputError, Run, evaluate_run, train
from dfml.cli import main
from dfml.runs.loop import Stopped
from dfml.runs.verify import verify


def stop_after(step):
    def stop(update):
        if update.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


@pytest.fixture(scope="module")
def kept(zoo_path, data_path, tmp_path_factory):
    """Checkpoints of steps 4 and 6, and a result."""
    out = tmp_path_factory.mktemp("kept") / "run"
    with pytest.raises(Stopped):
        train(zoo_path, out=out, recipe="free", steps=6, overrides=FREE, on_progress=stop_after(4))
    run = train(zoo_path, out=out, steps=6, resume=True)
    evaluate_run(run, data_path, shots=(1,), queries=5, episodes=20)
    return run.path


@pytest.fixture
def path(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "run")


def outcomes(path, *arguments, **options):
    return {found.what: found.outcome for found in verify(Run.open(path), *arguments, **options)}


def contents(path):
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_everything_is_the_same_and_nothing_is_written(path, data_path):
    before = contents(path)
    assert outcomes(path, data_path, steps=2) == dict.fromkeys(
        (
            "configuration",
            "models",
            "checkpoint step-00000004",
            "checkpoint step-00000006",
            "learner",
            "training, steps 1 to 2",
            "training, steps 5 to 6",
            "evaluation, 1-shot",
        ),
        "same",
    )
    assert contents(path) == before


def change_metrics(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    lines[0]["class"] += 1e-6
    del lines[0]["seal"]  # else the line is not believed at all
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def change_result(path):
    result = json.loads((path / "result.json").read_text())
    result["results"][0]["accuracy"]["inductive"]["mean"] += 0.001
    (path / "result.json").write_text(json.dumps(result))


def change_checkpoint(path):
    file = path / "checkpoints" / "step-00000006" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def take_older_learner(path):
    older = Run(Run.open(path).folder, checkpoint=path / "checkpoints" / "step-00000004")
    from dfml import save_learner

    save_learner(older.learner, path / "learner")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (change_metrics, "training, steps 1 to 1"),
        (change_result, "evaluation, 1-shot"),
        (change_checkpoint, "checkpoint step-00000006"),
        (take_older_learner, "learner"),
    ],
)
@pytest.mark.filterwarnings("ignore:damaged checkpoints")
def test_what_was_changed_is_found(path, data_path, change, found, capsys):
    change(path)
    assert outcomes(path, data_path)[found] == "differs"
    assert main(["verify", str(path), "--data", str(data_path)]) == 1
    said = capsys.readouterr()
    assert any(line.startswith(f"differs      {found}") for line in said.out.splitlines())
    assert "differ" in said.err


def test_what_cannot_be_done_again_is_said(path, data_path, tmp_path):
    (path / "result.json").unlink()
    assert outcomes(path, data_path)["evaluation"] == "not checked"
    longer = train(Run.open(path).zoo, out=path, steps=7, resume=True)
    found = outcomes(longer.path, steps=3)
    assert found["training, steps 1 to 1"] == "same"  # of the others a part of another budget was used
    assert found["training, steps 7 to 7"] == "same"
    train(longer.zoo, out=path, steps=8, resume=True, override=True, overrides={"method.fast_lr": 0.02})
    assert outcomes(path)["training, first steps"] == "not checked"
    with pytest.raises(InputError, match="steps 0"):
        outcomes(path, steps=0)
