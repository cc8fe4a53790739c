"""Speed, as ratios measured side by side in one run.

    python benchmarks/run.py [NAME ...] [--zoo ZOO] [--threads 2] [--repeats 3]

Prints a table and writes ``results.jsonl`` (docs of the keys: benchmarks/README.md). Run it alone on the machine.
"""

import argparse
from pathlib import Path

import torch

import tasks
from dfml.compute.devices import cores
from dfml.compute.memory import keep_freed_memory
from dfml.zoo import Zoo
from timing import Comparison, show, write

KEPT = Path(__file__).parent.parent / "reproduce" / "zoos" / "cifar_fs_conv4"
TASKS = {
    "recover": lambda zoo: [tasks.recover(zoo)],
    "replay": lambda _: tasks.replays(),
    "test-episode": lambda _: [tasks.episodes_at_test()],
    "consolidate": lambda zoo: [tasks.consolidate(zoo)],
    "zoo-build": lambda zoo: [tasks.zoo_build(zoo)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TASKS, []], help="all unless given")
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    zoo, lines = Zoo.open(args.zoo), []
    for name in args.names or TASKS:
        comparisons: list[Comparison] = TASKS[name](zoo)
        new = [line for comparison in comparisons for line in comparison.lines(args.repeats)]
        write(new)
        lines += new
    print(f"floor of a visit to one teacher: {6000 * tasks.one_pass(zoo):.0f} ms (six passes of 100 images)")
    show(lines)


if __name__ == "__main__":
    main()
