"""Does a student that chooses what to ask next learn more from as many questions?

    python reproduce/black_box/choice.py --zoo ZOO --data DATA --out RUNS [--rows unsure-1000 ...]

The recipe `black_box`, labels alone, but of each step's drawings four times as many are made, distorted and mixed, and
the student says which quarter is asked, once it has learned for a step:

- ``random``: the first quarter, as the recipe does;
- ``unsure``: whose answers of the student have the highest mean entropy;
- ``undecided``: on which the student and its moving average differ most, a cheap disagreement of two students;
- ``spread``: farthest-first by the student's features (Sener, Savarese, ICLR 2018, "Active learning for convolutional
  neural networks: a core-set approach"), so that answers are covered evenly;
- ``unsure and spread``: farthest-first among the half that it is least sure of.

Judged on *validation* classes. A line per (row, shot) goes to ``choice.jsonl``; lines that it has are left alone.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfml.data import load_data
from dfml.functional.divergences import grouped_log_softmax
from dfml.methods import METHODS, Consolidate
from dfml.methods.consolidate_state import ConsolidateState
from dfml.nn import Encoder, as_floats
from dfml.randomness import Rng
from dfml.recovery import Recovered
from dfml.runs.results import evaluate_run
from dfml.runs.train import train
from dfml.training.bank import as_bytes
from dfml.zoo import Zoo
from dfml.zoo.teacher import OnDemand

HERE, CANDIDATES, ASKING_STEPS, SHOTS = Path(__file__).parent, 4, 20, (1, 5)
Criterion = Callable[[ConsolidateState, Tensor, int], Tensor]  # which of these images are asked


def entropy(state: ConsolidateState, images: Tensor) -> Tensor:
    """Mean over the heads of the student's moving average, for each image."""
    log_p = _log_answers(state.average, images)
    return -(log_p.exp() * log_p).sum(-1)


def unsure(state: ConsolidateState, images: Tensor, wanted: int) -> Tensor:
    return entropy(state, images).topk(wanted).indices


def undecided(state: ConsolidateState, images: Tensor, wanted: int) -> Tensor:
    average, now = (_log_answers(network, images) for network in (state.average, state.student))
    return (average.exp() * (average - now)).sum(-1).topk(wanted).indices


def spread(state: ConsolidateState, images: Tensor, wanted: int) -> Tensor:
    features = F.normalize(_features(state.average, images), dim=-1)
    chosen, near = [0], torch.full((len(features),), -torch.inf)
    for _ in range(wanted - 1):
        near = torch.maximum(near, features @ features[chosen[-1]])
        near[chosen[-1]] = torch.inf
        chosen.append(int(near.argmin()))
    return torch.tensor(chosen)


def unsure_and_spread(state: ConsolidateState, images: Tensor, wanted: int) -> Tensor:
    half = unsure(state, images, len(images) // 2)
    return half[spread(state, images[half], wanted)]


def random(state: ConsolidateState, images: Tensor, wanted: int) -> Tensor:
    return torch.arange(wanted)


CRITERIA: dict[str, Criterion] = {
    "random": random,
    "unsure": unsure,
    "undecided": undecided,
    "spread": spread,
    "unsure-and-spread": unsure_and_spread,
}
ROWS = [f"{criterion}-{questions}" for questions in (1000, 10_000) for criterion in CRITERIA]


@torch.no_grad()
def _log_answers(network: Encoder, images: Tensor) -> Tensor:
    network.eval()
    logits = [network.backbone.logits(network.spec.normalise(batch)) for batch in images.split(500)]
    return grouped_log_softmax(torch.cat(logits), network.backbone.sizes)


@torch.no_grad()
def _features(network: Encoder, images: Tensor) -> Tensor:
    network.eval()
    return torch.cat([network(batch) for batch in images.split(500)])


def choosing(criterion: Criterion) -> type[Consolidate]:
    """`Consolidate` that draws more than it asks about."""

    class Choosing(Consolidate):
        def _ask(self, state: ConsolidateState, teachers: OnDemand, recovered: list[Recovered], rng: Rng) -> None:
            wanted, variation = self.variation.drawn, self.variation
            more = type(variation)(**{**vars(variation), "drawn": CANDIDATES * wanted})
            images = as_bytes(more(recovered, state.student.spec, rng))
            rule = criterion if state.updates else random
            images = images[rule(state, as_floats(images), wanted)]
            self.variation = lambda *_: as_floats(images)
            super()._ask(state, teachers, recovered, rng)
            self.variation = variation

    return Choosing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder of run folders; not in the repository")
    parser.add_argument("--rows", nargs="*", default=ROWS, choices=ROWS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, data, path = Zoo.open(args.zoo), load_data(args.data), HERE / "choice.jsonl"
    lines: list[dict[str, Any]] = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    for name in args.rows:
        if any(line["name"] == name for line in lines):
            continue
        criterion, questions = name.rsplit("-", 1)
        METHODS["consolidate"] = choosing(CRITERIA[criterion])
        drawn = -(-int(questions) // ASKING_STEPS)
        options = {"run.threads": 1, "answers": "labels", "questions": int(questions), "drawn": drawn}
        folder = args.out / f"choice-{name}"
        resume = (folder / "config.json").exists()
        run = train(zoo, out=folder, recipe="black_box", overrides=options, resume=resume)
        for row in evaluate_run(run, data, split="val", shots=SHOTS, transductive=False).results:
            kept = {key: row[key] for key in ("shot", "split", "episodes", "questions", "cpu_seconds", "commit")}
            lines.append({"schema": 1, "name": name, "zoo": zoo.hash, **kept, "accuracy": row["accuracy"]["inductive"]})
            with path.open("a") as file:  # others may write there, too
                file.write(json.dumps(lines[-1]) + "\n")
    print("| row | 1-shot | 5-shot |\n|---|---|---|")
    for name in dict.fromkeys(line["name"] for line in lines):
        scores = [line["accuracy"] for line in lines if line["name"] == name]
        print("|", " | ".join([name, *(f"{s['mean']:.1f} ± {s['ci95']:.1f}" for s in scores)]), "|")


if __name__ == "__main__":
    main()
