"""How many bad models `dfml.zoo_building.audit` finds in zoos that are spoiled on purpose, and how many good ones.

    OMP_NUM_THREADS=1 python reproduce/audit/run.py --zoo ZOO --seeds 1 2 3

One line a seed goes to ``results.jsonl``.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from spoil import KINDS, spoil

from dfml.randomness import Rng
from dfml.zoo import Zoo
from dfml.zoo_building.audit import audit

RIGHT = {way.__name__: kind for way, kind in KINDS.items()}


def measure(zoo: Zoo, *, bad: int, seed: int) -> dict[str, Any]:
    """One spoiled zoo, audited."""
    with tempfile.TemporaryDirectory() as folder:
        truth = spoil(zoo, Path(folder), bad=bad, rng=Rng(seed))
        wall, cpu = time.perf_counter(), time.process_time()
        verdicts = {v.id: v for v in audit(Zoo.open(folder), rng=Rng(seed).at("audit"))}
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    false = {i: [v.kind, v.evidence] for i, v in verdicts.items() if i not in truth}
    found = [i for i in truth if i in verdicts]
    return {
        "zoo": zoo.name,
        "models": len(zoo),
        "bad": bad,
        "seed": seed,
        "found": len(found),
        "right_kind": sum(verdicts[i].kind == RIGHT[truth[i]] for i in found),
        "false_alarms": len(false),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "made": dict(Counter(truth.values())),
        "missed": {i: truth[i] for i in truth if i not in verdicts},
        "other_kind": {
            i: [truth[i], verdicts[i].kind, verdicts[i].evidence] for i in found if verdicts[i].kind != RIGHT[truth[i]]
        },
        "false": false,
    }


def main() -> None:
    """Measure each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", required=True, help="the sound zoo")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument(
        "--bad", type=int, nargs="+", default=[35], help="bad models; one number a seed, or one for all"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    counts = args.bad * len(args.seeds) if len(args.bad) == 1 else args.bad
    for seed, bad in zip(args.seeds, counts, strict=True):
        line = json.dumps(measure(Zoo.open(args.zoo), bad=bad, seed=seed))
        print(line, flush=True)
        with args.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
