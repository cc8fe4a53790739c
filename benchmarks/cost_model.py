"""What dfml costs in seconds, bytes and questions to teachers: formulas, and runs that check them.

    python benchmarks/cost_model.py                  # measure the pieces, predict, run, compare; CPU, one thread
    python benchmarks/cost_model.py --tables         # the tables of docs/scale.md from the file, nothing is measured

The formulas are the functions of this file. They take a `Setting` (a zoo and what a step does with it) and the
`Constants` of a machine, which `cost_measured.py` times piece by piece. Seconds are CPU seconds of one thread: what a
clock shows where nothing else runs. Writes ``benchmarks/cost_model.jsonl``.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# torch is imported where it is needed: a process that measures memory must not inherit that of its parent.
CACHE_BYTES = 256 * 2**20  # of loaded teachers (dfml.zoo.store)
FREE_BANK_BYTES = 2**30  # of images in FREE's bank (dfml.training.bank)
CANVAS = 96  # pixels: images are recovered no larger (dfml.zoo.store)
VALIDATION_VISITS = 3  # to a validation teacher (dfml.training.pseudo_validation)
CHANNELS, LATENT = 3, 256
SIZES = (32, 64, 96, 160, 224, 384)
MODELS = (10, 100, 1000, 10_000)
BEYOND = (100_000, 1_000_000)
RESULTS = Path(__file__).with_name("cost_model.jsonl")
TOLERANCE = 0.3  # a larger difference is marked in the tables


@dataclass(frozen=True)
class Setting:
    """A zoo, and what a step does with it; as the recipe `fast` has it unless said otherwise.

    Args:
        models: of the zoo.
        network: of every model.
        size: height and width of the images that the models take.
        classes: of a model.
        zoo_classes: that all models know together.
        visits: teachers visited a step.
        images_per_class: recovered of each class of a visited teacher.
        inner_steps: of a visit; it takes one more pass, for the last reading.
        answering: teachers that answer on every image, if the zoo has so many.
        validation: teachers held out with their classes.
        updates: of the student (Conv4-32) a step.
        batch: images of an update.
        hidden: units of the student's hidden layer.
        capacity: images that the answer bank keeps.
    """

    models: int
    network: str = "conv4"
    size: int = 32
    classes: int = 5
    zoo_classes: int = 64
    visits: int = 4
    images_per_class: int = 20
    inner_steps: int = 5
    answering: int = 100
    validation: int = 1
    updates: int = 80
    batch: int = 128
    hidden: int = 512
    capacity: int = 60_000

    @property
    def canvas(self) -> int:
        """Size of recovered images."""
        return min(CANVAS, self.size)

    @property
    def pixels(self) -> int:
        """Bytes of a stored image."""
        return CHANNELS * self.canvas**2

    @property
    def answers(self) -> int:
        """Teachers that answer."""
        return min(self.answering, self.models - self.validation)

    @property
    def outputs(self) -> int:
        """Numbers that all their answers on one image consist of."""
        return self.answers * self.classes

    @property
    def trained_classes(self) -> float:
        """Of a visited teacher, those that no validation teacher knows; in the mean, where classes are shared."""
        return self.classes * (1 - min(1.0, self.validation * self.classes / self.zoo_classes))

    @property
    def images(self) -> float:
        """Recovered in a step."""
        return self.visits * self.images_per_class * self.trained_classes


@dataclass(frozen=True)
class Constants:
    """What the pieces cost on one machine. Tables are by size in pixels, where they depend on the network by network.

    Args:
        teacher_pass_s: forward and backward through a teacher, an image.
        answer_s: a teacher's answer on an image.
        generator_pass_s: forward, shift and mirror, backward through the generator, an image.
        adam_s: a step of Adam, a parameter.
        vary_s: distorting and mixing, an image.
        update_s: an update of the student, at no outputs.
        update_output_s: more, an output.
        read_s: reading a model, and making its fast copy.
        open_s: opening the index and asking for its classes and hash, a model.
        plan_s: choosing teachers, a model of the zoo.
        index_bytes: of the index on the disk, a model.
        index_memory: that the index takes in memory, a model, with its reading.
        base_memory: of a process that has taken a tiny step.
        teacher_saved: bytes kept for the backward pass through a teacher, an image.
        generator_saved: the same of the generator.
        student_saved: the same of the student in an update.
        machine: what was measured on.
        more: pieces that are reported and enter no formula.
    """

    teacher_pass_s: dict[str, dict[int, float]]
    answer_s: dict[str, dict[int, float]]
    generator_pass_s: dict[int, float]
    adam_s: float
    vary_s: dict[int, float]
    update_s: dict[int, float]
    update_output_s: float
    read_s: dict[str, dict[int, float]]
    open_s: float
    plan_s: float
    index_bytes: float
    index_memory: float
    base_memory: float
    teacher_saved: dict[str, dict[int, float]]
    generator_saved: dict[int, float]
    student_saved: dict[int, float]
    machine: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(values: dict[str, Any]) -> "Constants":
        """From JSON, whose keys are text."""
        return Constants(**{k: v if k in ("machine", "more") else _numbered(v) for k, v in values.items()})


def _numbered(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {int(k) if str(k).isdigit() else k: _numbered(v) for k, v in value.items()}


def at(points: dict[int, float], size: int) -> float:
    """A cost at a size: linear in the number of pixels between measured points, proportional outside of them."""
    if size in points:
        return points[size]
    known = sorted(points)
    if size < known[0] or size > known[-1]:
        near = known[0] if size < known[0] else known[-1]
        return points[near] * (size / near) ** 2
    low, high = max(s for s in known if s < size), min(s for s in known if s > size)
    share = (size**2 - low**2) / (high**2 - low**2)
    return points[low] + share * (points[high] - points[low])


# Questions.


def questions(s: Setting) -> float:
    """Images on which teachers are asked in a step: every pass of a visit, and every answer."""
    return s.images * (s.inner_steps + 1) + s.images * s.answers


def free_questions(s: Setting, rounds: int = 16) -> float:
    """The same of a step of FREE after its warm-up: passes of visits, and one answer on each image of a round."""
    return s.images * (s.inner_steps + 1) + rounds * s.visits * s.images_per_class * s.classes


# Bytes.


@cache
def _counted(kind: str, network: str, size: int, width: int | None) -> tuple[int, int, int, int]:
    """Of a network its parameters, other floats and other numbers, and the tensors that are parameters."""
    import torch

    from dfml.nn import Classifier, build_backbone
    from dfml.nn.generators import build_generator

    with torch.device("meta"):
        if kind == "generator":
            module = build_generator("pixelshuffle", latent=LATENT, size=size, channels=CHANNELS)
        else:
            backbone = build_backbone(network, image_size=size, channels=CHANNELS, width=width)
            module = Classifier(backbone, 5) if kind == "teacher" else backbone
    parameters = list(module.parameters())
    others = list(module.buffers())
    floats = sum(b.numel() for b in others if b.is_floating_point())
    integers = sum(b.numel() for b in others if not b.is_floating_point())
    return sum(p.numel() for p in parameters), floats, integers, len(parameters)


def generator_parameters(canvas: int) -> int:
    """Numbers that the meta-generator learns; most of them make its first map, so they grow with the pixels."""
    return _counted("generator", "", canvas, None)[0]


def teacher_bytes(s: Setting) -> int:
    """Memory of a loaded teacher: its weights, and the copy of them that answers."""
    parameters, floats, integers, _ = _counted("teacher", s.network, s.size, None)
    return 2 * (4 * (parameters + floats) + 8 * integers)


def weight_file_bytes(s: Setting) -> int:
    """A model's weights on the disk, in half precision, without the header."""
    parameters, floats, integers, _ = _counted("teacher", s.network, s.size, None)
    return 2 * (parameters + floats) + 8 * integers


def answer_bank_bytes(capacity: int, pixels: int, outputs: int) -> int:
    """Images as bytes, answers in half precision. All of it is asked for at the start, and used as it fills."""
    return capacity * (pixels + 2 * outputs)


def free_bank_bytes(classes: int, per_class: int, pixels: int) -> int:
    """A full bank of FREE: images, the teacher of each, and a counter for each class; images fit 1 GiB."""
    images = min(classes * per_class, FREE_BANK_BYTES // pixels)
    return images * (pixels + 4) + 8 * classes


def student_bytes(s: Setting) -> tuple[int, int]:
    """Of a student of consolidation: its state, and that of its Adam."""
    backbone, floats, integers, tensors = _counted("student", "conv4", s.canvas, 32)
    features = _features(s.canvas)
    trunk = features * s.hidden + 2 * s.hidden
    heads = (s.hidden + 1) * s.outputs
    parameters = backbone + trunk + heads
    state = 4 * (parameters + floats + 2 * s.hidden) + 8 * (integers + 1)
    return state, 8 * parameters + 4 * (tensors + 5)


def _features(canvas: int) -> int:
    side = canvas
    for _ in range(4):
        side //= 2
    return 32 * side**2


def generator_state_bytes(canvas: int, *, stepped: bool = True) -> int:
    """Of the meta-generator and its Adam, which has a state only after a step."""
    parameters, floats, integers, tensors = _counted("generator", "", canvas, None)
    return 4 * (parameters + floats) + 8 * integers + (8 * parameters + 4 * tensors if stepped else 0)


def validation_bytes(s: Setting, *, filled: bool = True) -> int:
    """Images of the validation teachers; none before the first validation."""
    images = s.validation * s.classes * VALIDATION_VISITS * s.images_per_class if filled else 0
    return images * (s.pixels + 4) + 8 * max(1, s.validation * s.classes)


def checkpoint_bytes(s: Setting, images: float | None = None, *, validated: bool = True) -> int:
    """Tensors of a checkpoint whose bank holds so many images; None: a full one. Two are kept, a third is written."""
    state, adam = student_bytes(s)
    held = s.capacity if images is None else min(s.capacity, int(images))
    parts = 2 * state + adam + generator_state_bytes(s.canvas) + validation_bytes(s, filled=validated)
    return parts + answer_bank_bytes(held, s.pixels, s.outputs)


def joint_system_bytes(classes: int) -> int:
    """To make the joint posterior of so many shared classes: system, inverse and a copy, in double precision."""
    return 3 * 8 * classes**2


def cache_bytes(s: Setting) -> int:
    """Loaded teachers in memory: all that a step asks where they fit, else as many as do, or one."""
    each = teacher_bytes(s)
    return max(each, min((s.answers + s.visits) * each, CACHE_BYTES // each * each))


def open_bytes(models: int, c: Constants) -> float:
    """Memory of a process that has opened a zoo, without what the library takes."""
    return models * c.index_memory


def peak_bytes(s: Setting, c: Constants) -> float:
    """The most memory of a run on the CPU.

    The process, the index, loaded teachers, the bank (all of it: the C library clears it at the start, up to 1 GiB),
    student and generator with what their optimisers keep, and what the largest piece of a step keeps for its backward
    pass, with as much again for the gradients of that.
    """
    state, adam = student_bytes(s)
    generator = 4 * generator_parameters(s.canvas)
    each = s.images_per_class * s.trained_classes
    passed = at(c.generator_saved, s.canvas) + at(c.teacher_saved[s.network], s.size)
    visit = 2 * each * passed + (4 + s.visits) * generator  # a copy, its gradient and Adam; each visit's direction
    update = 2 * s.batch * (at(c.student_saved, s.canvas) + 3 * 4 * s.outputs)
    bank = answer_bank_bytes(s.capacity, s.pixels, s.outputs)
    kept = 2 * state + adam + 3 * generator + cache_bytes(s) + bank
    return c.base_memory + open_bytes(s.models, c) + kept + max(visit, update)


# Seconds.


def open_seconds(models: int, c: Constants) -> float:
    """To open a zoo and know its classes and hash."""
    return models * c.open_s


def loads(s: Setting) -> float:
    """Models read from the disk in a step, after the first: the visited ones, unless the zoo is in memory; all that
    answer as well where they do not fit, because the one that is needed next is the one that was let go. An upper
    bound: a visited model may be there since it answered or was visited last."""
    if (s.answers + s.visits) * teacher_bytes(s) > CACHE_BYTES:
        return s.visits + s.answers
    fit = CACHE_BYTES // teacher_bytes(s)
    return 0.0 if s.models <= fit else s.visits * (1 - s.answers / s.models)


def warm_loads(s: Setting, step: int) -> float:
    """The same in step ``step`` (the first is 1), where the cache still fills with visited models."""
    if loads(s) > s.visits:
        return loads(s)
    trained = s.models - s.validation
    others = 1 - s.answers / trained
    return s.visits * others * (1 - s.visits / trained) ** (step - 1)


def recover_seconds(s: Setting, c: Constants) -> float:
    """Visits: passes of all their images through generator and teacher, and Adam's steps."""
    each = s.images_per_class * s.trained_classes
    passed = at(c.generator_pass_s, s.canvas) + at(c.teacher_pass_s[s.network], s.size)
    return s.visits * (s.inner_steps + 1) * (each * passed + generator_parameters(s.canvas) * c.adam_s)


def ask_seconds(s: Setting, c: Constants, read: float | None = None) -> float:
    """Answers on all images, what is read from the disk, and the distortions."""
    reading = (loads(s) if read is None else read) * at(c.read_s[s.network], s.size)
    return s.images * (s.answers * at(c.answer_s[s.network], s.size) + at(c.vary_s, s.canvas)) + reading


def learn_seconds(s: Setting, c: Constants) -> float:
    """Updates of the student."""
    return s.updates * s.batch / 128 * (at(c.update_s, s.canvas) + s.outputs * c.update_output_s)


def step_seconds(s: Setting, c: Constants, read: float | None = None) -> float:
    """A step of consolidation; ``read`` models are read in it, None: `loads`."""
    return recover_seconds(s, c) + ask_seconds(s, c, read) + learn_seconds(s, c) + s.models * c.plan_s


def divided_seconds(s: Setting, c: Constants, processes: int) -> float:
    """A step in several processes on as many cores; at `meta_batch` 1 only answers are divided."""
    together = recover_seconds(s, c) + learn_seconds(s, c) + s.models * c.plan_s
    return together + ask_seconds(s, c) / processes


def free_seconds(s: Setting, c: Constants, rounds: int = 16, episodes: int = 8, episode: int = 80) -> float:
    """A step of FREE after its warm-up: visits, in which a student disagrees; in every round one answer and one pass of
    the student an image; replay."""
    student, network = at(c.update_s, s.canvas) / 128, at(c.teacher_pass_s["conv4"], s.canvas)
    disagreeing = s.images * (s.inner_steps + 1) * network
    asked = rounds * s.visits * s.images_per_class * s.classes * (at(c.answer_s[s.network], s.size) + student)
    reads = rounds * s.visits * at(c.read_s[s.network], s.size) if s.models * teacher_bytes(s) > CACHE_BYTES else 0.0
    return recover_seconds(s, c) + disagreeing + asked + reads + episodes * episode * student + s.models * c.plan_s


# Tables.


def deviation(predicted: float, measured: float) -> str:
    """As a percentage of what was measured; bold beyond the tolerance."""
    if not measured:
        return "-"
    off = predicted / measured - 1
    return f"**{off:+.0%}**" if abs(off) > TOLERANCE else f"{off:+.0%}"


def table(rows: list[tuple[str, ...]]) -> str:
    """Markdown; the first row is the head."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---:",) * len(head), *rest])


def checked_table(lines: list[dict[str, Any]]) -> str:
    """Predicted / measured of every run."""
    rows = [("zoo", "what", "predicted", "measured", "difference")]
    for line in lines:
        for what, (predicted, measured) in line["values"].items():
            numbers = (
                f"{predicted:,.4g}" if predicted < 1000 else f"{predicted:,.0f}" for predicted in (predicted, measured)
            )
            rows.append((line["label"], what, *numbers, deviation(predicted, measured)))
    return table(rows)


def beyond_table(c: Constants) -> str:
    """By number of models; opening of what was not run is extrapolated."""
    rows = [
        ("models", "index MB", "open s", "open MB", "step s", "questions", "peak MB", "files", "weights and cards GB")
    ]
    for models in (*MODELS, *BEYOND):
        s = Setting(models)
        disk = models * (weight_file_bytes(s) + 4096 + 2048)  # a card fills one block, weights half of one in vain
        rows.append(
            (
                f"{models:,}" + ("" if models in MODELS else " (extrapolated)"),
                f"{models * c.index_bytes / 1e6:,.2f}",
                f"{open_seconds(models, c):.3f}",
                f"{open_bytes(models, c) / 1e6:,.0f}",
                f"{step_seconds(s, c):.1f}",
                f"{questions(s):,.0f}",
                f"{peak_bytes(s, c) / 1e6:,.0f}",
                f"{2 * models + 1:,}",
                f"{disk / 1e9:.2f}",
            )
        )
    return table(rows)


def sizes_table(c: Constants) -> str:
    """By size of the images: a zoo of 100 models, and the time of each part of a step."""
    rows = [
        (
            "network",
            "pixels",
            "canvas",
            "recover s",
            "ask s",
            "learn s",
            "step s",
            "of it reading s",
            "bank MB",
            "peak MB",
        )
    ]
    for network in c.answer_s:
        for size in SIZES:
            s = Setting(101, network, size)
            reading = loads(s) * at(c.read_s[network], size)
            mark = "" if size in c.answer_s[network] else " (from the largest measured)"
            rows.append(
                (
                    network,
                    f"{size}{mark}",
                    f"{s.canvas}",
                    f"{recover_seconds(s, c):,.1f}",
                    f"{ask_seconds(s, c):,.1f}",
                    f"{learn_seconds(s, c):,.1f}",
                    f"{step_seconds(s, c):,.1f}",
                    f"{reading:,.2f}",
                    f"{answer_bank_bytes(s.capacity, s.pixels, s.outputs) / 1e6:,.0f}",
                    f"{peak_bytes(s, c) / 1e6:,.0f}",
                )
            )
    return table(rows)


def divided_table(c: Constants, processes: tuple[int, ...] = (1, 4, 16)) -> str:
    """Seconds of a step by number of processes: what torchrun is worth."""
    settings = [("conv4", 32), ("conv4", 96), ("conv4", 224), ("resnet18", 32), ("resnet18", 224)]
    rows = [("network", "pixels", *(f"{n} processes" if n > 1 else "1 process" for n in processes))]
    for network, size in settings:
        cells = (f"{divided_seconds(Setting(101, network, size), c, n):,.1f}" for n in processes)
        rows.append((network, str(size), *cells))
    return table(rows)


def constants_table(c: Constants) -> str:
    """Milliseconds a piece, by size."""
    rows = [
        (
            "pixels",
            "generator pass",
            "an update of 128",
            "vary",
            *(f"{n} {k}" for n in c.answer_s for k in ("pass", "answer", "read")),
        )
    ]
    for size in SIZES:
        cells = [c.generator_pass_s, c.update_s, c.vary_s]
        cells += [t[n] for n in c.answer_s for t in (c.teacher_pass_s, c.answer_s, c.read_s)]
        rows.append((str(size), *(f"{1000 * points[size]:.3g}" if size in points else "-" for points in cells)))
    return table(rows)


def show(constants: Constants, lines: list[dict[str, Any]]) -> None:
    """All tables."""
    print(json.dumps(constants.machine))
    print(json.dumps(constants.more, indent=1))
    for title, text in (
        ("milliseconds an image", constants_table(constants)),
        ("predicted and measured", checked_table(lines)),
        ("by models", beyond_table(constants)),
        ("by size", sizes_table(constants)),
        ("by processes", divided_table(constants)),
    ):
        print(f"\n{title}\n\n{text}")


def write(path: Path, constants: Constants, lines: list[dict[str, Any]]) -> None:
    """Constants and runs."""
    about = {"schema": 1, "name": "cost", "kind": "constants", "constants": asdict(constants)}
    path.write_text("".join(json.dumps(line) + "\n" for line in [about, *lines]))


def read(path: Path = RESULTS) -> tuple[Constants, list[dict[str, Any]]]:
    """Constants and runs of a results file."""
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    (constants,) = (line["constants"] for line in lines if line["kind"] == "constants")
    return Constants.of(constants), [line for line in lines if line["kind"] == "check"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=MODELS, help="zoos to run")
    parser.add_argument("--opening", type=int, nargs="*", default=[100_000], help="further indices to open, no models")
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after one that is not")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--keep-constants", action="store_true", help="take pieces and other runs from the results file"
    )
    parser.add_argument("--tables", action="store_true", help="of the results file; measure nothing")
    args = parser.parse_args()
    if not args.tables:
        import cost_measured

        with tempfile.TemporaryDirectory() as folder:
            old = read(args.results) if args.keep_constants else (cost_measured.constants(Path(folder)), [])
            write(args.results, *old)
            print(constants_table(old[0]), flush=True)
            lines = cost_measured.checks(Path(folder), old[0], args.models, args.opening, args.steps)
        labels = {line["label"] for line in lines}
        write(args.results, old[0], [line for line in old[1] if line["label"] not in labels] + lines)
    show(*read(args.results))


if __name__ == "__main__":
    main()
