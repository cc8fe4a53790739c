"""Every kind of file that dfml reads, one small one of each, with the way its command reads it."""

import shutil
from pathlib import Path

import numpy as np
import torch
from damage import Kind
from PIL import Image
from small import FREE

from dfml import train
from dfml.data import load_images
from dfml.data.pictures import read_picture
from dfml.evaluation.manifest import Manifest, make_manifest
from dfml.learners.learner_file import load_learner
from dfml.learners.predictor_file import adapt_to_folder, load_predictor, save_predictor
from dfml.runs.checkpoint import Checkpoints, save_tree
from dfml.runs.judged import read_judged
from dfml.runs.results import evaluate_run
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo
from dfml.zoo.loaders.paid import PaidAnswers, key_of

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def kinds(place: Path, made: Path) -> list[Kind]:
    """All of them.

    Args:
        place: holds the small zoo and data.
        made: takes what is made of them.
    """
    run = train(place / "zoo", out=made / "run", recipe="free", steps=2, overrides=FREE).path
    evaluate_run(Run.open(run), str(place / "data"), shots=(1,), way=3, queries=3, episodes=20)
    classifier = adapt_to_folder(load_learner(run), place / "data" / "val")
    save_predictor(classifier, made / "predictor")
    return [
        *_checkpoints(made, run),
        *_of_a_zoo(place / "zoo"),
        *_of_a_run(run),
        *_learners(run, made / "predictor"),
        *_images(place / "data", made),
        _paid(made),
    ]


def _checkpoints(made: Path, run: Path) -> list[Kind]:
    tree = {"state": {"a": torch.arange(6.0).reshape(2, 3), "b": (1, None)}, "step": 3, "totals": {1: True}}
    save_tree(tree, made / "small" / "step-00000003")
    found = []
    for name, folder in (("small checkpoint", made / "small"), ("checkpoint with a bank", run / "checkpoints")):
        checkpoints = Checkpoints(folder)
        for file in ("tensors.safetensors", "tree.json", "seal.json"):
            path = checkpoints.paths()[0] / file
            found.append(Kind(f"{name}: {file}", path, checkpoints.latest, named=path.parent.name))
    return found


def _of_a_zoo(folder: Path) -> list[Kind]:
    model = Zoo.open(folder).ids[0]

    def asked():
        zoo = Zoo.open(folder)
        teacher = zoo.teacher(model)
        return zoo.hash, zoo.cards_hash, zoo.ids, zoo.cards[model], teacher.forward(IMAGES.clone()).logits

    return [
        Kind("card", folder / f"{model}.json", asked, named=model),
        Kind("index of a zoo", folder / "zoo.json", asked),
        Kind("weights of a model", folder / f"{model}.safetensors", asked),
    ]


def _of_a_run(run: Path) -> list[Kind]:
    def opened():
        folder = RunFolder(run)
        about = {key: folder.about.get(key) for key in ("schema", "recipe", "recipe_hash", "config", "zoo", "changes")}
        return about, folder.threads, folder.identity(), folder.versions.get("torch")

    def judged():
        (one,) = read_judged([run])
        return one.results, one.per_episode, one.settings

    return [
        Kind("config.json", run / "config.json", opened),
        Kind("versions.json", run / "versions.json", opened),
        Kind("metrics.jsonl", run / "metrics.jsonl", lambda: RunFolder(run).metrics()),
        Kind("result.json", run / "result.json", judged),
        Kind("per_episode.npz", run / "per_episode.npz", judged),
    ]


def _learners(run: Path, predictor: Path) -> list[Kind]:
    def answers():
        classifier = load_predictor(predictor)
        return classifier.class_names, classifier.predict(IMAGES.clone()).probabilities, classifier.about

    def learned():
        learner = load_learner(run)
        return learner, learner.kind, learner.options, learner.norm, [encoder.spec for encoder in learner.networks]

    return [
        Kind("learner.json", run / "learner.json", learned, named="learner"),
        Kind("learner.safetensors", run / "learner.safetensors", learned, named="learner"),
        Kind("predictor.json", predictor / "predictor.json", answers, named="predictor"),
        Kind("predictor.safetensors", predictor / "predictor.safetensors", answers, named="predictor"),
    ]


def _images(data: Path, made: Path) -> list[Kind]:
    images = load_images(data / "test")
    arrays, manifest = made / "images.npz", made / "manifest.npz"
    np.savez_compressed(
        arrays,
        images=images.images.permute(0, 2, 3, 1).numpy(),
        labels=images.labels.numpy(),
        class_names=np.array(images.class_names),
    )
    np.savez(stored := made / "stored.npz", **dict(np.load(arrays)))
    make_manifest(images, way=3, shot=1, queries=2, episodes=5, split="test").save(manifest)
    picture = made / "picture.png"
    shutil.copy(next((data / "test").rglob("*.png")), picture)
    Image.open(picture).save(photograph := made / "photograph.jpg")

    def set_of(path: Path):
        def read():
            found = load_images(path)
            return found.images, found.labels, found.class_names

        return read

    def drawn():
        read = Manifest.load(manifest)
        return read.hash, read.name, read.split, read.seed, read.support, read.query

    return [
        Kind("arrays of images, compressed", arrays, set_of(arrays)),
        Kind("arrays of images, as they are", stored, set_of(stored)),
        Kind("manifest", manifest, drawn),
        Kind("PNG picture", picture, lambda: read_picture(picture, 3)),
        Kind("JPEG picture", photograph, lambda: read_picture(photograph, 3)),
    ]


def _paid(made: Path) -> Kind:
    path, keys = made / "paid.answers", [key_of((255 * image).byte().numpy()) for image in IMAGES]
    answers = np.arange(6, dtype=np.float32).reshape(2, 3)
    with (paid := PaidAnswers(path, "ab" * 32, 3)).alone():
        paid.add(keys, answers)

    def kept():
        with (read := PaidAnswers(path, "ab" * 32, 3)).alone():  # what is not there is asked for again
            found = zip(keys, answers, strict=True)
            return [(read.rows([key])[0] if key in read else answer).tolist() for key, answer in found]

    return Kind("paid answers", path, kept)
