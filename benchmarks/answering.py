"""A person with a task: seconds to adapt and predict, images a second, and a server under many callers.

    python benchmarks/answering.py [--images 2000] [--callers 200] [--threads 2]

A Conv4-64 adapts to 5 classes of 5 photographs (JPEG, PNG, WebP, BMP and GIF, 120 to 1600 pixels wide) and labels one
more; then 2,000 JPEGs. Both are whole commands (`dfml adapt`, `dfml predict`), the start of Python with them. At last
`dfml serve` answers 200 callers who all ask at once, five times each; a tenth of what they send is broken. The pictures
are drawn; weights are random, which changes no time.
"""

import argparse
import io
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
from PIL import Image

from dfml import save_learner
from dfml.functional.drawing import dead_leaves
from dfml.learners import LEARNERS
from dfml.nn import Encoder, InputSpec, build_backbone

FORMATS = ("jpg", "png", "webp", "bmp", "gif")


def picture(side: int, seed: int) -> Image.Image:
    """Overlapping shapes, which compress about as photographs do."""
    drawn = dead_leaves(1, 3, 64, torch.Generator().manual_seed(seed))[0]
    pixels = (255 * drawn).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        backbone = build_backbone("conv4", image_size=32, width=64)
        save_learner(LEARNERS["ridge"](Encoder(backbone, InputSpec(size=32))).eval(), place / "learner")
        for number in range(25):
            to = place / "few" / f"class-{number // 5}" / f"{number}.{FORMATS[number % 5]}"
            to.parent.mkdir(parents=True, exist_ok=True)
            picture(chance.randint(120, 1600), number).save(to)
        (place / "photos").mkdir()
        shown = [picture(chance.randint(120, 1600), number) for number in range(20)]
        for number in range(args.images):
            shown[number % 20].save(place / "photos" / f"{number}.jpg")
        first = timed("adapt", place / "learner", "--support", place / "few", "--out", place / "predictor")
        first += timed("predict", place / "predictor", place / "photos" / "0.jpg")
        print(f"5 classes x 5 photographs adapted, one more labelled: {first:.1f} s, start of Python twice with it")
        many = timed("predict", place / "predictor", place / "photos", "--csv")
        print(f"{args.images} JPEGs labelled in {many:.1f} s: {args.images / many:.0f} a second, start with it")
        serve(place, args.callers)


def timed(*words: object) -> float:
    """Seconds of a command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dfml", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def serve(place: Path, callers: int, each: int = 5) -> None:
    """All callers at once; every tenth upload is no image."""
    command = [sys.executable, "-m", "dfml", "serve", str(place / "predictor"), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        address = re.search(r"http://\S+:\d+", server.stdout.readline())
        assert address is not None
        picture(400, 0).save(content := io.BytesIO(), format="jpeg")
        answers: list[tuple[int, float]] = []
        start = threading.Barrier(callers)

        def ask(caller: int) -> None:
            start.wait()
            for number in range(each):
                broken = (caller * each + number) % 10 == 0
                body = b"no image" if broken else content.getvalue()
                began = time.perf_counter()
                request = urllib.request.Request(f"{address[0]}/predict", data=body, method="POST")
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        status = answer.status
                except urllib.error.HTTPError as error:
                    status = error.code
                answers.append((status, time.perf_counter() - began))

        threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.terminate()
    good = sorted(seconds for status, seconds in answers if status == 200)
    refused = sum(status == 400 for status, _ in answers)
    print(
        f"{callers} callers at once, {len(answers)} uploads: {len(good)} answered, {refused} broken ones refused; "
        f"median {statistics.median(good):.2f} s, 99th percentile {good[int(0.99 * len(good))]:.2f} s"
    )


if __name__ == "__main__":
    main()
