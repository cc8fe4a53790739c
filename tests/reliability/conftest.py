import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
import commands
from commands import Command
from forking import Forks, built
from kinds import Kind, kinds
from small import make_data, make_zoo


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability")
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    return folder


@pytest.fixture(scope="session")
def forks(place):
    if shutil.which("cc") is None or os.uname().sysname != "Linux":
        pytest.skip("needs a C compiler, on Linux")
    watched = place / "watched"
    watched.mkdir()
    with Forks(built(place), watched) as process:
        yield process


@pytest.fixture(scope="session")
def known(place, forks) -> dict[str, Command]:
    """The commands by name; a run and a predictor that they start from are made first."""
    run, predictor = place / "run", place / "predictor"
    quick = commands.free("train (free)", place / "zoo", 2)
    for words in (quick.words(place), ["adapt", run, "--support", place / "data" / "val", "--out", predictor]):
        assert forks.run(words).code == 0
    made = (
        quick,
        commands.consolidation(place / "zoo"),
        commands.black_box(place / "zoo"),
        commands.zoo_build(place / "data"),
        commands.zoo_add(place / "zoo"),
        commands.sweep(place / "zoo", place / "data"),
        commands.evaluate(run, place / "data"),
        commands.adapt(run, place / "data"),
        commands.export(predictor),
    )
    return {command.name: command for command in made}


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory) -> list[Kind]:
    """In a place of its own, for files are damaged there."""
    folder = tmp_path_factory.mktemp("kinds")
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    return kinds(folder, tmp_path_factory.mktemp("made"))


@pytest.fixture
def no_waiting(monkeypatch):
    """Files of a learner are read again after a while where they do not fit each other."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
