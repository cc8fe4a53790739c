"""No command opens a connection that was not asked for; without a network everything works."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dfml.cli import main

ATTEMPTS: list[tuple[str, object]] = []
REPORTED = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.bind",
    "socket.sendto",
    "urllib.Request",
)


def listen(event: str, arguments: tuple) -> None:
    if event in REPORTED:
        ATTEMPTS.append((event, arguments[-1] if event != "socket.getaddrinfo" else arguments[0]))


sys.addaudithook(listen)  # it cannot be taken off again; what it hears is looked at here alone

COMMANDS = [
    "zoo list ZOO",
    "zoo inspect ZOO toy-1",
    "zoo audit ZOO",
    "train --zoo ZOO --recipe fast --steps 10 --method.updates 1 --network.width 4 --recovery.steps 1 --show",
    "evaluate RUN --data DATA --shots 1 --queries 3 --episodes 4 --baselines",
    "verify RUN",
    "compare RUN",
    "recover RUN --teachers toy-1",
    "report RUN --out OUT/report.html",
    "adapt RUN --support DATA/test --out OUT/predictor",
    "predict OUT/predictor DATA/test --json",
    "evaluate OUT/predictor --data DATA/test",
    "export OUT/predictor OUT/net.pt2",
    "completion bash",
]


def words(line: str, place: Path, run: Path, out: Path) -> list[str]:
    for name, path in (("ZOO", place / "zoo"), ("DATA", place / "data"), ("RUN", run), ("OUT", out)):
        line = line.replace(name, str(path))
    return line.split()


def test_no_command_connects_to_anything(place, run, tmp_path, capsys):
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", 1))
    assert ATTEMPTS.pop()[1] == ("127.0.0.1", 1), "attempts are heard of"
    ATTEMPTS.clear()
    for line in COMMANDS:
        assert main(words(line, place, run, tmp_path)) == 0, f"{line}\n{capsys.readouterr().err}"
        assert not ATTEMPTS, line


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], check=False).returncode != 0,
    reason="this system gives no network namespace of one's own",
)
def test_without_a_network_the_demo_runs(tmp_path):
    """A namespace without any interface: not even libraries in C can connect."""
    command = ["unshare", "-rn", sys.executable, "-m", "dfml"]
    subprocess.run([*command, "demo", "--out", str(tmp_path / "demo")], check=True, timeout=900)
    assert (tmp_path / "demo" / "predictor" / "predictor.json").is_file()
