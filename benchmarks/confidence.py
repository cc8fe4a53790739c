"""What probabilities and *none of these* are worth: tasks of five classes, all other images of these as queries.

    python benchmarks/confidence.py RUN DATA.npz... [--shots 1 2 5 20] [--tasks 100] [--reject 0.1] [--head centroid]

Of each data set and number of shots it prints: accuracy; the expected calibration error over all queries of all tasks,
before and after calibration, and the mean of each task's own, after; and the share of images turned away, of the
task's classes and of up to five others.
"""

import argparse

import torch
import torch.nn.functional as F

from dfml import load, load_images
from dfml.functional.temperature import calibration_error
from dfml.learners.base import Predictor, embed
from dfml.learners.confidence import left_out_of_heads, made_sure
from dfml.learners.frozen import FrozenLearner
from dfml.nn import as_floats

WAY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 20])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--reject", type=float, default=0.1)
    parser.add_argument("--head", choices=["centroid", "ridge", "logistic"], help="in the place of the learner's own")
    given = parser.parse_args()
    learner = load(given.run)
    assert isinstance(learner, FrozenLearner), "a learner whose networks stay as they are"
    learner.head = given.head or learner.head
    for data in given.data:
        images = load_images(data)
        with torch.no_grad():
            batches = [embed(learner.networks, as_floats(batch)) for batch in images.images.split(128)]
        for shots in given.shots:
            print(data, f"{shots}-shot", judged(learner, torch.cat(batches), images.members, shots, given), flush=True)


def judged(learner: FrozenLearner, features, members, shots: int, given: argparse.Namespace) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    before, after, wanted, alone, known, strange = [], [], [], [], [], []
    for _ in range(given.tasks):
        classes = torch.randperm(len(members), generator=generator).tolist()
        own = [members[c][torch.randperm(len(members[c]), generator=generator)] for c in classes[:WAY]]
        support = features[torch.cat([images[:shots] for images in own])]
        labels = torch.arange(WAY).repeat_interleave(shots)
        weight, bias = learner.linear(support, labels)
        reject = given.reject if shots > 1 else None
        answered = left_out_of_heads(learner, support, labels)
        sure = made_sure(Predictor(learner.networks, weight, bias), *answered, reject=reject)
        head = (sure.predictor.weight, sure.predictor.bias)
        queries = torch.cat([features[images[shots:]] for images in own])
        truth = torch.cat([torch.full((len(images) - shots,), i) for i, images in enumerate(own)])
        logits = F.linear(queries, *head)
        before.append(F.linear(queries, weight, bias).softmax(-1))
        after.append(logits.softmax(-1))
        wanted.append(truth)
        alone.append(calibration_error(after[-1], truth))
        if sure.floor is not None:
            others = features[torch.cat([members[c] for c in classes[WAY : 2 * WAY]])]
            known.append((logits.max(-1).values < sure.floor).float())
            strange.append((F.linear(others, *head).max(-1).values < sure.floor).float())
    raw, mended, truth = torch.cat(before), torch.cat(after), torch.cat(wanted)
    values = {"accuracy": 100 * float((mended.argmax(-1) == truth).float().mean())}
    values |= {"error before": calibration_error(raw, truth), "error after": calibration_error(mended, truth)}
    values["error of a task"] = sum(alone) / len(alone)
    if known:
        values |= {"known turned away": 100 * float(torch.cat(known).mean())}
        values |= {"others turned away": 100 * float(torch.cat(strange).mean())}
    return {name: round(value, 1) for name, value in values.items()}


if __name__ == "__main__":
    main()
