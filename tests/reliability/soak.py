"""A predictor and a teacher, served for some minutes to callers of every kind: right answers, no leak, no deadlock.

python tests/reliability/soak.py --minutes 10 --callers 16
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import torch
from PIL import Image

from dfml import save_learner, save_predictor
from dfml.learners import LEARNERS
from dfml.learners.task_classifier import TaskClassifier
from dfml.zoo.loaders.wire import MEDIA_TYPE, packed
from toys import toy_encoder

KEY = "a-key-that-no-log-may-hold"
HEADERS = {"Authorization": f"Bearer {KEY}"}
STILL = 64 * 1024  # KiB that a server may have grown by since a fifth of the time was over
PATIENCE = 60.0


def png(size: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content := BytesIO(), format="png")
    return content.getvalue()


def bomb() -> bytes:
    """A picture of 400 million pixels in some 50 KB."""
    Image.new("1", (20_000, 20_000)).save(content := BytesIO(), format="png")
    return content.getvalue()


class Server:
    """A command of dfml that serves, and what the system says of it."""

    def __init__(self, folder: Path, *words: object):
        self.log = (folder / f"{words[0]}.log").open("w+")
        environment = os.environ | {"DFML_SERVE_KEY": KEY, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "dfml", *map(str, words), "--port", "0"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        while not (found := re.search(r"http://\S+:\d+", self.said())):
            time.sleep(0.1)
            assert self.process.poll() is None, self.said()
        self.url = found[0]

    def said(self) -> str:
        return Path(self.log.name).read_text()

    def holds(self) -> dict[str, int]:
        """Memory in KiB, threads, and open files."""
        place = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        memory, threads = (int(status[name].split()[0]) for name in ("VmRSS", "Threads"))
        return {"KiB": memory, "threads": threads, "files": len(list((place / "fd").iterdir()))}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class Callers:
    """What callers do, and what they must be told.

    Args:
        predictor: where it answers.
        teacher: where it answers.
        wanted: the label of each picture.
    """

    def __init__(self, predictor: str, teacher: str, pictures: list[bytes], wanted: list[str]):
        self.predictor, self.teacher, self.pictures, self.wanted = predictor, teacher, pictures, wanted
        self.bomb, self.images = bomb(), packed(np.zeros((2, 1, 28, 28), dtype=np.uint8))
        self.counts, self.wrong, self.seconds = Counter[str](), list[str](), list[float]()
        self.kinds: dict[str, tuple[int, Callable[[random.Random], bool]]] = {
            "a picture": (20, self.ask),
            "a task of their own, then a picture": (2, self.adapt),
            "images to the teacher": (4, self.ask_teacher),
            "a wrong key": (2, self.wrong_key),
            "a body of 11 MB": (1, self.oversized),
            "400 million pixels in 50 KB": (1, lambda _: self.post(self.bomb) == 400),
            "no picture": (2, lambda r: self.post(r.randbytes(500)) == 400),
            "a path out of the folder": (2, self.traversal),
            "bytes that are no HTTP": (2, self.garbage),
            "hung up in the middle": (2, self.hang_up),
            "a byte now and then": (1, self.slowly),
        }

    def post(self, content: bytes, path: str = "/predict", **headers: str) -> int:
        return httpx2.post(
            self.predictor + path, content=content, headers=HEADERS | headers, timeout=PATIENCE
        ).status_code

    def ask(self, drawn: random.Random) -> bool:
        number, start = drawn.randrange(len(self.pictures)), time.monotonic()
        said = httpx2.post(
            f"{self.predictor}/predict", content=self.pictures[number], headers=HEADERS, timeout=PATIENCE
        )
        self.seconds.append(time.monotonic() - start)
        return said.json()["label"] == self.wanted[number]

    def adapt(self, drawn: random.Random) -> bool:
        chosen = drawn.sample(range(len(self.pictures)), 2)
        classes = {f"class {n}": [b64encode(self.pictures[n]).decode()] for n in chosen}
        made = httpx2.post(
            f"{self.predictor}/adapt", json={"classes": classes}, headers=HEADERS, timeout=PATIENCE
        ).json()
        said = httpx2.post(
            self.predictor + made["predict"], content=self.pictures[chosen[0]], headers=HEADERS, timeout=PATIENCE
        )
        return said.json()["label"] == f"class {chosen[0]}"

    def ask_teacher(self, _: random.Random) -> bool:
        headers = HEADERS | {"Content-Type": MEDIA_TYPE}
        said = httpx2.post(f"{self.teacher}/answers", content=self.images, headers=headers, timeout=PATIENCE)
        return len(said.json()["probabilities"]) == 2

    def wrong_key(self, drawn: random.Random) -> bool:
        return self.post(self.pictures[0], Authorization=f"Bearer {KEY[: drawn.randrange(1, len(KEY))]}") == 401

    def oversized(self, _: random.Random) -> bool:
        try:
            return self.post(bytes(11_000_000)) == 413
        except httpx2.TransportError:  # told, and the connection closed, before all was sent
            return True

    def traversal(self, drawn: random.Random) -> bool:
        path = drawn.choice(["/../../etc/passwd", "/predictors/..%2f..%2fetc%2fpasswd/predict", "/%2e%2e/config.json"])
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        return self.raw(head.encode())[9:12] in (b"401", b"404", b"405")

    def garbage(self, drawn: random.Random) -> bool:
        return self.raw(drawn.randbytes(200) + b"\r\n\r\n")[9:12] in (b"400", b"")

    def hang_up(self, _: random.Random) -> bool:
        with self.connected() as sock:
            sock.sendall(self.head(100_000) + bytes(1000))
        return True

    def slowly(self, _: random.Random) -> bool:
        content = self.head(len(self.pictures[0])) + self.pictures[0]
        with self.connected() as sock:
            for at in range(0, len(content), 1 + len(content) // 20):
                sock.sendall(content[at : at + 1 + len(content) // 20])
                time.sleep(0.2)
            return sock.recv(65536)[9:12] == b"200"

    def head(self, length: int) -> bytes:
        lines = ["POST /predict HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()

    def connected(self) -> socket.socket:
        place = urlsplit(self.predictor)
        return socket.create_connection((place.hostname, place.port), timeout=PATIENCE)

    def raw(self, content: bytes) -> bytes:
        with self.connected() as sock:
            sock.sendall(content)
            sock.shutdown(socket.SHUT_WR)
            try:
                return sock.recv(65536)
            except ConnectionResetError:
                return b""

    def call(self, end: float, seed: int) -> None:
        drawn = random.Random(seed)
        names, weights = list(self.kinds), [weight for weight, _ in self.kinds.values()]
        while time.monotonic() < end:
            (name,) = drawn.choices(names, weights)
            try:
                right = self.kinds[name][1](drawn)
            except Exception as error:
                right, name = False, f"{name}: {error!r}"
            self.counts[name] += 1
            if not right:
                self.wrong.append(name)


def soak(folder: Path, *, minutes: float, callers: int) -> list[str]:
    """Serve and call; prints what was seen, and gives what must not have been."""
    torch.manual_seed(0)
    learner = LEARNERS["ridge"](toy_encoder(width=16)).eval()
    save_learner(learner, folder / "learner")
    pictures = [png(64 + 8 * n, n) for n in range(20)]
    for n, content in enumerate(pictures):
        (folder / f"{n}.png").write_bytes(content)
    classifier = TaskClassifier(learner.adapt(torch.rand(4, 3, 16, 16), torch.tensor([0, 0, 1, 1])), ["a", "b"])
    save_predictor(classifier, folder / "predictor")
    wanted = list(classifier.predict_files([folder / f"{n}.png" for n in range(20)]).labels)
    servers = [
        Server(folder, "serve", folder / "predictor", "--learner", folder / "learner"),
        Server(folder, "serve-teacher", "glyphs", "conv4-00"),
    ]
    made = Callers(servers[0].url, servers[1].url, pictures, wanted)
    start = time.monotonic()
    end = start + 60 * minutes
    threads = [threading.Thread(target=made.call, args=(end, n)) for n in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(12 * minutes)
    early = [server.holds() for server in servers]
    for thread in threads:
        thread.join(60 * minutes + PATIENCE)
    stuck = sum(thread.is_alive() for thread in threads)
    time.sleep(2)
    late = [server.holds() for server in servers]
    faults = [*map(str, set(made.wrong)), *([f"{stuck} callers wait for ever"] if stuck else [])]
    for server, before, after in zip(servers, early, late, strict=True):
        grown = {name: after[name] - before[name] for name in before}
        print(f"{server.process.args[3]}: {after}, since a fifth of the time {grown}")
        faults += ["memory grew"] if grown["KiB"] > STILL else []
        faults += ["files stayed open"] if grown["files"] > 0 else []
        code, log = server.stop(), server.said()
        faults += [f"exit {code}"] if code not in (0, 143) else []
        faults += ["a key in the log"] if KEY in log else []
        faults += ["a traceback"] if "Traceback" in log else []
    for name, count in made.counts.most_common():
        print(f"{count:8,}  {name}")
    median, late_ones = np.percentile(made.seconds, [50, 99])
    print(f"{sum(made.counts.values()):8,}  calls in {minutes} minutes by {callers} callers")
    print(f"a picture: median {median:.3f} s, 99th percentile {late_ones:.3f} s")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = soak(Path(folder), minutes=given.minutes, callers=given.callers)
    print("\n".join(faults) or "nothing wrong")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
