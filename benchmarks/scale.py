"""What a large zoo costs: opening it, and steps of training with 10 to 10,000 teachers.

    python benchmarks/scale.py [--sizes 10 100 1000 10000] [--steps 3] [--results benchmarks/results.jsonl]

Every measurement has a process of its own, because the system reports the most memory that a process ever had. Steps
are those of the recipes `free` and `best` with less work in each (`SETTINGS`), the same for every size; 10 teachers
answer everywhere, so none is held out in a zoo of 10. The first step is not counted. CPU seconds are
printed too, since other programs disturb the clock but not them. Prints a Markdown table and replaces the lines named
``scale`` of the results file.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Only the measuring processes import torch: a process also counts the memory of the one that started it.
SIZES = (10, 100, 1000, 10_000)
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "free": ("free", {"method.warmup_steps": 0, "method.rounds": 4}),
    "consolidate": (
        "best",
        {"method.answering_teachers": 10, "method.validation_teachers": 0, "method.updates": 10, "network.width": 32},
    ),
}
COLUMNS = ("teachers", "open s", "open MB", "method", "init s", "step s", "step CPU s", "times the smallest", "peak MB")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="teachers; the first is compared with")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each method")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.jsonl"))
    args = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            zoo = in_fresh_process(write_zoo, Path(folder) / str(size), size)
            opened = in_fresh_process(measure_opening, zoo)
            for method in SETTINGS:
                cost = in_fresh_process(measure_steps, zoo, method, args.steps, args.threads)
                smallest = next((line for line in lines if line["method"] == method), None)
                lines.append(result_line(method, opened | cost, smallest))
                print(f"{size} teachers, {method}: {cost['step_s']:.2f} s a step", file=sys.stderr, flush=True)
    print(table(lines))
    merge(args.results, lines)


def in_fresh_process(function: Any, *arguments: Any) -> Any:
    """What ``function`` gives in a process that has done nothing before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_zoo(folder: Path, models: int) -> Path:
    """See `large_zoo.write_large_zoo`."""
    sys.path.insert(0, str(Path(__file__).parent))
    from large_zoo import write_large_zoo

    return write_large_zoo(folder, models=models)


def measure_opening(folder: Path) -> dict[str, Any]:
    """Seconds and MB to open a zoo and to learn its classes and hash; the MB of importing the library apart."""
    from dfml.runs.measures import peak_memory_mb
    from dfml.zoo import Zoo

    before, start = peak_memory_mb(), time.perf_counter()
    zoo = Zoo.open(folder)
    _ = zoo.class_ids, zoo.hash
    seconds = time.perf_counter() - start
    return {"teachers": len(zoo), "open_s": seconds, "open_mb": peak_memory_mb(), "import_mb": before}


def measure_steps(folder: Path, name: str, steps: int, threads: int) -> dict[str, Any]:
    """Medians over ``steps`` steps after the first, teachers loaded as the training loop does; peak MB of all."""
    import torch

    from dfml.compute.memory import keep_freed_memory
    from dfml.methods.base import teachers_of
    from dfml.randomness import Rng
    from dfml.recipes.resolving import resolve
    from dfml.runs.determinism import reproducible
    from dfml.runs.measures import load_average, peak_memory_mb
    from dfml.runs.provenance import commit
    from dfml.zoo import Zoo

    keep_freed_memory()
    recipe, options = SETTINGS[name]
    zoo, method, rng = Zoo.open(folder), resolve(recipe, options | {"run.steps": steps + 1}).build(), Rng(0)
    with reproducible(threads):
        start = time.perf_counter()
        state = method.init(zoo, rng.at("init"))
        state.progress = 0.63  # where a step costs what it does in the mean
        init_s, wall, cpu = time.perf_counter() - start, [], []
        for step in range(steps + 1):
            here, start, cpu_start = rng.at("step", step), time.perf_counter(), time.process_time()
            method.step(state, teachers_of(zoo, method.plan(state, zoo, here)), here)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        floor_s = _floor(zoo)
    return {
        "init_s": init_s,
        "step_s": statistics.median(wall[1:]),
        "cpu_s": statistics.median(cpu[1:]),
        "floor_s": floor_s,
        "peak_memory_mb": peak_memory_mb(),
        "repeats": steps,
        "device": f"cpu x{threads}",
        "torch": torch.__version__,
        "load": load_average(),
        "commit": commit(),
    }


def _floor(zoo: Any) -> float:
    """Seconds of a pass of 100 images forward and backward through one teacher; the median of five."""
    import torch

    teacher, seconds = zoo.teacher(zoo.ids[0]), []
    for _ in range(5):
        images = torch.rand(100, *zoo.canvas.shape, requires_grad=True)
        start = time.perf_counter()
        teacher.forward(images).logits.sum().backward()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def result_line(method: str, cost: dict[str, Any], smallest: dict[str, Any] | None) -> dict[str, Any]:
    """One line of the results file (docs of its form: protocol, "Files that hold results"); ratios are other / ours."""
    other = smallest or {"teachers": cost["teachers"], "ours_s": cost["step_s"], "cpu_s": cost["cpu_s"]}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in cost.items() if k != "step_s"}
    return {
        "schema": 1,
        "name": "scale",
        "method": method,
        "ours_s": round(cost["step_s"], 4),
        "other": f"{other['teachers']} teachers",
        "other_s": round(other["ours_s"], 4),
        "ratio": round(other["ours_s"] / cost["step_s"], 3),
        "cpu_ratio": round(other["cpu_s"] / cost["cpu_s"], 3),
        "extrapolated": False,
        "quality": {},
        "settings": SETTINGS[method][1],
    } | rounded


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown; "times the smallest" is in CPU seconds."""
    rows = [COLUMNS, ("---:",) * len(COLUMNS)]
    for v in lines:
        opening = (f"{v['teachers']:,}", f"{v['open_s']:.3f}", f"{v['open_mb']:.0f} (import {v['import_mb']:.0f})")
        steps = (f"{v['init_s']:.2f}", f"{v['ours_s']:.2f}", f"{v['cpu_s']:.2f}", f"{1 / v['cpu_ratio']:.2f}")
        rows.append((*opening, v["method"], *steps, f"{v['peak_memory_mb']:.0f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def merge(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replace the lines named ``scale``; leave those of other benchmarks as they are."""
    old = path.read_text().splitlines() if path.exists() else []
    kept = [text for text in old if text.strip() and json.loads(text).get("name") != "scale"]
    path.write_text("\n".join([*kept, *(json.dumps(line) for line in lines)]) + "\n")


if __name__ == "__main__":
    main()
