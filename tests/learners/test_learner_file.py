import json

import pytest
import torch

from dfml.errors import InputError
from dfml.files import sealed
from dfml.learners import LEARNERS
from dfml.learners.learner_file import has_learner, load_learner, save_learner
from dfml.nn import AnsweringBackbone


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_loaded_learner_adapts_to_the_same_bits(make_encoder, support, queries, tmp_path, kind):
    learner = LEARNERS[kind](make_encoder()).eval()
    assert not has_learner(tmp_path)
    assert save_learner(learner, tmp_path / "learner", about={"run": "here"}) == tmp_path / "learner.json"
    assert has_learner(tmp_path)
    for path in (tmp_path, tmp_path / "learner.json", tmp_path / "learner.safetensors", tmp_path / "learner"):
        loaded = load_learner(path)
        assert loaded.options == learner.options
        assert torch.equal(loaded.adapt(*support)(queries), learner.adapt(*support)(queries))


def test_one_that_answers_for_many_and_one_of_several_networks(make_encoder, support, queries, tmp_path):
    encoder = make_encoder()
    encoder.backbone = AnsweringBackbone(encoder.backbone, ([4, 0, 1], [1, 2]), hidden=12)
    for networks in (encoder, [make_encoder(0), make_encoder(1, "resnet10")]):
        learner = LEARNERS["ridge"](networks).eval()
        save_learner(learner, tmp_path / "learner")
        assert torch.equal(load_learner(tmp_path).adapt(*support)(queries), learner.adapt(*support)(queries))


def edit(path, **changes):
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.with_suffix(".safetensors").unlink(), "No such file"),
        (lambda p: p.with_suffix(".safetensors").write_bytes(b"short"), "truncated or changed"),
        (lambda p: p.write_text("[]"), "not a learner"),
        (lambda p: edit(p, schema=0), "schema 0, not 1"),
        (lambda p: edit(p, learner="wizard"), "wizard"),
        (lambda p: edit(p, options={"magic": 1}), "magic"),
        (lambda p: edit(p, encoders=[]), "not a learner"),
    ],
)
def test_damaged_learners_are_explained(make_encoder, tmp_path, damage, message):
    path = save_learner(LEARNERS["protonet"](make_encoder()), tmp_path / "learner")
    damage(path)
    with pytest.raises(InputError, match=message):
        load_learner(path)


def test_files_that_a_run_replaces_just_now_are_read_again(make_encoder, tmp_path, monkeypatch):
    save_learner(LEARNERS["protonet"](make_encoder(0)), tmp_path / "new")
    path = save_learner(LEARNERS["protonet"](make_encoder(1)), tmp_path / "learner")
    path.with_suffix(".safetensors").write_bytes((tmp_path / "new.safetensors").read_bytes())

    def second_file(_):
        path.write_text((tmp_path / "new.json").read_text())

    monkeypatch.setattr("dfml.learners.files.time.sleep", second_file)
    assert load_learner(path).kind == "protonet"
