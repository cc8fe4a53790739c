"""The zoo that the package carries, and the glyphs that it knows."""

import pytest
import torch

from dfml.data import load_data
from dfml.zoo import Zoo
from dfml.zoo_building.plan import TRAINING, ZooPlan
from dfml.zoo_building.train_one import held_out_accuracy


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo.open("glyphs")


def test_it_is_small_whole_and_good(zoo):
    assert len(zoo) == 16
    assert sum(p.stat().st_size for p in zoo.path.iterdir()) <= 3e6
    for model in zoo.ids:
        assert zoo.teacher(model).card.accuracy["mean"] > 97


def test_its_recipe_is_that_of_the_glyphs_at_hand(zoo):
    data = load_data("glyphs")
    recipe = zoo.index.recipe
    training = type(TRAINING["conv4"])(**recipe["training"])
    plan = ZooPlan.make(data, "conv4", recipe["models"], recipe["way"], recipe["seed"], None, training)
    assert plan.recipe == recipe
    assert not training.flips
    for i, model in enumerate(zoo.ids):
        assert plan.card(i).class_ids == zoo.cards[model].class_ids
    task, card = plan.task(3), zoo.cards[zoo.ids[3]]
    images, labels = (torch.from_numpy(a)[torch.from_numpy(task.held_out)] for a in (task.images, task.labels))
    again = held_out_accuracy(images, labels, zoo.network(card.id), card.input_spec)
    assert again["mean"] == pytest.approx(card.accuracy["mean"], abs=1.01)


def test_its_classes_are_none_of_the_evaluation(zoo):
    data = load_data("glyphs")
    assert set(zoo.class_names.values()) <= set(data.train.class_names)
    assert not set(zoo.class_names.values()) & {*data.val.class_names, *data.test.class_names}
