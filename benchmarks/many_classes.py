"""Teachers of 1,000 classes: a zoo of 200 of them within 4 GB, and what a visit costs beside one to five classes.

    python benchmarks/many_classes.py            # a few minutes on 2 cores; appends to benchmarks/many_classes.jsonl

Every model has classes of its own, 200,000 in all, which is the worst case: nothing can be shared.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from dfml import train
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.zoo import ModelCard, Zoo, write_index

SPEC = InputSpec(size=32)
SETTINGS = {"images_per_class": 10, "updates": 20, "width": 32, "validation_teachers": 1}


def network(classes: int, seed: int = 0) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Classifier(build_backbone("conv4", image_size=SPEC.size, width=32), classes).train()
        with torch.no_grad():
            for _ in range(5):
                made(SPEC.normalise(torch.rand(32, *SPEC.shape)))
        return made.eval()


def make(folder: Path, models: int, classes: int) -> None:
    """So many cards over the weights of one network."""
    names = tuple(f"class {c}" for c in range(classes))
    card = ModelCard("m000", "dfml:conv4", names, tuple(f"m000/{n}" for n in names), SPEC, "", {"width": 32})
    card = Zoo.write_model(folder, card, network(classes))
    for number in range(1, models):
        name = f"m{number:03}"
        other = replace(card, id=name, class_ids=tuple(f"{name}/{n}" for n in names), stored_hash="")
        (folder / f"{name}.json").write_text(other.to_json())
        os.link(folder / "m000.safetensors", folder / f"{name}.safetensors")
    write_index(folder, name="many", shared_classes=True)


def visits(repeats: int) -> dict[str, float]:
    """Seconds of a visit to teachers of 5 and of 1,000 classes, 100 images of 5 classes, side by side."""
    seconds: dict[int, list[float]] = {5: [], 1000: []}
    with tempfile.TemporaryDirectory() as place:
        for classes in seconds:
            make(Path(place) / str(classes), 1, classes)
        zoos = {classes: Zoo.open(Path(place) / str(classes)) for classes in seconds}
        recovery = MetaGenerator(adversarial_weight=0.0)
        states = {classes: recovery.init(SPEC, Rng(0)) for classes in seconds}
        for _ in range(repeats + 1):
            for classes, zoo in zoos.items():
                visit = [Visit(zoo.teacher("m000"), torch.arange(5).repeat(20))]
                start = time.perf_counter()
                recovery.recover(states[classes], visit, rng=Rng(0))
                seconds[classes].append(time.perf_counter() - start)
    few, many = (statistics.median(seconds[classes][1:]) for classes in (5, 1000))
    return {"visit_5_s": round(few, 4), "visit_1000_s": round(many, 4), "ratio": round(many / few, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    row = {"schema": 1, "models": given.models, "classes": given.classes, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if (pid := os.fork()) == 0:  # so that making the zoo is not counted
            make(folder / "zoo", given.models, given.classes)
            os._exit(0)
        os.waitpid(pid, 0)
        row["index_mb"] = round((folder / "zoo" / "zoo.json").stat().st_size / 2**20, 1)
        start = time.perf_counter()
        zoo = Zoo.open(folder / "zoo")
        row["open_s"] = round(time.perf_counter() - start, 2)
        start = time.perf_counter()
        run = train(zoo, recipe="fast", out=folder / "run", steps=given.steps, overrides=SETTINGS)
        row["train_s"] = round(time.perf_counter() - start, 1)
        start = time.perf_counter()
        support = torch.rand(25, *SPEC.shape)
        run.learner.adapt(support, torch.arange(5).repeat(5))(support)
        row["adapt_s"] = round(time.perf_counter() - start, 2)
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row |= visits(given.repeats)
    print(json.dumps(row))
    with (Path(__file__).parent / "many_classes.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
