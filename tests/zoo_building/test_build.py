import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from built_zoo import QUICK, build, splits
from dfml.data.image_set import ImageSet
from dfml.errors import InputError
from dfml.zoo import Zoo
from dfml.zoo_building.build import TrainingRecipe, zoo_progress, zoo_table
from dfml.zoo_building.plan import ZooPlan, input_spec


def weights(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.name != ".lock"}


def test_a_zoo_is_built_as_planned(tmp_path):
    told = []
    zoo = build(tmp_path / "zoo", on_model=lambda *values: told.append(values))
    assert zoo.ids == ["conv4-0", "conv4-1", "conv4-2"]
    assert [(done, of) for done, of, _ in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for card in zoo.cards.values():
        assert card.class_ids == tuple(f"toys/{name}" for name in card.class_names)
        assert card.accuracy["n"] == 3 * 4
        assert card.accuracy["mean"] > 60
        assert zoo.teacher(card.id).forward(torch.rand(2, 3, 16, 16)).logits.shape == (2, 3)
    assert zoo.canvas == input_spec(splits().train)
    assert zoo.index.shared_classes
    assert "/somewhere" not in "".join(p.read_text() for p in (tmp_path / "zoo").glob("*.json"))


def test_the_last_fifth_of_each_class_is_held_out():
    data = splits()
    plan = ZooPlan.make(data, "conv4", 3, 3, 0, 4, QUICK)
    task = plan.task(1)
    for label, c in enumerate(plan.classes(1)):
        own = task.labels == label
        members = data.train.members[c]
        assert torch.equal(torch.from_numpy(task.images[own & ~task.held_out]), data.train.images[members[:16]])
        assert torch.equal(torch.from_numpy(task.images[own & task.held_out]), data.train.images[members[16:]])


def test_the_reported_accuracy_is_that_of_the_rounded_weights(tmp_path):
    zoo = build(tmp_path / "zoo", models=1)
    task = ZooPlan.make(splits(), "conv4", 1, 3, 0, 4, QUICK).task(0)
    images = torch.from_numpy(task.images[task.held_out]).float() / 255
    right = zoo.teacher("conv4-0").forward(images).logits.argmax(-1) == torch.from_numpy(task.labels[task.held_out])
    assert zoo.cards["conv4-0"].accuracy["mean"] == pytest.approx(100 * right.float().mean().item(), abs=1e-2)


def test_processes_build_the_same_zoo_and_equal_seeds_give_equal_zoos(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here, other = build(tmp_path / "a"), build(tmp_path / "b", seed=1)
    finally:
        torch.set_num_threads(threads)
    there = build(tmp_path / "c" / "a", jobs=2)
    assert here.hash == there.hash
    assert here.recipe_hash == there.recipe_hash
    assert here.hash != other.hash
    assert here.recipe_hash != other.recipe_hash


SCRIPT = """
import os, signal, sys
from built_zoo import build
def kill(done, models, mean):
    if done == 2:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
if __name__ == "__main__":
    build(sys.argv[1], models=4, jobs=int(sys.argv[3]), on_model=kill)
"""


def run_script(tmp_path, *arguments: str) -> int:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    return subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True).returncode


def test_a_kill_loses_only_the_model_in_work(tmp_path):
    out = tmp_path / "zoo"
    assert run_script(tmp_path, str(out), "SIGKILL", "1") == -signal.SIGKILL
    before = weights(out)
    assert sorted(before) == ["conv4-0.json", "conv4-0.safetensors", "conv4-1.json", "conv4-1.safetensors", "zoo.json"]
    with pytest.raises(InputError, match="continues"):
        Zoo.open(out)
    (out / ".conv4-2.safetensors.1.tmp").write_bytes(b"cut")
    (out / "conv4-2.safetensors").write_bytes(b"cut")
    trained = []
    zoo = build(out, models=4, on_model=lambda done, models, mean: trained.append(done))
    assert trained == [2, 3, 4]
    assert weights(out) | {n: b for n, b in before.items() if n != "zoo.json"} == weights(out)
    assert zoo.hash == build(tmp_path / "whole", models=4).hash
    assert not list(out.glob(".*"))


def test_sigterm_ends_the_processes_and_leaves_a_zoo_of_what_is_done(tmp_path):
    out = tmp_path / "zoo"
    started = time.monotonic()
    assert run_script(tmp_path, str(out), "SIGTERM", "2") != 0
    assert time.monotonic() - started < 60
    assert 2 <= len(Zoo.open(out)) < 4
    assert len(build(out, models=4)) == 4


def test_what_is_amiss_is_rebuilt(tmp_path):
    build(tmp_path / "zoo")
    before = weights(tmp_path / "zoo")
    (tmp_path / "zoo" / "conv4-1.safetensors").write_bytes(b"garbled")
    (tmp_path / "zoo" / "conv4-2.json").unlink()
    build(tmp_path / "zoo")
    assert weights(tmp_path / "zoo") == before


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"seed": 1}, "seed"), ({"models": 4}, "models"), ({"training": TrainingRecipe(epochs=3)}, "training")],
)
def test_another_recipe_in_the_same_folder_is_refused(tmp_path, changes, word):
    build(tmp_path / "zoo", models=1)
    with pytest.raises(InputError, match=word):
        build(tmp_path / "zoo", **{"models": 1} | changes)
    with pytest.raises(InputError, match="data_hash"):
        build(tmp_path / "zoo", splits(per_class=10), models=1)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear zoo")
    with pytest.raises(InputError, match="no zoo"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("changes", "data", "words"),
    [
        ({"way": 7}, {}, "7 classes from 6"),
        ({"way": 1}, {}, "1 classes"),
        ({"models": 0}, {}, "0 models"),
        ({}, {"per_class": 4}, "4 images"),
        ({}, {"size": 8}, "image size 8"),
        ({"architecture": "vgg"}, {}, "vgg"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_folder_is_made(tmp_path, changes, data, words):
    with pytest.raises(InputError, match=words):
        build(tmp_path / "zoo", splits(**data), **changes)
    assert not (tmp_path / "zoo").exists()


def test_images_must_be_square():
    tall = ImageSet("tall", torch.zeros(9, 3, 20, 16).byte(), torch.zeros(9).long(), ("a",))
    with pytest.raises(InputError, match="20 x 16"):
        input_spec(tall)


def test_the_input_spec_is_the_mean_and_deviation_of_the_pixels():
    images = splits().train
    spec = input_spec(images)
    pixels = images.images.double() / 255
    assert spec.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert spec.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=1e-4)


def test_table_and_progress_bar_can_be_shown(tmp_path):
    with zoo_progress() as bar:
        zoo = build(tmp_path / "zoo", on_model=bar)
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(zoo_table(zoo))
    text = console.export_text()
    assert "3 models" in text
    assert "conv4-2" in text
    assert zoo.cards["conv4-1"].class_names[0] in text


def test_an_index_says_which_recipe_it_was(tmp_path):
    build(tmp_path / "zoo", models=1)
    recipe = json.loads((tmp_path / "zoo" / "zoo.json").read_text())["recipe"]
    assert recipe["seed"] == 0
    assert recipe["data"] == "toys"
    assert recipe["training"]["epochs"] == 8
