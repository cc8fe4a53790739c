"""Attacks find what was memorised, and nothing where nothing was."""

from statistics import fmean

import pytest
import torch
import torch.nn.functional as F

from dfml import InputError, Run
from dfml.data.image_set import ImageSet
from dfml.learners import LEARNERS
from dfml.nn import Encoder, build_backbone
from dfml.recovery import Recovered
from dfml.runs.privacy import audit_privacy
from dfml.zoo import Zoo, write_index
from tiny_zoo import SPEC, card, network

NAMES, PER_CLASS = ("bear", "ant", "cow"), 50
MEMBERS = 40  # of a class: the last fifth is held out


@pytest.fixture(scope="module")
def images():
    """Noise: what a network knows of a class is what it has memorised."""
    pixels = torch.randint(0, 256, (PER_CLASS * len(NAMES), 3, 16, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(NAMES)).repeat_interleave(PER_CLASS)
    return ImageSet("noise", pixels.byte(), labels, NAMES)


def memorise(net, images):
    shown = torch.cat([images.members[c][:MEMBERS] for c in range(len(NAMES))])
    x, y = SPEC.normalise(images.batch(shown)), images.labels[shown]
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    net.train()
    for _ in range(150):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def zoos(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoos")
    for name, net in (("fresh", network(1)), ("memorised", memorise(network(1), images))):
        Zoo.write_model(folder / name, card("one", NAMES), net)
        write_index(folder / name, name=name, shared_classes=True)
    return {name: Zoo.open(folder / name) for name in ("fresh", "memorised")}


def run_of(zoo, images, recovered):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        encoder = Encoder(build_backbone("conv4", image_size=16, width=4), SPEC)
    shown = [Recovered(recovered, torch.zeros(len(recovered), dtype=torch.long), {})]
    run = object.__new__(Run)  # as if it had been trained
    run.__dict__ |= {"zoo": zoo, "learner": LEARNERS["ridge"](encoder).eval(), "recovered": lambda name: shown}
    return run


def attacks(run, images, **options):
    return {attack.name: attack for attack in audit_privacy(run, images, per_class=5, **options)}


def test_what_was_memorised_is_told(zoos, images):
    members = torch.cat([images.batch(images.members[c][:MEMBERS]) for c in range(len(NAMES))])
    run = run_of(zoos["memorised"], images, members)
    samples = [attacks(run, images, seed=seed) for seed in range(5)]  # of fifteen images, so one tells little
    assert fmean(found["models, by their answers"].area for found in samples) > 0.9
    found = samples[0]
    assert found["recovered images, nearest pixels"].area == 1
    assert found["recovered images, nearest pixels"].found == 1
    assert found["recovered images, nearest features"].area == 1
    controls = [attack for attack in found.values() if attack.control]
    assert len(controls) == 2
    assert all(0.2 < attack.area < 0.8 for attack in controls)


def test_what_knows_nothing_tells_nothing(zoos, images):
    noise = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = attacks(run_of(zoos["fresh"], images, noise), images)
    assert all(0.2 < attack.area < 0.8 for attack in found.values())
    assert not any(attack.tells for attack in found.values())


def test_images_of_other_classes_or_too_few_are_refused(zoos, images):
    run = run_of(zoos["fresh"], images, torch.rand(2, 3, 16, 16))
    with pytest.raises(InputError, match="no model of fresh"):
        attacks(run, ImageSet("others", images.images, images.labels, ("x", "y", "z")))
    with pytest.raises(InputError, match="5 images of each class for training there, and 10 others"):
        attacks(run, images, held_out=0.1)
    with pytest.raises(InputError, match="held out 1"):
        attacks(run, images, held_out=1.0)
