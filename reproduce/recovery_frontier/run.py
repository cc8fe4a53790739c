"""The quality-time frontier of recovery: what a fixed student learns from a minute of each way to recover.

    python reproduce/recovery_frontier/run.py --zoo ZOO --data DATA [--seconds 60] [--cells NAME ...]

Each cell recovers for the same time from the first 20 teachers (meta-training of the generator included, one thread),
then the same student is distilled for the same number of steps on what was recovered: every step six random teachers
answer on all images of the batch, true KL, Adam with one cycle of the learning rate, shifts and flips. The student is
judged by nearest centroids on *validation* classes. Lines go to ``results.jsonl``, the plot to ``frontier.png``.
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib
import torch
from torch import nn

from dfml.bank import Bank
from dfml.data import load_data
from dfml.evaluate import evaluate
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.divergences import kl_divergence
from dfml.functional.priors import batchnorm_norms
from dfml.learners import FrozenLearner
from dfml.manifest import make_manifest
from dfml.nn import Encoder, build_backbone
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.zoo import Zoo

TEACHERS, PER_VISIT, PER_CLASS = 20, 4, 20
STUDENT_STEPS, BATCH, ANSWERING = 300, 128, 6
HERE = Path(__file__).parent
CELLS = {
    f"{generator}-bn{weight:g}": {"generator": generator, "bn_weight": weight}
    for generator in ("pixelshuffle", "published")
    for weight in (0.0, 1.0, 10.0)
}


def winner_steps(winner: str) -> dict[str, dict]:
    """The winner with 2 and with 10 inner steps; the meta step size stays steps x lr."""
    return {f"{winner}-steps{k}": CELLS[winner] | {"steps": k, "lr": lr} for k, lr in ((2, 5e-3), (10, 2e-3))}


def recover(zoo: Zoo, options: dict, seconds: float) -> tuple[Bank, dict]:
    """Visit random teachers until the time is up; the bank holds everything that was shown."""
    recovery = MetaGenerator(adversarial_weight=0.0, **options)
    recovery.prepare(zoo.input_spec, Rng(0))
    rows = {c: i for i, c in enumerate(zoo.class_ids)}
    bank = Bank(classes=len(rows), capacity=4000, shape=(3, zoo.input_spec.size, zoo.input_spec.size))
    labels, visits, start, in_class, distance = torch.arange(5).repeat(PER_CLASS), 0, time.perf_counter(), [], []
    while time.perf_counter() - start < seconds:
        rng = Rng(0).at("visit", visits)
        chosen = torch.randperm(TEACHERS, generator=rng.generator("choose"))[:PER_VISIT].tolist()
        teachers = [zoo.teacher(zoo.ids[i]) for i in chosen]
        for i, shown in zip(chosen, recovery.recover(teachers, [labels] * PER_VISIT, rng=rng), strict=True):
            classes = torch.tensor([rows[c] for c in zoo.cards[zoo.ids[i]].class_ids])
            bank.add(shown.images, classes[shown.labels], i)
        visits += PER_VISIT
    used = time.perf_counter() - start
    for teacher in teachers:
        (shown,) = recovery.recover([teacher], [labels], rng=Rng(1), learn=False)
        with torch.no_grad(), teacher.capture() as statistics:
            in_class.append(float((teacher.logits(shown.images).argmax(-1) == labels).float().mean()))
        distance.append(float(batchnorm_norms(statistics)))
    quality = {"in_class": 100 * sum(in_class) / PER_VISIT, "statistics_distance": sum(distance) / PER_VISIT}
    return bank, {"visits": visits, "images": visits * len(labels), "seconds": round(used, 1)} | quality


def distil(zoo: Zoo, bank: Bank, seed: int = 0) -> Encoder:
    """The fixed student."""
    torch.manual_seed(seed)
    spec, teachers = zoo.input_spec, [zoo.teacher(i) for i in zoo.ids[:TEACHERS]]
    encoder = Encoder(build_backbone("conv4", image_size=spec.size), spec)
    heads = nn.Linear(encoder.feature_size, 5 * TEACHERS)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=5e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=STUDENT_STEPS)
    classes = torch.repeat_interleave(torch.arange(len(bank.counts)), bank.counts)
    slots = torch.cat([torch.arange(int(n)) for n in bank.counts])
    for step in range(STUDENT_STEPS):
        g = Rng(seed).generator("student", step)
        pick = torch.randint(len(slots), (BATCH,), generator=g)
        images = shift_and_flip(bank.read(classes[pick], slots[pick]), g)
        answering = torch.randperm(TEACHERS, generator=g)[:ANSWERING].tolist()
        with torch.no_grad():
            targets = [teachers[t].logits(images) for t in answering]
        answers = heads(encoder(images)).view(BATCH, TEACHERS, 5)
        loss = torch.stack([kl_divergence(y, answers[:, t]) for t, y in zip(answering, targets, strict=True)]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return encoder.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cells", nargs="*", help="names; default all that results.jsonl does not have")
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, val = Zoo.open(args.zoo), load_data(args.data).val
    manifests = {s: make_manifest(val, way=5, shot=s, episodes=10_000, split="val") for s in (1, 5)}
    path = HERE / "results.jsonl"
    done = {}
    if path.exists():
        done = {r["cell"]: r for r in map(json.loads, path.read_text().splitlines())}
    first = {n: r for n, r in done.items() if n in CELLS}
    extra = winner_steps(max(first, key=lambda n: first[n]["val_1shot"])) if len(first) == len(CELLS) else {}
    for name, options in (CELLS | extra).items():
        if (args.cells is not None and name not in args.cells) or (args.cells is None and name in done):
            continue
        bank, row = recover(zoo, options, args.seconds)
        learner = FrozenLearner([distil(zoo, bank)])
        for shot, manifest in manifests.items():
            score = evaluate(learner, val, manifest, norm="running")
            row |= {f"val_{shot}shot": round(score.mean, 2), f"ci95_{shot}shot": round(score.ci95, 2)}
        row = {"cell": name, "options": options, "student_steps": STUDENT_STEPS, "zoo": zoo.hash} | row
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        done[name] = row
    plot(list(done.values()))


def plot(rows: list[dict]) -> None:
    """Student accuracy against images recovered in the minute, a point per cell."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for row in rows:
        colour = "tab:blue" if row["options"]["generator"] == "pixelshuffle" else "tab:orange"
        seconds = 1000 * row["seconds"] / row["images"]
        axes.errorbar(seconds, row["val_1shot"], yerr=row["ci95_1shot"], fmt="o", color=colour)
        axes.annotate(row["cell"], (seconds, row["val_1shot"]), fontsize=8, xytext=(5, 4), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="milliseconds per recovered image", ylabel="student, 5-way 1-shot on val classes (%)")
    axes.set_title(f"Recovery for {rows[0]['seconds']:.0f} s, then the same student for {STUDENT_STEPS} steps")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(HERE / "frontier.png", dpi=120)


if __name__ == "__main__":
    main()
