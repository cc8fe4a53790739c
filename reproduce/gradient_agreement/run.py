"""Do teachers agree on where the learner should go? Cosines between their gradients, at the end of runs of FREE.

    python reproduce/gradient_agreement/run.py --zoo ZOO RUNS/bn-adversarial-seed0 RUNS/average-seed0 ...

For each run: twenty teachers each answer on 100 images of the run's bank, the same for all teachers or each on images
of its own; the gradients of their distillation losses at the encoder's parameters are compared pair by pair. One line
a run goes to ``results.jsonl``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from dfml.functional.divergences import kl_divergence
from dfml.methods.free_published import PublishedFREE
from dfml.randomness import Rng
from dfml.runs.run import Run
from dfml.zoo import Zoo

TEACHERS, IMAGES, REPEATS = 20, 100, 5
SERIAL = Path(__file__).parent


def gradients(run: Run, rng: Rng, *, shared_images: bool) -> Tensor:
    """One flat gradient at the encoder for each of some random teachers."""
    state, method = run.state, run.method
    chosen = torch.randperm(len(run.zoo), generator=rng.generator("teachers"))[:TEACHERS].tolist()
    images = state.bank.sample(IMAGES, rng.generator("images"))
    parameters = {k: p for k, p in state.model.named_parameters() if k.startswith("encoder.")}
    flat = []
    for i in chosen:
        teacher = run.zoo.teacher(run.zoo.ids[i])
        if not shared_images:
            images = state.bank.sample(IMAGES, rng.generator("images", i))
        ways = len(teacher.card.class_ids)
        literal = isinstance(method, PublishedFREE)  # its one head is that of all teachers
        rows = torch.arange(ways) if literal else run.zoo.rows(teacher.card.id)
        with torch.no_grad():
            wanted = teacher.forward(images).logits
        logits = functional_call(state.model, parameters, (images, rows), tie_weights=False)
        loss = kl_divergence(wanted, logits)
        flat.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(parameters.values()))]))
    return torch.stack(flat)


def agreement(run: Run, *, shared_images: bool) -> dict[str, float]:
    """Mean cosine over pairs and the share of pairs that point apart, over several draws."""
    cosines = []
    for repeat in range(REPEATS):
        unit = torch.nn.functional.normalize(gradients(run, Rng(repeat), shared_images=shared_images), dim=1)
        cosines.append((unit @ unit.T)[torch.ones(TEACHERS, TEACHERS).triu(1).bool()])
    pairs = torch.cat(cosines)
    return {
        "cosine": round(float(pairs.mean()), 4),
        "negative_percent": round(100 * float((pairs < 0).float().mean()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--zoo", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, rows = Zoo.open(args.zoo), []
    for path in args.runs:
        run = Run.open(path, zoo=zoo)
        method = run.folder.config.sections["method"]
        row: dict[str, Any] = {"run": path.name, "method": method["name"], "alignment": method.get("alignment")}
        row |= {"steps": run.state.step, "zoo": zoo.hash}
        row |= {name: agreement(run, shared_images=name == "same_images") for name in ("same_images", "own_images")}
        print(json.dumps(row), flush=True)
        rows.append(row)
    (SERIAL / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
