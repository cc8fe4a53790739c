"""Steps per second of FREE in one process and in two, one thread each, on the same zoo.

    python benchmarks/processes.py [--zoo ZOO] [--steps 6] [--processes 2] [--rounds 1 16]

Each side trains by the recipe `free` after a warm-up of one step, in turn; the seconds are those of the run folders'
metrics, without start-up. Alignment, whose steps follow one another, is not divided: ``--rounds`` says how much of it a
step has (1 in the paper, 16 in the recipe). Run it alone on a machine with as many free cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median

from run import KEPT
from timing import write


def seconds_a_step(zoo: str, processes: int, rounds: int, steps: int, out: Path) -> float:
    """Median over the steps after the first two."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    options = ["--recipe", "free", "--zoo", zoo, "--out", str(out), "--steps", str(steps), "--threads", "1"]
    options += ["--method.warmup-steps", "1", "--method.rounds", str(rounds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, "dfml", "train", *options], env=environment, check=True, capture_output=True)
    at = [json.loads(line)["seconds"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    return median(b - a for a, b in pairwise(at[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for rounds in args.rounds:
        taken: dict[int, list[float]] = {1: [], args.processes: []}
        with tempfile.TemporaryDirectory() as folder:
            for repeat in range(args.repeats):
                for processes, seconds in taken.items():
                    out = Path(folder) / f"{processes}-{repeat}"
                    seconds.append(seconds_a_step(args.zoo, processes, rounds, args.steps, out))
        alone, together = median(taken[1]), median(taken[args.processes])
        line = {"name": "processes", "ours_s": round(together, 3), "other": f"one process, {rounds} rounds"}
        line |= {"other_s": round(alone, 3), "ratio": round(alone / together, 2), "repeats": args.repeats}
        line |= {"extrapolated": False, "floor_s": None, "device": f"cpu x1 in each of {args.processes} processes"}
        write([line])
        print(f"{rounds} rounds: {together:.2f} s a step in {args.processes} processes, {alone:.2f} s in one")


if __name__ == "__main__":
    main()
