"""Zoos that are corrupted on purpose, and what TEAPOT makes of one."""

import sys
from pathlib import Path

import pytest
import torch

from built_zoo import build, image_set, splits
from dfml.data.image_set import DataSplits, ImageSet
from dfml.methods.base import Role, teachers_of
from dfml.methods.teapot import TEAPOT
from dfml.randomness import Rng
from dfml.recovery import DeepInversion
from dfml.training.meta_model import ModelOptions
from dfml.training.replay import ReplayOptions
from dfml.zoo import Zoo

sys.path.insert(0, str(Path(__file__).parents[2] / "reproduce" / "corrupted"))

from build import corrupt

MODELS = 10


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Zoo:
    return build(tmp_path_factory.mktemp("sound") / "zoo", splits(per_class=30), models=MODELS, way=4, width=8)


@pytest.fixture(scope="module")
def corrupted(sound, tmp_path_factory) -> tuple[Zoo, dict[str, str]]:
    folder = tmp_path_factory.mktemp("corrupted")
    others = DataSplits("/somewhere/else", *(image_set(part, 6) for part in ("others to train", "others", "more")))
    other = build(folder / "other", others, models=2, way=4, width=8)  # other colours: they follow from the name
    bad = corrupt(sound, folder / "zoo", share=0.6, seed=0, other=other)
    return Zoo.open(folder / "zoo"), bad


def test_so_many_models_are_bad_of_three_kinds_and_their_cards_do_not_tell(sound, corrupted):
    zoo, bad = corrupted
    assert zoo.ids == sound.ids
    assert sorted(bad.values()) == sorted(2 * ["untrained", "foreign", "shuffled"])
    images = sound.canvas.normalise(torch.rand(4, 3, 16, 16))
    for name in zoo.ids:
        was, now = sound.cards[name], zoo.cards[name]
        assert now.accuracy == was.accuracy
        assert set(now.class_ids) == set(was.class_ids)
        same = torch.allclose(sound.network(name)(images), zoo.network(name)(images), atol=1e-2)
        assert same == (bad.get(name) in (None, "shuffled"))
        assert (now.class_ids != was.class_ids) == (bad.get(name) == "shuffled")


def test_the_policy_draws_bad_models_less_than_good_ones(sound, corrupted, monkeypatch):
    """Where the reward feels them: here it is how well the drawn models name real images of the classes they claim."""
    zoo, bad = corrupted
    images = splits(per_class=30).train
    method = TEAPOT(
        recovery=DeepInversion(steps=1, start="natural"),
        model=ModelOptions("protonet", width=4),
        replay=ReplayOptions(patience=1, limit=1, episodes=1, way=2, queries=1),
        teachers_per_step=3,
        images_per_class=2,
        reward_episodes=1,
    )
    state, drawn = method.init(zoo, Rng(0)), list[str]()
    monkeypatch.setattr(method, "_reward", lambda *_: sum(_right(zoo, name, images) for name in drawn) / len(drawn))
    for step in range(60):
        rng = Rng(0).at("step", step)
        plan = method.plan(state, zoo, rng)
        drawn[:] = plan[Role.VISIT]
        method.step(state, teachers_of(zoo, plan), rng)
    trust = state.trust()
    good = [trust[name] for name in trust if name not in bad]
    assert len(good) >= 2
    assert max(trust[name] for name in trust if name in bad) < min(good)
    assert sum(good) > 0.9


def _right(zoo: Zoo, name: str, images: ImageSet) -> float:
    """Accuracy in percent on real images of the classes that a model claims."""
    names = zoo.cards[name].class_names
    known = images.classes([images.class_names.index(n) for n in names])
    return 100 * float((zoo.teacher(name).answers(known.images, "labels") == known.labels).float().mean())
