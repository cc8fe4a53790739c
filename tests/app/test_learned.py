"""What the page shows of runs and zoos: curves, recovered images by model and step, the table of models."""

import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from dfml import save_learner, train
from dfml.app.learned import Learned, opened
from dfml.errors import InputError
from dfml.learners import LEARNERS
from toys import toy_encoder

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from small import FREE, make_zoo


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    train(make_zoo(folder / "zoo"), out=folder / "run", recipe="free", steps=1, overrides=FREE)
    train(folder / "zoo", out=folder / "run", steps=2, resume=True)
    return folder


def test_a_run_shows_its_curves_and_each_model_after_each_step_once_drawn(place):
    learned = opened(place / "run")
    assert learned.steps == [1, 2]
    assert len(learned.curves()) >= 1
    first, last = (learned.shown("toy-2", step)[1] for step in learned.steps)
    assert first.png != last.png
    assert min(Image.open(BytesIO(last.png)).size) > 100
    assert learned.shown("toy-2", 2)[1] is last
    for model, step in (("toy-9", 2), ("toy-2", 7)):
        with pytest.raises(InputError, match="choose one"):
            learned.shown(model, step)


def test_a_zoo_shows_its_table_and_what_inspect_says(place):
    learned = opened(place / "zoo")
    title, heads, rows = learned.table()
    assert "4 models" in title
    assert heads == ["model", "architecture", "classes", "accuracy %", "images"]
    assert [row[0] for row in rows] == [f"toy-{i}" for i in range(4)]
    assert (learned.steps, learned.curves()) == ([], [])
    lines, picture = learned.shown("toy-1", None)
    assert lines[0] == "toy-1: dfml:conv4"
    assert not any("png" in line for line in lines)
    assert min(Image.open(BytesIO(picture.png)).size) > 100


def test_a_run_whose_zoo_has_moved_still_shows_its_curves_and_all_where_it_is_named(place):
    (place / "zoo").rename(place / "moved")
    try:
        learned = Learned(place / "run")
        assert learned.curves()
        with pytest.raises(InputError):
            learned.table()
        assert len(opened(place / "run", zoo=str(place / "moved")).table()[2]) == 4
    finally:
        (place / "moved").rename(place / "zoo")


def test_a_learner_alone_shows_nothing(tmp_path):
    save_learner(LEARNERS["ridge"](toy_encoder()).eval(), tmp_path / "learner")
    assert opened(tmp_path) is None
