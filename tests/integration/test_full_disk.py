"""A disk that is full in the middle of training: an error that says so, and a run that goes on when there is room."""

import resource
import subprocess
import sys
import textwrap

from small import CONSOLIDATE, make_zoo

from dfml import train
from dfml.runs.run_folder import RunFolder

LIMITED = """
    import resource, signal, sys
    from dfml.cli import main
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
    sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_fills_up_ends_training_with_an_error_and_the_last_checkpoint_stands(tmp_path):
    zoo, out = make_zoo(tmp_path / "zoo"), tmp_path / "run"
    quick = CONSOLIDATE | {"run.threads": 1, "run.checkpoint_minutes": 0.0}
    train(zoo, out=out, recipe="fast", steps=2, overrides=quick)
    kept = RunFolder(out).checkpoints.latest()
    size = sum(p.stat().st_size for p in (out / "checkpoints" / "step-00000002").iterdir())
    command = ["train", "--zoo", str(zoo), "--out", str(out), "--resume", "--steps", "4"]
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(size // 2), *command], capture_output=True, text=True
    )
    assert ran.returncode == 2, ran.stderr
    assert "checkpoints/step-00000003: cannot be written" in ran.stderr.replace("\n", " ")
    assert "Traceback" not in ran.stderr
    assert RunFolder(out).checkpoints.latest()["step"] == kept["step"] == 2
    assert train(zoo, out=out, resume=True, steps=4).state.step == 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
