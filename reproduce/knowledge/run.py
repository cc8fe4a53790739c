"""Where does the knowledge get lost? The same student for the same updates, on images of different kinds.

    python reproduce/knowledge/run.py --zoo ZOO --data DATA [--cells NAME ...]

Every teacher of the zoo answers on the same number of images; a student learns the answers as `Consolidate` does and is
judged by nearest centroids on *validation* classes. Lines go to ``results.jsonl``.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dfml.bank import as_bytes, as_floats
from dfml.data import DataSplits, load_data
from dfml.evaluate import evaluate
from dfml.functional.augmentation import distort_images, mix_images, shift_and_flip
from dfml.manifest import make_manifest
from dfml.methods.consolidate import Consolidate
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.zoo import Zoo

IMAGES, PER_VISIT, UPDATES, ROUNDS = 12_800, 100, 1500, 50
HERE = Path(__file__).parent


def real(zoo: Zoo, data: DataSplits) -> Tensor:
    """The classes that the teachers were trained on: not data-free, the upper end."""
    return _some(data.train.images)


def glyphs(zoo: Zoo, data: DataSplits) -> Tensor:
    """Images of another domain."""
    return _some(load_data("glyphs").train.images)


def _some(images: Tensor) -> Tensor:
    return as_floats(images[torch.randint(len(images), (IMAGES,), generator=Rng(0).generator("images"))])


def noise(zoo: Zoo, data: DataSplits) -> Tensor:
    """Coloured noise, coarse and fine, as natural images have more of the coarse."""
    g, size = Rng(0).generator("noise"), (zoo.input_spec.size,) * 2
    octaves = (torch.randn(IMAGES, 3, k, k, generator=g) * k**-0.7 for k in (2, 4, 8, 16, 32))
    return (0.5 + 0.25 * sum(F.interpolate(o, size, mode="bicubic") for o in octaves)).clamp(0, 1)


def recovered(zoo: Zoo, data: DataSplits) -> Tensor:
    """What the meta-generator shows while it learns, one teacher after the other."""
    recovery, labels = MetaGenerator(), torch.arange(5).repeat(PER_VISIT // 5)
    recovery.prepare(zoo.input_spec, Rng(0))
    shown = []
    for visit in range(IMAGES // PER_VISIT):
        rng = Rng(0).at("visit", visit)
        teacher = zoo.teacher(zoo.ids[torch.randint(len(zoo), (1,), generator=rng.generator("teacher")).item()])
        shown.append(recovery.recover([teacher], [labels], rng=rng)[0].images)
    return torch.cat(shown)


KINDS = {"noise": noise, "glyphs": glyphs, "recovered": recovered, "real": real}
CELLS = {f"{kind}{'' if varied else '-plain'}": (kind, varied) for kind in KINDS for varied in (True, False)}


def student(zoo: Zoo, images: Tensor, *, varied: bool) -> tuple[Consolidate, object, float]:
    """Ask all teachers, learn; the method, its state and the last divergence."""
    images = shift_and_flip(images, Rng(0).generator("augment"))
    if varied:
        images = distort_images(images, Rng(0).generator("distort"), strength=1.6)
        images = mix_images(images, Rng(0).generator("mix"), share=0.6)
    method = Consolidate(recovery=MetaGenerator(), validation_teachers=0, updates=UPDATES // ROUNDS, capacity=IMAGES)
    state = method.init(zoo, Rng(0))
    for batch in as_bytes(images).split(2000):
        state.bank.add(batch, torch.cat([zoo.teacher(t).answers(as_floats(batch)) for t in state.committee], -1))
    for r in range(ROUNDS):
        state.progress = r / ROUNDS  # of the step size's schedule
        divergence = method.learn(state, Rng(1).at(r))
    return method, state, divergence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo, data, path = Zoo.open(args.zoo), load_data(args.data), HERE / "results.jsonl"
    for name in args.cells:
        kind, varied = CELLS[name]
        method, state, divergence = student(zoo, KINDS[kind](zoo, data), varied=varied)
        row = {"cell": name, "images": IMAGES, "updates": UPDATES, "zoo": zoo.hash, "divergence": round(divergence, 4)}
        for shot in (1, 5):
            manifest = make_manifest(data.val, way=5, shot=shot, episodes=10_000, split="val")
            score = evaluate(method.learner(state), data.val, manifest)
            row |= {f"val_{shot}shot": round(score.mean, 2), f"ci95_{shot}shot": round(score.ci95, 2)}
        print(json.dumps(row), flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
