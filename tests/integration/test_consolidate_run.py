"""Consolidation through a run: the same bits after a stop, and from a zoo to predictions."""

import os
import signal

import pytest
import torch

from dfml import evaluate_run, load_predictor, save_predictor, train
from dfml.errors import InputError
from dfml.runs.loop import Stopped
from dfml.zoo import Capability

QUICK = {
    "method.images_per_class": 6,
    "method.updates": 3,
    "method.batch_size": 16,
    "method.validation_episodes": 2,
    "recovery.steps": 1,
    "recovery.latent": 8,
    "network.width": 4,
}


def test_a_stopped_run_goes_on_to_the_same_bits_through_a_checkpoint(zoo_path, tmp_path):
    whole = train(zoo_path, out=tmp_path / "whole", recipe="fast", steps=4, overrides=QUICK)

    def stop(update):
        if update.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(zoo_path, out=tmp_path / "run", recipe="fast", steps=4, overrides=QUICK, on_progress=stop)
    resumed = train(zoo_path, out=tmp_path / "run", steps=4, resume=True)
    weights = resumed.learner.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in whole.learner.state_dict().items())


def test_from_a_zoo_to_predicted_labels_with_the_default_recipe(zoo_path, data_path, tmp_path):
    run = train(zoo_path, out=tmp_path / "run", steps=3, overrides=QUICK)
    assert run.folder.config.recipe == "best"
    scores = evaluate_run(run, data_path, shots=(1,), queries=5, episodes=20, baselines=True)
    assert [name for name, _, _ in scores.rows][3] == "consolidate"
    classifier = run.adapt(data_path / "test")
    save_predictor(classifier.predictor, tmp_path / "predictor", classifier.class_names)
    files = sorted((data_path / "test").glob("*/8.png"))
    assert load_predictor(tmp_path / "predictor").predict_files(files).labels == classifier.predict_files(files).labels


def test_a_zoo_may_be_taken_for_black_boxes_and_results_say_so(zoo_path, data_path, tmp_path):
    options = QUICK | {"answers": "top1", "questions": 20, "drawn": 8}
    run = train(zoo_path, out=tmp_path / "run", recipe="black_box", steps=2, overrides=options)
    run = train(zoo_path, out=tmp_path / "run", steps=4, resume=True)
    (row,) = evaluate_run(run, data_path, shots=(1,), queries=5, episodes=20, baselines=True).results
    models = len(run.zoo)
    assert (row["answers"], row["uses_data"]) == ("top1", False)
    assert row["questions"] == {"in_all": 20 * models, "of_one_model": 20}
    assert row["teacher_queries"] == 20 * models
    assert Capability.GRADIENTS not in run.zoo.capabilities(run.zoo.ids[0])
    with pytest.raises(InputError, match="answers: 'top1' there, 'labels' here"):
        train(zoo_path, out=tmp_path / "run", steps=5, resume=True, overrides={"answers": "labels"})
    with pytest.raises(InputError, match="labels, top3"):
        train(zoo_path, out=tmp_path / "other", recipe="black_box", overrides={"answers": "much"})
