"""How far each task is from what the hardware allows: operations, bytes, the floor that they set, the time taken.

    python benchmarks/roofline.py [--device cuda] [--threads 2] [--zoo ZOO]

Two ceilings are measured first: the rate of a large matrix product, in bfloat16 where it is used and in float32, and
that of a large copy. Operations are those of convolutions and products; bytes are what the operators read and write,
each tensor once an operator, as if no cache held anything and nothing were fused. The floor is the longer of operations
at the one rate and the task's own inputs, weights and results (moved once) at the other; ``unfused`` is all bytes at
the rate of a copy. Lines go to ``results.jsonl``.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import tasks
from dfml.compute.memory import keep_freed_memory
from dfml.learners.maml import MAML
from dfml.methods.consolidate import Consolidate
from dfml.nn import Classifier, Encoder, build_backbone
from dfml.nn.precision import bfloat16_is_fast
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.training.bank import AnswerBank
from dfml.zoo import Zoo
from dfml.zoo_building.train_one import train_classifier
from run import KEPT
from timing import device as device_name
from timing import write

Task = tuple[str, Callable[[], Any], int]  # name, what it does, bytes that have to move


class Counted(TorchDispatchMode):
    """Operations of convolutions and products, and the bytes that operators read and write; views are free."""

    operations = moved = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = operator(*args, **kwargs)
        if (count := flop_registry.get(operator.overloadpacket)) is not None:
            self.operations += count(*args, **kwargs, out_val=out)
        if not operator.is_view:
            self.moved += nbytes((args, kwargs, out))
        return out


def nbytes(tree: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(tree) if isinstance(t, torch.Tensor))


@dataclass(frozen=True)
class Ceilings:
    """Of the device, per second."""

    operations: float
    bytes: float


def seconds(run: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    taken = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[2:])


def ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measured: a product of large matrices, and a copy far beyond the caches."""
    side, size = (8192, 2**30) if device.type == "cuda" else (2048, 2**28)
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return Ceilings(
        2 * side**3 / seconds(lambda: a @ b, device), 2 * size / seconds(lambda: target.copy_(source), device)
    )


def make_tasks(zoo: Zoo, device: torch.device) -> list[Task]:
    """Visits to four teachers, an update of consolidation, a replayed episode, a step of building a teacher."""
    zoo = zoo.on(device)
    teachers = [zoo.teacher(i) for i in zoo.ids[: tasks.VISITED]]
    recovery = MetaGenerator(adversarial_weight=0.0)
    learned = recovery.init(zoo.canvas, Rng(0))
    learned.to(device)
    visits = [Visit(teacher, tasks.LABELS) for teacher in teachers]
    own = nbytes(list(learned.generator.parameters())) + nbytes(list(zoo.network(zoo.ids[0]).parameters()))
    shown = len(tasks.LABELS) * 3 * 32 * 32 * 4

    student = {"network": "conv4_growing", "updates": 1}
    method = Consolidate(recovery=MetaGenerator(), capacity=512, validation_teachers=0, **student)
    state = method.init(zoo, Rng(0))
    state.bank = AnswerBank(capacity=512, shape=(3, 32, 32), outputs=5 * len(zoo))
    state.bank.add(torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8), torch.randn(512, 5 * len(zoo)))
    state.to(device)
    learned_bytes = nbytes(list(state.student.parameters()))

    bank = tasks.random_bank()
    bank.to(device)
    drawn = bank.episode(way=5, shot=1, queries=15, generator=Rng(0).generator("episode"))
    learner = MAML(Encoder(build_backbone("conv4", image_size=32), zoo.canvas)).to(device)

    network = Classifier(build_backbone("conv4", image_size=32), 5).to(device)
    images, truth = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8), torch.arange(64) % 5
    recipe = {"epochs": 1, "batch_size": 64, "lr": 0.01, "optimiser": "adam", "shift": 2}
    return [
        # A step reads and writes parameters, their gradients and two moments.
        ("visits", lambda: recovery.recover(learned, visits, rng=Rng(1)), 4 * 6 * (7 * own + 2 * shown)),
        (
            "consolidate",
            lambda: method.learn(state, Rng(0), updates=method.updates, done=0.5),
            7 * learned_bytes + 128 * (3 * 32 * 32 + 1000),
        ),
        ("replay", lambda: learner.meta_loss(drawn)[0].backward(), 12 * nbytes(list(learner.parameters()))),
        (
            "zoo-build-step",
            lambda: train_classifier(images, truth, network, zoo.canvas, rng=Rng(0), **recipe),
            7 * nbytes(list(network.parameters())) + 64 * 3 * 32 * 32,
        ),
    ]


def measure(task: Task, device: torch.device, top: Ceilings) -> dict[str, Any]:
    name, run, least = task
    taken = seconds(run, device)
    with Counted() as counted:
        run()
    floor = max(counted.operations / top.operations, least / top.bytes)
    return {
        "name": ("" if device.type == "cpu" else f"{device.type}: ") + f"roofline-{name}",
        "other": "floor",
        "ours_s": round(taken, 5),
        "other_s": round(floor, 5),
        "ratio": round(floor / taken, 3),
        "extrapolated": False,
        "floor_s": round(floor, 5),
        "repeats": 7,
        "device": device_name(),
        "operations": counted.operations,
        "bytes": counted.moved,
        "unfused_s": round(counted.moved / top.bytes, 5),
        "operations_a_second": top.operations,
        "bytes_a_second": top.bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    half = args.device.type == "cpu" and bfloat16_is_fast()
    by_type = {t: ceilings(args.device, t) for t in (torch.float32, torch.bfloat16)}
    for dtype, top in by_type.items():
        print(f"{dtype}: {top.operations / 1e9:.0f} G operations/s, copies {top.bytes / 1e9:.0f} GB/s")
    lines = []
    print("| task | time | operations | bytes | floor | time / floor | unfused |\n|---|---|---|---|---|---|---|")
    for task in make_tasks(Zoo.open(args.zoo), args.device):
        used = torch.float32 if task[0] == "replay" or not half else torch.bfloat16
        line = measure(task, args.device, by_type[used])
        lines.append(line)
        times = [f"{1000 * line[key]:.1f} ms" for key in ("ours_s", "floor_s", "unfused_s")]
        counts = [f"{line['operations'] / 1e9:.1f} G", f"{line['bytes'] / 1e6:.0f} MB"]
        print(f"| {task[0]} | {times[0]} | {' | '.join(counts)} | {times[1]} | {1 / line['ratio']:.1f} | {times[2]} |")
    write(lines)


if __name__ == "__main__":
    main()
