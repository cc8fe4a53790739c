"""A run goes on with a zoo that more models have joined: nothing is lost, and the new ones are learned too."""

import json
import os
import shutil
import signal

import pytest
import torch
from test_consolidate_run import QUICK

from dfml import Zoo, train
from dfml.errors import InputError
from dfml.runs.growing import joined
from dfml.runs.loop import Stopped
from dfml.training.answers import was_asked
from dfml.zoo.index import INDEX

MORE = {"method.validation_teachers": 1, "method.answering_teachers": None}


@pytest.fixture
def grown(zoo_path, tmp_path):
    """A zoo of all but two models, and the whole, in folders of their own."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    for place in (whole, part):
        shutil.copytree(zoo_path, place)
    index = json.loads((part / INDEX).read_text())
    Zoo.open(whole)
    index["models"] = index["models"][:-2]
    index.pop("seal", None)
    (part / INDEX).write_text(json.dumps(index))
    return part, whole


def start(zoo, out, steps=2, **more):
    return train(zoo, out=out, recipe="fast", steps=steps, overrides=QUICK | MORE | more)


def test_models_that_join_get_heads_and_are_asked_about_kept_images_too(grown, tmp_path):
    part, whole = grown
    before = start(part, tmp_path / "run")
    heads, held = before.state.student.backbone.heads.weight.detach().clone(), len(before.state.bank)
    ids, kept = list(before.state.answering.outputs_of), before.state.bank.answers[:held].clone()
    run = train(whole, out=tmp_path / "run", steps=3, resume=True)
    state, new = run.state, [i for i in Zoo.open(whole).ids if i not in Zoo.open(part).ids]
    assert list(state.answering.outputs_of) == [*ids, *new]
    assert state.backlog == 0
    assert torch.equal(state.bank.answers[:held, : kept.shape[1]], kept), "old answers stay"
    assert was_asked(state.bank.answers[:held]).all(), "new models answered on what was kept"
    asked = Zoo.open(whole).teacher(new[0]).answers(state.bank.images[:held]).half()
    torch.testing.assert_close(
        state.bank.answers[:held, state.answering.columns_of[new[0]]], asked, atol=0.02, rtol=0.02
    )
    assert len(state.student.backbone.heads.weight) > len(heads)
    assert run.folder.about["changes"][-1]["key"] == "zoo"


def test_a_grown_run_stops_and_goes_on_to_the_same_bits(grown, tmp_path):
    part, whole = grown

    def stop(update):
        if update.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    learners = []
    for name in ("whole", "stopped"):
        start(part, out := tmp_path / f"run-{name}")
        if name == "stopped":
            with pytest.raises(Stopped):
                train(whole, out=out, steps=5, resume=True, on_progress=stop)
        run = train(whole, out=out, steps=5, resume=True)
        learners.append(run.learner.state_dict())
    assert learners[0].keys() == learners[1].keys()
    assert all(torch.equal(v, learners[1][k]) for k, v in learners[0].items())


def test_what_is_another_zoo_or_method_is_refused(grown, tmp_path):
    part, whole = grown
    run = start(whole, tmp_path / "run")
    with pytest.raises(InputError, match="belongs to another run"):
        train(part, out=run.path, steps=3, resume=True)  # models are gone
    assert joined(Zoo.open(whole), run.folder.about["zoo"]) == []
    free = {"images_per_class": 6, "warmup_steps": 0, "rounds": 1, "patience": 0, "latent": 8, "network.width": 4}
    train(part, out=tmp_path / "free", recipe="free", steps=1, overrides=free)
    with pytest.raises(InputError, match="FREE does not"):
        train(whole, out=tmp_path / "free", steps=2, resume=True)


def test_black_boxes_that_join_have_the_same_budget(grown, tmp_path):
    part, whole = grown
    options = QUICK | MORE | {"answers": "labels", "questions": 20, "drawn": 8, "method.validation_teachers": 0}
    train(part, out=tmp_path / "run", recipe="black_box", steps=1, overrides=options)
    run = train(whole, out=tmp_path / "run", steps=4, resume=True)
    assert run.state.questions.asked == dict.fromkeys(run.zoo.ids, 20)
    assert len(run.state.bank) == 20
