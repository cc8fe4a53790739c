"""Where the time goes on a CPU: the operators that take most of it, for each task of `run.py`.

python benchmarks/profile_cpu.py [--zoo ZOO] [--threads 1] [--top 6]
"""

import argparse
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

import tasks
from dfml.compute.memory import keep_freed_memory
from dfml.zoo import Zoo
from run import KEPT

SUBJECTS = {
    "a visit to each of four teachers": tasks.recover,
    "five updates of consolidation": tasks.consolidate,
    "four replayed episodes, second order": lambda _: tasks.replays()[0],
    "four test episodes": lambda _: tasks.episodes_at_test(),
}


def shares(run: Callable[[], object], top: int) -> tuple[float, list[tuple[str, float]]]:
    """Milliseconds in all, and the operators with the largest shares in percent."""
    for _ in range(2):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    events = sorted(profiled.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(e.self_cpu_time_total for e in events)
    return total / 1000, [(e.key.removeprefix("aten::"), 100 * e.self_cpu_time_total / total) for e in events[:top]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--top", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    print("| task | ms | of these, percent |\n|---|---|---|")
    for name, task in SUBJECTS.items():
        total, most = shares(task(Zoo.open(args.zoo)).ours.run, args.top)
        print(f"| {name} | {total:.0f} | {', '.join(f'{op} {share:.0f}' for op, share in most)} |")


if __name__ == "__main__":
    main()
