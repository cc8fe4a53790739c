import copy
from dataclasses import replace

import pytest
import torch

from dfml.errors import InputError
from dfml.evaluation.baselines import baseline_scores
from dfml.evaluation.evaluate import evaluate
from dfml.evaluation.manifest import make_manifest
from dfml.evaluation.score import paired_difference
from dfml.methods.base import StepReport
from dfml.methods.random import Random
from dfml.methods.single_teacher import SingleTeacher
from dfml.methods.zoo_ensemble import ZooEnsemble
from dfml.randomness import Rng

METHODS = [Random(), SingleTeacher(), SingleTeacher(teacher="m2"), ZooEnsemble()]


def manifests_of(image_set, episodes=12, split="test"):
    return [make_manifest(image_set, way=4, shot=s, queries=5, episodes=episodes, seed=0, split=split) for s in (1, 4)]


def test_baselines_equal_the_methods_evaluated_one_by_one(zoo, image_set, rng):
    done = []
    manifests = manifests_of(image_set)
    scores = baseline_scores(zoo, image_set, manifests, rng=rng, progress=lambda i, n: done.append((i, n)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    for manifest, row in zip(manifests, scores, strict=True):

        def alone(method, manifest=manifest):
            return evaluate(method.learner(method.init(zoo, rng)), image_set, manifest).per_episode

        teachers = torch.stack([alone(SingleTeacher(teacher=i)) for i in zoo.ids])
        assert torch.equal(row.zoo_ensemble.per_episode, alone(ZooEnsemble()))
        assert torch.equal(row.random.per_episode, alone(Random()))
        assert torch.allclose(row.single_teacher_mean.per_episode, teachers.mean(0))
        best = int(teachers.mean(1).argmax())
        assert row.best_teacher == zoo.ids[best]
        assert torch.equal(row.single_teacher_best.per_episode, teachers[best])
        assert row.best_chosen_on == "this reading"
        difference = paired_difference(row.zoo_ensemble, row.single_teacher_mean)[0]
        assert difference == pytest.approx(row.zoo_ensemble.mean - row.single_teacher_mean.mean, abs=1e-4)
        values = row.to_dict()
        assert values["zoo_ensemble"]["networks_at_inference"] == 3
        assert values["single_teacher_best"]["chosen_on"] == "this reading"


def test_best_teacher_chosen_on_val(zoo, image_set, rng):
    val, test = image_set.classes([0, 1, 2, 3]), image_set.classes([4, 5, 6, 7])
    val_manifests = manifests_of(val, split="val")
    rows = baseline_scores(zoo, test, manifests_of(test), rng=rng, val=(val, val_manifests))
    expected = baseline_scores(zoo, val, val_manifests, rng=rng)
    assert [r.best_teacher for r in rows] == [r.best_teacher for r in expected]
    assert {r.best_chosen_on for r in rows} == {"val"}
    for row in rows:
        assert row.single_teacher_best.mean == pytest.approx(row.teachers[row.best_teacher])
    with pytest.raises(InputError, match="1 val manifests"):
        baseline_scores(zoo, test, manifests_of(test), rng=rng, val=(val, val_manifests[:1]))


def test_images_of_another_size_are_fitted_to_each_teacher(zoo, image_set, rng):
    large = replace(image_set, images=image_set.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
    small = replace(large, images=(255 * zoo.canvas.fit(large.batch(torch.arange(len(large))))).round().byte())
    scores = [baseline_scores(zoo, x, manifests_of(x), rng=rng) for x in (large, small)]
    for ours, theirs in zip(*scores, strict=True):
        assert ours.single_teacher_mean.mean == pytest.approx(theirs.single_teacher_mean.mean, abs=2.0)
    with pytest.raises(InputError, match="a manifest made for"):
        baseline_scores(zoo, large, manifests_of(image_set), rng=rng)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_methods_that_do_not_train(method, zoo, image_set, rng):
    assert not method.trains
    assert not method.uses_data
    torch.manual_seed(1)
    state = method.init(zoo, rng)
    assert method.plan(state, zoo, rng) == {}
    assert method.step(state, {}, rng) == StepReport()
    learner = method.learner(state)
    saved = copy.deepcopy(state.state_dict())
    torch.manual_seed(2)
    again = method.init(zoo, rng)
    assert all(torch.equal(v, saved["learner"][k]) for k, v in method.learner(again).state_dict().items())
    other = method.init(zoo, Rng(7))
    other.load_state_dict(saved)
    manifest = manifests_of(image_set, episodes=3)[0]
    scores = [evaluate(m, image_set, manifest).per_episode for m in (learner, method.learner(other))]
    assert torch.equal(*scores)


def test_random_takes_the_zoo_s_architecture_and_leaves_the_global_generator_alone(zoo, rng):
    before = torch.get_rng_state()
    learner = Random().learner(Random().init(zoo, rng))
    assert torch.equal(torch.get_rng_state(), before)
    assert learner.describe() == {"learner": "centroid", "network": "conv4-8", "networks_at_inference": 1}
    wide = Random(network="resnet10", width=4)
    assert wide.learner(wide.init(zoo, rng)).describe()["network"] == "resnet10-4"
    weights = [m.init(zoo, r).state_dict()["learner"] for m, r in ((Random(), rng), (Random(), Rng(1)))]
    assert not torch.equal(*[w["encoders.0.backbone.blocks.0.weight"] for w in weights])


def test_single_teacher_is_the_best_by_its_card_or_the_named_one(zoo, make):
    def weight(method):
        return method.init(zoo, Rng(0)).state_dict()["learner"]["encoders.0.backbone.blocks.0.weight"]

    assert torch.equal(weight(SingleTeacher()), zoo.network("m1").backbone.blocks[0].weight)  # 81 %, the others 80 %
    assert torch.equal(weight(SingleTeacher(teacher="m2")), zoo.network("m2").backbone.blocks[0].weight)
    with pytest.raises(InputError, match="for example m"):
        SingleTeacher(teacher="m9").init(zoo, Rng(0))
    silent = make.zoo([make.teacher("a", 0), make.teacher("b", 1)])
    with pytest.raises(InputError, match="no card gives an accuracy"):
        SingleTeacher().init(silent, Rng(0))


@pytest.mark.parametrize("method", [SingleTeacher(teacher="m0"), ZooEnsemble()], ids=lambda m: type(m).__name__)
def test_the_teachers_stay_as_they_are(method, zoo, rng):
    teacher = zoo.teacher("m0")
    before = copy.deepcopy(teacher.network.state_dict())
    learner = method.learner(method.init(zoo, rng)).train()
    for tensor in learner.state_dict().values():
        tensor.zero_()
    assert not any(m.training for m in teacher.network.modules())
    assert all(torch.equal(v, before[k]) for k, v in teacher.network.state_dict().items())
