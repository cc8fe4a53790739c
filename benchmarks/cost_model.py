"""What a step of consolidation costs in seconds, bytes and questions: formulas, and runs that check them.

    python benchmarks/cost_model.py [--sizes 10 100 1000 10000] [--results benchmarks/cost_model.jsonl]

`Setting` holds the formulas. Their constants are pieces that are timed here (a visit, an answer, an update, reading a
model, opening an index), each alone; then whole steps are taken in zoos of these sizes, each in a process of its own,
and stand beside what the formulas say. One thread, CPU seconds. Prints the tables of docs/scale.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale import in_fresh_process, measure_opening

CANVAS = 96  # pixels: images are recovered no larger unless asked for
IMAGE_SIZES = {"conv4": (32, 64, 96, 224, 384), "resnet18": (32,)}
LONG = 10.0  # seconds after which a piece is not repeated again
BEYOND = (100_000, 1_000_000)
OPTIONS = {
    "recovery": "meta_generator",
    "network": "conv4",
    "method.answers_per_step": None,
    "method.validation_teachers": 0,
    "method.updates": 10,
    "run.steps": 4,
}  # fewer updates: they take the longest


@dataclass(frozen=True)
class Setting:
    """A zoo of five-class models and what consolidation into a Conv4-32 does with it in a step.

    Args:
        models: of the zoo.
        size: pixels of the models' images.
        answering: models that answer, of those there are.
        updates: of the student, in a step.
    """

    models: int
    size: int = 32
    answering: int = 100
    updates: int = 80
    visits: int = 4
    images_per_class: int = 20
    classes: int = 5
    inner_steps: int = 5
    batch: int = 128
    capacity: int = 60_000

    @property
    def images(self) -> int:
        """Recovered in a step."""
        return min(self.visits, self.models) * self.images_per_class * self.classes

    @property
    def answers(self) -> int:
        """Models that answer on each of them."""
        return min(self.answering, self.models)

    @property
    def questions(self) -> int:
        """Images that models are shown in a step: in the passes of visits, whose last one only looks, and to answer."""
        return self.images * (self.inner_steps + 1 + self.answers)

    @property
    def bank_bytes(self) -> int:
        """A full bank: images as bytes, answers in half precision; 1 GiB at most."""
        pixels = 3 * min(self.size, CANVAS) ** 2
        return min(2**30, self.capacity * (pixels + 2 * self.answers * self.classes))

    def seconds(self, pieces: dict[str, float], read: float = 0.0) -> float:
        """Of a step in which ``read`` models are read from the disk: recover, ask, learn."""
        recover = self.images * (self.inner_steps + 1) * pieces["visit_s"]
        ask = self.images * self.answers * pieces["answer_s"] + read * pieces["read_s"]
        return recover + ask + self.updates * self.batch * pieces["update_s"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=(10, 100, 1000, 10_000), help="models of checked zoos")
    parser.add_argument("--steps", type=int, default=3, help="measured steps")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("cost_model.jsonl"))
    args = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for network, sizes in IMAGE_SIZES.items():
            for size in sizes:
                pieces = in_fresh_process(time_pieces, Path(place) / f"{network}-{size}", network, size)
                lines.append({"schema": 1, "name": "pieces", "network": network, "size": size} | pieces)
                print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
        for models in args.sizes:
            folder = in_fresh_process(write_zoo, Path(place) / str(models), models)
            cost = in_fresh_process(measure_opening, folder) | in_fresh_process(measure, folder, args.steps)
            cost["index_mb"] = (folder / "zoo.json").stat().st_size / 1e6
            lines.append({"schema": 1, "name": "check", "models": models} | cost)
            print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
    args.results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(pieces_table(lines), checked_table(lines), beyond_table(lines), sep="\n\n")


def write_zoo(folder: Path, models: int) -> Path:
    """See `large_zoo.write_large_zoo`; in a process of its own, because it imports torch."""
    from large_zoo import write_large_zoo

    return write_large_zoo(folder, models=models)


def time_pieces(folder: Path, network: str, size: int) -> dict[str, float]:
    """CPU seconds of each piece, for an image or a model."""
    import torch

    from dfml.nn import Classifier, InputSpec, build_backbone
    from dfml.randomness import Rng
    from dfml.recipes.resolving import resolve
    from dfml.recovery import Visit
    from dfml.runs.determinism import reproducible
    from dfml.zoo import ModelCard, Zoo, write_index

    spec, names = InputSpec(size=size), tuple("abcde")
    classifier = Classifier(build_backbone(network, image_size=size), 5).eval()
    folder.mkdir()
    Zoo.write_model(folder, ModelCard("m", f"dfml:{network}", names, names, spec, "", {}), classifier)
    write_index(folder, name="one", shared_classes=True)
    zoo = Zoo.open(folder)
    with reproducible(1):
        method = resolve("fast", OPTIONS | {"method.capacity": 256}).build()
        state, teacher = method.init(zoo, Rng(0)), zoo.teacher("m")
        each = 20 if size < CANVAS else 4
        labels = torch.arange(5).repeat_interleave(each)
        images = torch.rand(len(labels), *zoo.canvas.shape)
        state.bank.add((255 * torch.rand(256, *zoo.canvas.shape)).byte(), torch.randn(256, 5))
        passes = len(labels) * (method.recovery.steps + 1)
        return {
            "visit_s": timed(lambda: method.recovery.recover(state.recovery, [Visit(teacher, labels)], rng=Rng(0)))
            / passes,
            "answer_s": timed(lambda: teacher.answers(images)) / len(images),
            "update_s": timed(lambda: method.learn(state, Rng(0), updates=method.updates, done=0.5))
            / method.updates
            / method.lesson.batch_size,
            "read_s": timed(lambda: Zoo.open(folder).teacher("m")),
        }


def measure(folder: Path, steps: int) -> dict[str, float]:
    """Medians over steps after the first of seconds, questions and models read; the most memory of all."""
    from dfml.compute.memory import keep_freed_memory
    from dfml.methods.base import teachers_of
    from dfml.randomness import Rng
    from dfml.recipes.resolving import resolve
    from dfml.runs.determinism import reproducible
    from dfml.runs.measures import peak_memory_mb
    from dfml.zoo import Zoo, loaders

    read_network, loaded = loaders.read_network, []
    loaders.read_network = lambda path, card: loaded.append(card.id) or read_network(path, card)
    keep_freed_memory()
    zoo, method, taken = Zoo.open(folder), resolve("fast", OPTIONS).build(), []
    with reproducible(1):
        state = method.init(zoo, Rng(0))
        state.progress = 0.63  # where a step costs what it does in the mean
        for step in range(steps + 1):
            rng, asked, read, start = Rng(0).at("step", step), zoo.tally.queries, len(loaded), time.process_time()
            method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng)
            taken.append((time.process_time() - start, zoo.tally.queries - asked, len(loaded) - read))
    seconds, questions, read = (statistics.median(values) for values in zip(*taken[1:], strict=True))
    return {"step_s": seconds, "questions": questions, "read": read, "peak_mb": peak_memory_mb()}


def timed(piece: Callable[[], Any], repeats: int = 5) -> float:
    """CPU seconds, the median after one to warm up; fewer repeats of what takes long."""
    seconds: list[float] = []
    while len(seconds) <= repeats and (len(seconds) < 2 or sum(seconds) < LONG):
        start = time.process_time()
        piece()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def named(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Lines of one kind."""
    return [line for line in lines if line["name"] == name]


def markdown(*rows: tuple[str, ...]) -> str:
    """A table; the first row is its head."""
    lines = [rows[0], ("---:",) * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def pieces_table(lines: list[dict[str, Any]]) -> str:
    """Milliseconds of each piece, and seconds of a step over 100 models."""
    rows = [("network", "pixels", "visit, image and pass", "answer", "update, image", "read", "a step, s")]
    for v in named(lines, "pieces"):
        cost = [f"{1000 * v[f'{piece}_s']:.3g}" for piece in ("visit", "answer", "update", "read")]
        rows.append((v["network"], str(v["size"]), *cost, f"{Setting(100, v['size']).seconds(v):.3g}"))
    return markdown(*rows)


def checked_table(lines: list[dict[str, Any]]) -> str:
    """What the formulas say / what was measured."""
    pieces = named(lines, "pieces")[0]
    rows = [("models", "CPU s a step", "questions a step", "models read a step", "opening, s", "index, MB", "peak, MB")]
    for v in named(lines, "check"):
        setting = Setting(v["models"], updates=OPTIONS["method.updates"])
        said = (setting.seconds(pieces, v["read"]), setting.questions)
        rows.append(
            (
                f"{v['models']:,}",
                f"{said[0]:.2f} / {v['step_s']:.2f}",
                f"{said[1]:,} / {v['questions']:,.0f}",
                f"{v['read']:.0f}",
                f"{v['open_s']:.3f}",
                f"{v['index_mb']:.2f}",
                f"{v['peak_mb']:.0f}",
            )
        )
    return markdown(*rows)


def beyond_table(lines: list[dict[str, Any]]) -> str:
    """Larger zoos by the same formulas: opening and memory grow with the index as between the two largest checked."""
    small, large = named(lines, "check")[-2:]
    models = large["models"] - small["models"]
    each = {key: (large[key] - small[key]) / models for key in ("open_s", "index_mb", "peak_mb")}
    rows = [("models", "opening, s", "index, MB", "peak, MB")]
    for count in BEYOND:
        said = {key: large[key] + (count - large["models"]) * each[key] for key in each}
        rows.append((f"{count:,}", f"{said['open_s']:.1f}", f"{said['index_mb']:,.0f}", f"{said['peak_mb']:,.0f}"))
    return markdown(*rows)


if __name__ == "__main__":
    main()
