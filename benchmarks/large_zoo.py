"""Large zoos for benchmarks and tests: real Conv4 models with random weights, written quickly.

    python benchmarks/large_zoo.py OUT --models 10000 [--classes 64 | --own-classes]

Nothing about speed or memory depends on what the weights know, so a handful of weight files serves any number of
models: each model has its own card and its own name for one of these files (a hard link where the disk knows them).
"""

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.zoo import ModelCard, Zoo
from dfml.zoo.index import Entry, Index

DISTINCT = 8  # weight files
WAY = 5  # classes of a model


def write_large_zoo(
    folder: Path, *, models: int, classes: int = 64, shared: bool = True, width: int = 32, size: int = 32, seed: int = 0
) -> Path:
    """Write a zoo of Conv4 models that know 5 classes each; returns the folder.

    Args:
        folder: new or empty.
        models: how many.
        classes: of the zoo, where models share them.
        shared: draw a model's classes from ``classes`` shared ones; else every model has five of its own.
        width: channels of the networks.
        size: height and width of their images.
        seed: decides weights and classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    spec = InputSpec(size=size)
    originals = [_write_original(folder, f"weights-{k}", width, spec, seed + k) for k in range(min(DISTINCT, models))]
    entries, names = [], {}
    for number in range(models):
        drawn = torch.randperm(classes, generator=generator)[:WAY].tolist() if shared else range(WAY)
        own = tuple(f"class-{c}" if shared else f"class-{number}-{c}" for c in drawn)
        names |= {c: c for c in own}
        card = replace(originals[number % len(originals)], id=f"model-{number:05d}", class_names=own, class_ids=own)
        _link(folder / f"weights-{number % len(originals)}.safetensors", folder / f"{card.id}.safetensors")
        (folder / f"{card.id}.json").write_text(card.to_json())
        entries.append(Entry(card.id, card.source, own, card.sha256, card.accuracy, card.input_spec))
    for original in originals:
        for ending in ("json", "safetensors"):
            (folder / f"{original.id}.{ending}").unlink()
    Index(f"large-{models}", shared, {"seed": seed}, dict(sorted(names.items())), tuple(entries)).write(folder)
    return folder


def _write_original(folder: Path, name: str, width: int, spec: InputSpec, seed: int) -> ModelCard:
    """A random network whose BatchNorm has met random images, so that its answers are finite and vary."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = Classifier(build_backbone("conv4", image_size=spec.size, width=width), WAY).train()
        for _ in range(20):
            network(spec.normalise(torch.rand(16, spec.channels, spec.size, spec.size)))
    words = tuple(f"class-{c}" for c in range(WAY))
    accuracy = {"mean": 80.0, "ci95": 5.0, "n": 100}
    return Zoo.write_model(
        folder, ModelCard(name, "dfml:conv4", words, words, spec, "", {"width": width}, accuracy), network.eval()
    )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links on this disk, or too many of one file
        shutil.copyfile(source, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=64)
    parser.add_argument("--own-classes", action="store_true", help="no class stands in two models")
    args = parser.parse_args()
    write_large_zoo(args.out, models=args.models, classes=args.classes, shared=not args.own_classes)


if __name__ == "__main__":
    main()
