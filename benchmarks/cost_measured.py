"""The pieces that `cost_model.py` adds up, timed on this machine; and real runs that its sums are held against.

Seconds are CPU seconds of one thread, medians of three after one to warm up: other programs disturb the clock, but
hardly them.
"""

import json
import os
import pickle
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cost_model
from cost_model import CANVAS, CHANNELS, LATENT, SIZES, Constants, Setting
from scale import in_fresh_process

# torch is imported by the measuring processes alone: a process also counts the memory of the one that started it.
PASSES = {32: 100, 64: 25, 96: 12, 160: 6, 224: 4, 384: 2}  # images at once: about as much work at each size
NETWORKS = {"conv4": SIZES, "resnet18": SIZES}
STUDENT_OUTPUTS = (50, 2000)
INDEXED = 5000  # models of the index that is opened to learn what one costs
FREE_MODELS, FREE_ROUNDS = 1000, 4
RUN_UPDATES = 20  # of the 80 of the recipe
RUN_NETWORKS = (("conv4", 224, 4, 10), ("resnet18", 64, 1, 4))  # network, size, images per class, models


def constants(folder: Path) -> Constants:
    """All of them; every piece in a process of its own, or with others of its kind."""
    index = in_fresh_process(write_index_alone, folder / "index", INDEXED)
    opened = in_fresh_process(measure_opening, index)
    teachers = {n: in_fresh_process(time_teachers, n, folder) for n in NETWORKS}
    made = in_fresh_process(time_canvases, folder)
    per_output = (made[32]["updates"][1] - made[32]["updates"][0]) / (STUDENT_OUTPUTS[1] - STUDENT_OUTPUTS[0])

    def of(key: str) -> dict[str, dict[int, float]]:
        return {network: {size: values[key] for size, values in sizes.items()} for network, sizes in teachers.items()}

    def by_canvas(key: str) -> dict[int, float]:
        return {size: values[key] for size, values in made.items()}

    return Constants(
        teacher_pass_s=of("pass"),
        answer_s=of("answer"),
        generator_pass_s=by_canvas("generator"),
        adam_s=made[96]["adam"],
        vary_s=by_canvas("vary"),
        update_s={size: values["updates"][0] - STUDENT_OUTPUTS[0] * per_output for size, values in made.items()},
        update_output_s=per_output,
        read_s=of("read"),
        open_s=opened["open_s"] / INDEXED,
        plan_s=in_fresh_process(time_plan, index),
        index_bytes=opened["index_bytes"] / INDEXED,
        index_memory=opened["open_bytes"] / INDEXED,
        base_memory=in_fresh_process(tiny_step),
        teacher_saved=of("saved"),
        generator_saved=by_canvas("generator_saved"),
        student_saved=by_canvas("student_saved"),
        machine=machine(),
        more=in_fresh_process(further, folder / "further"),
    )


def machine() -> dict[str, Any]:
    """What was measured on."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    version = in_fresh_process(_torch_version)
    return {"cpu": model, "cores": os.cpu_count(), "threads": 1, "load": round(os.getloadavg()[0], 1), "torch": version}


def _torch_version() -> str:
    import torch

    return torch.__version__


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """CPU seconds of one thread."""
    taken = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


@contextmanager
def counting_saved() -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps for a backward pass, by place in memory: what is kept twice counts once."""
    import torch

    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@contextmanager
def one_thread() -> Iterator[None]:
    """As a run of dfml on one thread."""
    from dfml.compute.memory import keep_freed_memory
    from dfml.runs.determinism import reproducible

    keep_freed_memory()
    with reproducible(1):
        yield


# Pieces.


def time_teachers(network: str, folder: Path) -> dict[int, dict[str, float]]:
    """A network at every size."""
    return {size: time_teacher(network, size, folder / f"{network}-{size}") for size in NETWORKS[network]}


def time_canvases(folder: Path) -> dict[int, dict[str, Any]]:
    """Every size of a canvas."""
    return {size: time_canvas(size, folder / f"student-{size}") for size in SIZES if size <= CANVAS}


def time_teacher(network: str, size: int, folder: Path) -> dict[str, float]:
    """A pass as a visit makes it, an answer, reading: an image, an image, a model."""
    import torch

    from dfml.functional.priors import batchnorm_alignment, class_prior
    from dfml.nn.precision import mixed_precision
    from dfml.zoo import Zoo
    from large_zoo import write_large_zoo

    n, repeats = PASSES[size], 3 if network == "conv4" or size < 160 else 1
    n = n if network == "conv4" else max(1, n // 4)
    with one_thread():
        zoo = Zoo.open(write_large_zoo(folder, models=4, network=network, width=None, size=size, distinct=1, meets=1))
        images = torch.rand(n, *zoo.canvas.shape)

        def read() -> None:
            Zoo.open(folder).teacher(zoo.ids[0]).answers(images[:1])

        def answer_one() -> None:
            teacher.answers(images[:1])

        teacher, labels = zoo.teacher(zoo.ids[0]), torch.arange(5).repeat(-(-n // 5))[:n]

        def forward(shown: torch.Tensor) -> torch.Tensor:
            with mixed_precision():
                seen = teacher.forward(shown, statistics=True)
                return class_prior(seen.logits.float(), labels) + batchnorm_alignment(seen.statistics)

        def both() -> None:
            shown = images.clone().requires_grad_()
            torch.autograd.grad(forward(shown), [shown])

        with counting_saved() as kept:
            forward(images.clone().requires_grad_())
        asked = torch.rand(max(n, 100) if size == 32 else n, *zoo.canvas.shape)
        answer = seconds(lambda: teacher.answers(asked), repeats) / len(asked)
        return {
            "pass": seconds(both, repeats) / n,
            "answer": answer,
            "read": max(0.0, seconds(read) - seconds(answer_one, repeats)),
            "saved": sum(kept.values()) / n,
        }


def time_canvas(size: int, folder: Path, repeats: int = 3) -> dict[str, Any]:
    """What depends on the canvas alone: the generator, distortions, the student."""
    import torch

    from dfml.functional.augmentation import distort_images, mix_images, shift_and_flip
    from dfml.nn.generators import build_generator
    from dfml.nn.precision import mixed_precision
    from dfml.randomness import Rng
    from dfml.training.bank import as_bytes

    n, rng = PASSES[size], Rng(0)
    with one_thread():
        generator = build_generator("pixelshuffle", latent=LATENT, size=size, channels=CHANNELS)
        parameters, codes = list(generator.parameters()), torch.randn(n, LATENT).requires_grad_()

        def forward() -> torch.Tensor:
            with mixed_precision():
                return shift_and_flip(generator(codes).float(), rng.generator("shift"))

        def both() -> None:
            made = forward()
            torch.autograd.grad(made, [*parameters, codes], torch.ones_like(made))

        with counting_saved() as kept:
            forward()
        adam = torch.optim.Adam(parameters, foreach=True)
        for p in parameters:
            p.grad = torch.rand_like(p)
        images = torch.rand(n, CHANNELS, size, size)

        def vary() -> None:
            varied = shift_and_flip(images, rng.generator("augment"))
            as_bytes(mix_images(distort_images(varied, rng.generator("distort")), rng.generator("mix"), share=0.6))

        updates, saved = zip(
            *(_update(size, outputs, folder / str(outputs), repeats) for outputs in STUDENT_OUTPUTS), strict=True
        )
        return {
            "generator": seconds(both, repeats) / n,
            "generator_saved": sum(kept.values()) / n,
            "adam": seconds(adam.step) / sum(p.numel() for p in parameters),
            "vary": seconds(vary, repeats) / n,
            "updates": updates,
            "student_saved": saved[0],
        }


def _update(size: int, outputs: int, folder: Path, repeats: int) -> tuple[float, float]:
    """Seconds of an update of 128 images, and the bytes that it keeps for an image."""
    import torch

    from dfml.methods.consolidate import Consolidate
    from dfml.randomness import Rng
    from dfml.recovery import MetaGenerator
    from dfml.zoo import Zoo

    updates = 2
    method = Consolidate(recovery=MetaGenerator(), updates=updates, capacity=256, validation_teachers=0)
    state = method.init(Zoo.open(write_index_alone(folder, outputs // 5, size=size)), Rng(0))
    shape = (256, CHANNELS, size, size)
    state.bank.add(torch.randint(0, 256, shape, dtype=torch.uint8), torch.randn(256, outputs))
    with counting_saved() as kept:
        method.loss(state.student.train(), *state.bank.sample(128, Rng(0).generator("batch")))
    return seconds(lambda: method.learn(state, Rng(0)), repeats) / updates, sum(kept.values()) / 128


def time_plan(folder: Path) -> float:
    """Choosing the teachers of a step, a model of the zoo."""
    from dfml.randomness import Rng
    from dfml.zoo import Zoo

    zoo, method = Zoo.open(folder), method_of(Setting(INDEXED))
    state = method.init(zoo, Rng(0))
    return seconds(lambda: [method.plan(state, zoo, Rng(i)) for i in range(10)]) / 10 / len(zoo)


def tiny_step() -> float:
    """Bytes of a process that has done everything once, on little."""
    from dfml.methods.base import teachers_of
    from dfml.randomness import Rng
    from dfml.zoo import Zoo

    setting = Setting(16, images_per_class=1, updates=1, batch=2, capacity=8, answering=1, hidden=8)
    with one_thread():
        zoo, method = Zoo.open("glyphs"), method_of(setting)
        state = method.init(zoo, Rng(0))
        method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(0))), Rng(0))
    return memory("VmHWM")


def further(folder: Path) -> dict[str, Any]:
    """What enters no sum: where large zoos and many classes will hurt."""
    import torch

    from dfml.methods.zoo_ensemble import covering
    from dfml.nn.answers import JointLogits
    from dfml.zoo import Zoo, write_index
    from large_zoo import write_large_zoo

    zoo = Zoo.open(write_index_alone(folder / "index", INDEXED))
    own = measure_opening(write_index_alone(folder / "own", INDEXED, own=True))
    real = write_large_zoo(folder / "real", models=1000)
    joint = {}
    with one_thread():
        for classes in (500, 1000, 2000):
            known = torch.randperm(2 * classes, generator=torch.Generator().manual_seed(0)).remainder(classes)
            joint[classes] = seconds(lambda known=known: JointLogits(known.view(-1, 5).tolist()), 1)
        return {
            "covering_s_per_model_and_pick": seconds(lambda: covering(zoo, 10), 1) / 10 / len(zoo),
            "write_index_s_per_model": seconds(lambda: write_index(real, name="x", shared_classes=True), 1) / 1000,
            "pickled_bytes_per_model": len(pickle.dumps(zoo)) / len(zoo),
            "joint_system_s_by_classes": joint,
            "own_classes": {key: value / INDEXED for key, value in own.items()},
        }


# Zoos.


def write_index_alone(folder: Path, models: int, *, size: int = 32, own: bool = False) -> Path:
    """A folder with the index of a zoo and none of its models, as `dfml zoo build` writes it."""
    import torch

    from dfml.nn import InputSpec
    from dfml.zoo.index import Entry, Index

    folder.mkdir(parents=True, exist_ok=True)
    generator, spec, accuracy = (
        torch.Generator().manual_seed(0),
        InputSpec(size=size),
        {"mean": 80.0, "ci95": 5.0, "n": 100},
    )
    entries, names = [], {}
    for number in range(models):
        drawn = range(5) if own else torch.randperm(64, generator=generator)[:5].tolist()
        known = tuple(f"class-{number}-{c}" if own else f"class-{c}" for c in drawn)
        names |= {c: c for c in known}
        sha, seal = f"{number:064x}", f"sha256:{number:064x}"
        entries.append(Entry(f"model-{number:05d}", "dfml:conv4", known, sha, accuracy, spec, seal))
    Index(f"large-{models}", not own, {"seed": 0}, dict(sorted(names.items())), tuple(entries)).write(folder)
    return folder


def write_zoo(folder: Path, s: Setting) -> Path:
    """A zoo of real models whose index is made from their cards."""
    from dfml.zoo import write_index
    from large_zoo import write_large_zoo

    few = {} if s.network == "conv4" and s.size == 32 else {"distinct": 2, "meets": 1}
    write_large_zoo(folder, models=s.models, classes=s.zoo_classes, network=s.network, width=None, size=s.size, **few)
    write_index(folder, name=f"large-{s.models}", shared_classes=True)
    return folder


# Runs.


def method_of(s: Setting, recipe: str = "fast") -> Any:
    """The method that a setting describes."""
    from dfml.recipes.resolving import resolve

    options = {
        "teachers_per_step": s.visits,
        "images_per_class": s.images_per_class,
        "answering_teachers": s.answering,
        "validation_teachers": s.validation,
        "updates": s.updates,
        "batch_size": s.batch,
        "hidden": s.hidden,
        "capacity": s.capacity,
    }
    values = {f"method.{key}": value for key, value in options.items()}
    return resolve(recipe, values | {"recovery.steps": s.inner_steps, "run.steps": 100}).build()


def free_of(s: Setting, rounds: int) -> Any:
    """FREE after its warm-up, with as many visits."""
    from dfml.recipes.resolving import resolve

    options = {"teachers_per_step": s.visits, "images_per_class": s.images_per_class, "rounds": rounds}
    options |= {"warmup_steps": 0, "validation_teachers": s.validation}
    values = {f"method.{key}": value for key, value in options.items()}
    return resolve("free", values | {"recovery.steps": s.inner_steps, "run.steps": 100}).build()


def measure_opening(folder: Path) -> dict[str, float]:
    """CPU seconds and bytes to open a zoo and to learn its classes and hash."""
    from dfml.zoo import Zoo

    before = reset_peak()
    start = time.process_time()
    zoo = Zoo.open(folder)
    _ = zoo.class_ids, zoo.hash
    spent = time.process_time() - start
    grown = memory("VmHWM") - before
    return {"open_s": spent, "open_bytes": grown, "index_bytes": (folder / "zoo.json").stat().st_size}


def memory(name: str) -> int:
    """Bytes that Linux gives under this name for the process; VmHWM, unlike `ru_maxrss`, is not that of a parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def reset_peak() -> int:
    """Start measuring the peak (VmHWM) anew, on Linux; returns what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def measure_steps(folder: Path, s: Setting, steps: int, rounds: int = 0) -> dict[str, float]:
    """Medians over ``steps`` steps after the first, of FREE where there are rounds; bytes of the whole run."""
    from dfml.methods.base import teachers_of
    from dfml.randomness import Rng
    from dfml.runs.checkpoint import save_tree
    from dfml.zoo import Zoo, loaders

    read, numbers = loaders.read_network, {"loads": 0}

    def counted(*arguments: Any) -> Any:
        numbers["loads"] += 1
        return read(*arguments)

    loaders.read_network = counted
    zoo, method, rng = Zoo.open(folder), free_of(s, rounds) if rounds else method_of(s), Rng(0)
    taken: list[dict[str, float]] = []
    with one_thread():
        state = method.init(zoo, rng.at("init"))
        for step in range(steps + 1):
            here, asked, numbers["loads"] = rng.at("step", step), zoo.tally.queries, 0
            start, cpu = time.perf_counter(), time.process_time()
            report = method.step(state, teachers_of(zoo, method.plan(state, zoo, here)), here)
            spent = {"step_s": time.process_time() - cpu, "wall_s": time.perf_counter() - start}
            questions = zoo.tally.queries - asked
            taken.append(spent | {"questions": questions, "images": report.images} | numbers)
        peak = memory("VmHWM")
        save_tree(state.state_dict(), folder / "checkpoint")
    bank = 0 if rounds else state.bank.images.nbytes + state.bank.answers.nbytes
    saved = (folder / "checkpoint" / "tensors.safetensors").stat().st_size
    medians = {key: statistics.median(step[key] for step in taken[1:]) for key in taken[0]}
    held = float(len(state.bank))
    return medians | {"peak_bytes": peak, "bank_bytes": bank, "checkpoint_bytes": saved, "held": held}


def checks(folder: Path, c: Constants, models: list[int], opening: list[int], steps: int) -> list[dict[str, Any]]:
    """Each a zoo with its predictions and measurements."""
    lines = []
    for n in opening:
        index = in_fresh_process(write_index_alone, folder / f"index-{n}", n)
        cost = in_fresh_process(measure_opening, index)
        lines.append(line(f"{n:,} (index alone)", {"models": n}, opening_values(n, cost, c)))
    for n in models:
        s = Setting(n, updates=RUN_UPDATES)
        zoo = in_fresh_process(write_zoo, folder / f"zoo-{n}", s)
        opened = opening_values(n, in_fresh_process(measure_opening, zoo), c)
        values = step_values(s, in_fresh_process(measure_steps, zoo, s, steps), c, steps)
        lines.append(line(f"{n:,}", {"models": n, "updates": s.updates}, opened | values))
        if n == FREE_MODELS:
            cost = in_fresh_process(measure_steps, zoo, s, steps, FREE_ROUNDS)
            about = {"models": n, "recipe": "free", "rounds": FREE_ROUNDS}
            lines.append(line(f"{n:,}, FREE", about, free_values(s, cost, c)))
    for network, size, images, n in RUN_NETWORKS:
        s = Setting(n, network, size, images_per_class=images, visits=2, updates=5)
        zoo = in_fresh_process(write_zoo, folder / f"{network}-{size}", s)
        values = step_values(s, in_fresh_process(measure_steps, zoo, s, steps), c, steps)
        settings = {
            "models": n,
            "network": network,
            "size": size,
            "images_per_class": images,
            "visits": 2,
            "updates": 5,
        }
        lines.append(line(f"{n:,} {network}, {size} pixels", settings, values))
    return lines


def line(label: str, settings: dict[str, Any], values: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """One line of the results file."""
    print(f"{label}: {json.dumps(values)}", file=sys.stderr, flush=True)
    return {"schema": 1, "name": "cost", "kind": "check", "label": label, "settings": settings, "values": values}


def opening_values(models: int, cost: dict[str, float], c: Constants) -> dict[str, tuple[float, float]]:
    """What opening should cost, and what it cost."""
    return {
        "index MB": (models * c.index_bytes / 1e6, cost["index_bytes"] / 1e6),
        "open s": (cost_model.open_seconds(models, c), cost["open_s"]),
        "open MB": (cost_model.open_bytes(models, c) / 1e6, cost["open_bytes"] / 1e6),
    }


def step_values(s: Setting, cost: dict[str, float], c: Constants, steps: int) -> dict[str, tuple[float, float]]:
    """What steps should cost, and what they cost; a prediction takes the mean number of trained classes."""
    read = statistics.median(cost_model.warm_loads(s, step) for step in range(2, steps + 2))
    saved = cost_model.checkpoint_bytes(s, cost["held"], validated=False)
    return {
        "images a step": (s.images, cost["images"]),
        "questions a step": (cost_model.questions(s), cost["questions"]),
        "models read a step": (read, cost["loads"]),
        "CPU s a step": (cost_model.step_seconds(s, c, read), cost["step_s"]),
        "clock s a step": (cost_model.step_seconds(s, c, read), cost["wall_s"]),
        "bank MB": (cost_model.answer_bank_bytes(s.capacity, s.pixels, s.outputs) / 1e6, cost["bank_bytes"] / 1e6),
        "checkpoint MB": (saved / 1e6, cost["checkpoint_bytes"] / 1e6),
        "peak MB": (cost_model.peak_bytes(s, c) / 1e6, cost["peak_bytes"] / 1e6),
    }


def free_values(s: Setting, cost: dict[str, float], c: Constants) -> dict[str, tuple[float, float]]:
    """The same of FREE."""
    return {
        "images a step": (s.images, cost["images"]),
        "questions a step": (cost_model.free_questions(s, FREE_ROUNDS), cost["questions"]),
        "CPU s a step": (cost_model.free_seconds(s, c, FREE_ROUNDS), cost["step_s"]),
        "clock s a step": (cost_model.free_seconds(s, c, FREE_ROUNDS), cost["wall_s"]),
    }
