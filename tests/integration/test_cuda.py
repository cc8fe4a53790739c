"""On a real GPU: the batched paths are those that run there, and they give the numbers of the loops.

Elsewhere these tests are skipped; `second_device.py` computes on the CPU and cannot see what a CUDA kernel refuses.
"""

import copy

import pytest
import torch

from dfml import Zoo, train
from dfml.compute.ranks import SERIAL_RANKS
from dfml.episode import Episode
from dfml.learners import LEARNERS
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.training.replay import meta_gradient
from dfml.zoo.stacked import StackedTeachers
from dfml.zoo_building.train_one import train_classifier
from dfml.zoo_building.train_together import train_together
from toys import toy_encoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def glyphs() -> Zoo:
    return Zoo.open("glyphs").on(CUDA)


def recovered(zoo: Zoo, engine: str | None):
    recovery = MetaGenerator(adversarial_weight=0.0, engine=engine, steps=1)
    state = recovery.init(zoo.canvas, Rng(0))
    state.to(CUDA)
    teachers = [zoo.teacher(name) for name in zoo.ids[:3]]
    visits = [Visit(t, torch.arange(len(t.card.class_ids)).repeat(2)) for t in teachers]
    return recovery.recover(state, visits, rng=Rng(1))


def test_without_being_told_recovery_is_batched_and_gives_the_images_of_the_loop(glyphs, monkeypatch):
    calls, logits = [], StackedTeachers.logits
    monkeypatch.setattr(StackedTeachers, "logits", lambda self, x: calls.append(len(x)) or logits(self, x))
    batched, loop = recovered(glyphs, None), recovered(glyphs, "loop")
    assert calls == [3, 3], "the step and the reading, all teachers at once, and none of the loop"
    for ours, theirs in zip(batched, loop, strict=True):
        assert ours.images.device == CUDA
        assert (ours.images - theirs.images).abs().mean() < 0.01, "apart from where rounding decides"
        assert ours.terms == pytest.approx(theirs.terms, rel=0.05)


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_episodes_at_once_give_the_gradient_of_the_loop(learner):
    made = LEARNERS[learner](toy_encoder().double()).double().to(CUDA)

    def draw(index: int) -> Episode:
        generator = Rng(0).generator(index)
        images = torch.rand(15, 3, 16, 16, generator=generator, dtype=torch.float64).to(CUDA)
        labels = torch.arange(3, device=CUDA)
        return Episode(images[:3], labels, images[3:], labels.repeat(4), 3)

    gradients = []
    for together in (True, False):
        each = copy.deepcopy(made)
        meta_gradient(each, draw, 3, SERIAL_RANKS, together=together)
        gradients.append([p.grad for p in each.parameters() if p.grad is not None])
    assert gradients[0]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-6)


def test_teachers_are_trained_together_as_well_as_each_alone():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(40)
    images = torch.randint(0, 120, (80, 3, 16, 16), generator=generator) + 130 * labels[:, None, None, None]
    images, labels, spec = images.byte().to(CUDA), labels.to(CUDA), InputSpec(size=16)
    settings = {"epochs": 6, "batch_size": 20, "lr": 0.01, "optimiser": "adam", "shift": 0}
    networks = [Classifier(build_backbone("conv4", image_size=16, width=8), 2).to(CUDA) for _ in range(3)]
    rngs = [Rng(i) for i in range(3)]
    train_together(
        images.expand(2, -1, -1, -1, -1), labels.expand(2, -1), networks[:2], spec, rngs=rngs[:2], **settings
    )
    train_classifier(images, labels, networks[2], spec, rng=rngs[2], **settings)
    for network in networks:
        answers = network.eval()(spec.normalise(images.float() / 255)).argmax(-1)
        assert (answers == labels).float().mean() > 0.9


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("recipe", ["free", "best"])
def test_a_run_trains_on_the_gpu(tmp_path, recipe, compiled):
    quick = {"run.accelerator": "auto", "run.compile": compiled, "method.images_per_class": 4}
    quick |= {"method.warmup_steps": 1} if recipe == "free" else {"method.updates": 3}
    run = train("glyphs", out=tmp_path / "run", recipe=recipe, steps=3, overrides=quick)
    assert run.checkpoint["totals"]["device"] == "cuda"
    lines = run.folder.metrics()
    assert len(lines) == 3
    assert all(torch.isfinite(torch.tensor(line["distillation"])) for line in lines if "distillation" in line)
    assert "distillation" in lines[-1]
