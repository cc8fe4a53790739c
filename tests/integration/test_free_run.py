"""FREE through a run: the same bits after a stop, and from a zoo to predictions."""

import json
import os
import signal

import pytest
from small import FREE, make_data, make_zoo

from dfml import InputError, Run, Zoo, evaluate_run, load_predictor, save_predictor, train
from dfml.runs.loop import Stopped
from dfml.zoo import write_index
from toys import toy_teacher


def tree(run):
    return run.folder.checkpoints.latest()["state"]


def lines(run):
    return [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in run.folder.metrics()]


def same(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool((a == b).all()) if hasattr(a, "shape") else a == b


@pytest.fixture(scope="module")
def run(zoo_path, tmp_path_factory):
    return train(zoo_path, out=tmp_path_factory.mktemp("whole") / "run", recipe="free", steps=6, overrides=FREE)


@pytest.mark.parametrize("step", [1, 4])
def test_stopped_and_resumed_free_has_the_same_bits(run, zoo_path, tmp_path, step):
    def stop(update):
        if update.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(zoo_path, out=tmp_path / "run", recipe="free", steps=6, overrides=FREE, on_progress=stop)
    resumed = train(zoo_path, out=tmp_path / "run", steps=6, resume=True)
    assert lines(resumed) == lines(run)
    assert same(tree(resumed), tree(run))


def test_every_alignment_step_moves_the_shipped_model(run):
    """The outer optimiser still owns the model's parameters after functional calls: one count a round after warm-up."""
    counts = {int(s["step"]) for s in tree(run)["outer"]["state"].values()}
    assert counts == {5 * run.method.rounds}


def test_from_a_zoo_to_predicted_labels(run, data_path, tmp_path):
    again = Run.open(run.path)
    scores = evaluate_run(again, data_path, shots=(1, 3), queries=5, episodes=20, baselines=True)
    assert [name for name, _, _ in scores.rows][3] == "free"
    assert scores.rows[4][1] == 4
    result = json.loads((run.path / "result.json").read_text())["results"]
    assert [row["shot"] for row in result] == [1, 3]
    assert {"inductive", "transductive"} == set(result[0]["accuracy"])
    assert result[0]["zoo"]["hash"] == Zoo.open(run.zoo.path).hash
    assert result[0]["images_recovered"] > 0
    classifier = again.adapt(data_path / "test")
    save_predictor(classifier.predictor, tmp_path / "predictor", classifier.class_names)
    files = sorted((data_path / "test").glob("*/8.png"))
    answer = load_predictor(tmp_path / "predictor").predict_files(files)
    assert answer.labels == classifier.predict_files(files).labels
    assert sum(label == path.parent.name for label, path in zip(answer.labels, files, strict=True)) >= 2


def test_pictures(run, tmp_path):
    assert {p.name for p in run.folder.plots.glob("*.png")} >= {"losses.png", "pseudo_val.png"}
    paths = run.recover(tmp_path / "sheets", teachers=["toy-0", "toy-1"])
    assert [p.name for p in paths] == ["toy-0.png", "toy-1.png", "overview.png"]
    assert all(p.stat().st_size > 2000 for p in paths)


def test_the_overview_says_how_many_teachers_it_leaves_out(run, tmp_path, monkeypatch):
    titles = {}

    def drawn(sheets, path, title="", **_):
        titles[path.name] = title
        return path

    monkeypatch.setattr("dfml.runs.run.contact_sheet", drawn)
    run.recover(tmp_path, teachers=["toy-0", "toy-1"])
    assert titles == {"toy-0.png": "", "toy-1.png": "", "overview.png": "2 of 4 teachers"}
    run.recover(tmp_path)
    assert titles["overview.png"] == ""


def test_a_known_class_in_the_evaluation_is_refused(run, tmp_path):
    data = make_data(tmp_path / "data", prefix="known", images=4)
    with pytest.raises(InputError, match="share"):
        evaluate_run(run, data, split="val", shots=(1,), episodes=2)


def test_too_few_classes_or_images(run, data_path):
    with pytest.raises(InputError, match="5 classes"):
        evaluate_run(run, data_path, way=6, shots=(1,), episodes=2)
    with pytest.raises(InputError, match=r"images"):
        evaluate_run(run, data_path, shots=(20,), episodes=2)


def test_baselines_run_through_the_same_commands(zoo_path, data_path, tmp_path):
    recipe = tmp_path / "ensemble.toml"
    recipe.write_text('[run]\nsteps = 1\n[method]\nname = "zoo_ensemble"\n')
    run = train(zoo_path, out=tmp_path / "run", recipe=recipe)
    assert (
        evaluate_run(Run.open(run.path), data_path, shots=(1,), queries=5, episodes=5, transductive=False).networks == 4
    )
    with pytest.raises(InputError, match="recovers no images"):
        run.recover(tmp_path / "sheets")


def test_another_zoo_is_refused(run, tmp_path):
    folder = make_zoo(tmp_path / "other")
    teacher = toy_teacher("toy-0", ("known-0", "known-1", "known-2"), seed=9)
    Zoo.write_model(folder, teacher.card, teacher.network)
    write_index(folder, name="toys", shared_classes=True)
    with pytest.raises(InputError, match="the zoo of the run"):
        _ = Run.open(run.path, zoo=folder).state
    with pytest.raises(InputError, match="belongs to another run"):
        train(folder, out=run.path, resume=True, steps=6)
