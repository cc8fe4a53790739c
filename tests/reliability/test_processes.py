"""Ranks and servers that are killed at moments drawn at random; `make reliability`."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from forking import Forks
from small import FREE
from soak import HEADERS, Server, png
from test_faults import KILLS
from test_free_run import lines, same
from test_many_processes import learned

from dfml import Run, train

pytestmark = pytest.mark.reliability

STEPS = 6
OPTIONS = FREE | {"replay.episodes": 3, "run.threads": 1, "run.checkpoint_minutes": 0, "method.flip": True}


def two_ranks(zoo: Path, out: Path) -> subprocess.Popen:
    """The same run, shared by two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dfml"]
    command = ["train", "--zoo", zoo, "--out", out, "--recipe", "free", "--steps", STEPS]
    options = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value).lower())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [*launcher, *map(str, command), *options]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)


def rank_of(launcher: int, rank: int) -> int | None:
    """The process that is this rank."""
    found = subprocess.run(["ps", "--ppid", str(launcher), "-o", "pid="], capture_output=True, text=True).stdout
    for process in map(int, found.split()):
        try:
            if f"RANK={rank}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                return process
        except OSError:  # it has ended
            continue
    return None


def test_a_rank_that_is_killed_at_any_moment_costs_no_bit(place, tmp_path):
    whole = train(place / "zoo", out=tmp_path / "whole", recipe="free", steps=STEPS, overrides=OPTIONS)
    drawn, killed = random.Random(0), 0
    for number in range(KILLS):
        out = tmp_path / str(number)
        process = two_ranks(place / "zoo", out)
        while not out.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(drawn.uniform(0, 1.5))
        if (rank := rank_of(process.pid, number % 2)) is not None:
            os.kill(rank, signal.SIGKILL)
            killed += 1
        _, said = process.communicate(timeout=120)
        assert (process.returncode == 0) == (rank is None), said
        if rank is not None:
            run = train(place / "zoo", out=out, steps=STEPS, overrides=OPTIONS, recipe="free", resume=True)
        run = Run.open(out)
        assert lines(run) == lines(whole), said
        assert same(learned(run), learned(whole)), said
    print(f"| train, two ranks | SIGKILL of one at any moment | {killed} | {KILLS - killed} |")
    assert killed


def test_a_server_that_is_killed_while_it_answers_leaves_its_predictor_and_answers_when_it_is_started_again(
    place, known, forks: Forks, tmp_path
):
    predictor, drawn, pictures = place / "predictor", random.Random(1), [png(16, seed) for seed in range(8)]
    before = {path.name: path.read_bytes() for path in predictor.iterdir()}

    def ask(server: Server, picture: bytes) -> str | None:
        try:
            return httpx2.post(f"{server.url}/predict", content=picture, headers=HEADERS, timeout=30).json()["label"]
        except httpx2.HTTPError:  # it is gone
            return None

    first = Server(tmp_path, "serve", predictor)
    wanted = [ask(first, picture) for picture in pictures]
    assert None not in wanted
    first.stop()
    for _ in range(KILLS):
        server = Server(tmp_path, "serve", predictor)
        with ThreadPoolExecutor(4) as callers:
            answers = [callers.submit(ask, server, picture) for picture in 20 * pictures]
            time.sleep(drawn.uniform(0, 0.5))
            server.process.kill()
        told = [answer.result() for answer in answers]
        assert all(said in (None, right) for said, right in zip(told, 20 * wanted, strict=True))
        server.process.wait(20)
        assert {path.name: path.read_bytes() for path in predictor.iterdir()} == before
    print(f"| serve | SIGKILL while it answers | {KILLS} | 0 |")
    again = Server(tmp_path, "serve", predictor)
    assert [ask(again, picture) for picture in pictures] == wanted
    assert again.stop() == 128 + signal.SIGTERM
