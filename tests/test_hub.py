"""Pushing and fetching, with a hub that is a folder."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from dfml import hub
from dfml.cli import main
from dfml.errors import InputError, NotAtHand
from dfml.learners import LEARNERS
from dfml.learners.learner_file import load_learner, save_learner
from dfml.learners.predictor_file import adapt_to_folder, load_predictor
from toys import toy_encoder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stands in for huggingface_hub; repositories lie in it."""
    place = tmp_path / "hub"

    class Api:
        def create_repo(self, repo, *, private, exist_ok):
            (place / repo).mkdir(parents=True, exist_ok=exist_ok)
            return f"https://hub/{repo}"

        def upload_folder(self, *, folder_path, repo_id, commit_message):
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)

    def snapshot_download(repo, *, revision, allow_patterns):
        if not (place / repo).is_dir():
            raise ConnectionError("offline mode is on\nand more")
        assert revision in (None, "v1")
        assert all(Path(pattern).suffix in (".json", ".safetensors") for pattern in allow_patterns)
        return str(place / repo)

    fake = SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setattr(hub, "library", lambda module, extra: fake)
    return place


@pytest.fixture
def learner(tmp_path):
    made = LEARNERS["ridge"](toy_encoder()).eval()
    save_learner(made, tmp_path / "run" / "learner", about={"zoo": "birds", "method": "Consolidate", "step": 24})
    return made


@pytest.fixture
def images(tmp_path):
    for name, colour in (("blue", (30, 30, 200)), ("red", (200, 30, 30))):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (20, 20), colour).save(tmp_path / "few" / name / f"{number}.png")
    return tmp_path / "few"


def test_a_learner_and_a_predictor_travel_by_the_hub(folder, learner, images, tmp_path, capsys):
    assert main(["push", str(tmp_path / "run"), "me/learner"]) == 0
    assert "pushed: https://hub/me/learner" in capsys.readouterr().out
    card = (folder / "me/learner/README.md").read_text()
    assert "- Zoo: birds" in card
    assert "dfml adapt hf:me/learner" in card
    assert main(["adapt", "hf:me/learner@v1", "--support", str(images), "--out", str(tmp_path / "p")]) == 0
    assert main(["push", str(tmp_path / "p"), "me/colours", "--private"]) == 0
    assert "- Classes: blue, red" in (folder / "me/colours/README.md").read_text()
    capsys.readouterr()
    assert main(["predict", "hf:me/colours", str(images)]) == 0
    assert capsys.readouterr().out.count("%") == 4
    shown = torch.rand(2, 3, 16, 16)
    wanted = adapt_to_folder(load_learner(folder / "me/learner"), images).predict(shown)
    assert torch.equal(load_predictor(hub.fetched("hf:me/colours")).predict(shown).probabilities, wanted.probabilities)


def test_what_the_hub_refuses_is_said(folder, tmp_path, capsys):
    assert main(["predict", "hf:me/nothing", "x.png"]) == 2
    error = capsys.readouterr().err
    assert "hf:me/nothing: the hub gave nothing (ConnectionError: offline mode is on)" in error
    assert "HF_HUB_OFFLINE" in error
    with pytest.raises(InputError, match="neither a predictor nor a learner"):
        hub.push(tmp_path, "me/nothing")
    assert hub.fetched(tmp_path) == tmp_path


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(NotAtHand, match="extra 'hub'"):
        hub.fetched("hf:me/learner")
