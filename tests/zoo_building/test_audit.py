import copy
import re
from dataclasses import replace

import pytest
import torch

from built_zoo import build, splits
from dfml.nn import Classifier, InputSpec, build_backbone
from dfml.randomness import Rng
from dfml.zoo import BlackBox, Zoo, write_index
from dfml.zoo.loaders import LOADERS, Loader, loaders
from dfml.zoo.views import ANSWERS
from dfml.zoo_building.audit import audit
from dfml.zoo_building.normalisation import under
from dfml.zoo_building.recognition import Looks
from dfml.zoo_building.standing import misnaming, standings

ORDER = [1, 2, 3, 0]


def add(zoo: Zoo, folder, like: str, model: str, network=None, half=True, **changes) -> None:
    """One more model: a card like another's, with changes."""
    card = replace(zoo.cards[like], id=model, stored_hash="", **changes)
    Zoo.write_model(folder, card, network or zoo.network(like), half=half)


def fresh(zoo: Zoo, seed: int) -> Classifier:
    with Rng(seed).seeded("weights"):
        return Classifier(build_backbone("conv4", image_size=zoo.canvas.size, width=8), 4).eval()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Seven models of four of six classes each, which are told apart by their colour."""
    data = splits(per_class=30)
    return build(tmp_path_factory.mktemp("sound") / "zoo", data, models=7, way=4, width=8)


@pytest.fixture(scope="module")
def boxed():
    """A source of models, ``boxed:``, that give probabilities alone."""
    own = LOADERS["dfml"].load
    loader = Loader(
        lambda source: ANSWERS["probabilities"],
        lambda folder, card, device: BlackBox(own(folder, card, device), "probabilities"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loaders(), "boxed", loader)
        yield "boxed:conv4"


@pytest.fixture(scope="module")
def found(sound, boxed, tmp_path_factory):
    """Verdicts by id of the same zoo with one bad model of each kind."""
    folder = tmp_path_factory.mktemp("spoiled")
    for model in sound.ids:
        Zoo.write_model(folder, sound.cards[model], sound.network(model))
    a, b, c, d, e, f = sound.ids[:6]
    add(sound, folder, a, "x-truncated")
    add(sound, folder, a, "x-not-finite", overflowing(sound.network(a)), half=False)
    silent = copy.deepcopy(sound.network(b))
    silent.head.weight.zero_()
    add(sound, folder, b, "x-constant", silent)
    add(sound, folder, c, "x-duplicate")
    add(sound, folder, c, "x-untrained", fresh(sound, 0))
    add(sound, folder, d, "x-untrained-used", used(fresh(sound, 1)))
    turned = in_other_order(sound, d)
    add(sound, folder, d, "x-labels", **turned)
    add(sound, folder, e, "x-normalisation", input_spec=InputSpec(size=16, mean=(0.0,) * 3, std=(1.0,) * 3))
    add(sound, folder, b, "boxed", other_order(sound.network(b)), source=boxed, **in_other_order(sound, b))
    add(sound, folder, f, "x-boxed", source=boxed, **in_other_order(sound, f))
    write_index(folder, name="spoiled", shared_classes=True)
    weights = folder / "x-truncated.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    return {verdict.id: verdict for verdict in audit(Zoo.open(folder), rng=Rng(0))}


def in_other_order(zoo: Zoo, model: str) -> dict[str, tuple[str, ...]]:
    ids, names = zoo.cards[model].class_ids, zoo.cards[model].class_names
    return {"class_ids": tuple(ids[i] for i in ORDER), "class_names": tuple(names[i] for i in ORDER)}


def other_order(network: Classifier) -> Classifier:
    """With its outputs in the order of the names, so that they are right again."""
    network = copy.deepcopy(network)
    network.head.weight.data, network.head.bias.data = network.head.weight[ORDER], network.head.bias[ORDER]
    return network


def overflowing(network: Classifier) -> Classifier:
    """Finite weights whose answers are not."""
    network = copy.deepcopy(network)
    network.head.weight.fill_(3e38)
    return network


@torch.no_grad()
def used(network: Classifier) -> Classifier:
    """Untrained, but its BatchNorm layers have seen images."""
    network.train()
    for k in range(30):
        network(torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(k)))
    return network.eval()


def test_a_sound_zoo_has_no_bad_model_and_every_teacher_is_counted(sound):
    told = []
    assert audit(sound, rng=Rng(0), progress=lambda done, of: told.append((done, of))) == []
    assert told == sorted(told)
    assert told[-1] == (3 * len(sound), 3 * len(sound))


@pytest.mark.parametrize(
    ("model", "kind", "evidence"),
    [
        ("x-truncated", "broken", "cannot be loaded: .*truncated"),
        ("x-not-finite", "broken", "answers are NaN or infinite"),
        ("x-constant", "constant", "differ by 0 at most over 128 images"),
        ("x-duplicate", "duplicate", "classes of conv4-2 in the same order"),
        ("x-untrained", "untrained", "running means of all 4 BatchNorm layers are 0"),
        ("x-untrained-used", "untrained", "confidence in images made for it"),
        ("x-labels", "labels", "4 of its 4 names changed places"),
        ("x-boxed", "labels", "comparisons with other models|changed places"),
        ("x-normalisation", "normalisation", "in place of 0 and 1"),
    ],
)
def test_every_kind_is_found_and_said_in_numbers(found, model, kind, evidence):
    assert found[model].kind == kind
    assert re.search(evidence, found[model].evidence)


def test_no_good_model_is_accused(found):
    assert [v for v in found.values() if not v.id.startswith("x-")] == []


def test_the_same_seed_gives_the_same_verdicts_and_a_teacher_is_left_as_it_was(sound):
    few = sound.subset(sound.ids[:2])
    before = {k: v.clone() for k, v in few.network(few.ids[0]).state_dict().items()}
    assert audit(few, rng=Rng(1)) == audit(few, rng=Rng(1))
    after = few.network(few.ids[0]).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_where_no_class_is_shared_nothing_is_said_of_labels(sound, tmp_path):
    """The order of the names is wrong, which nobody can know."""
    for model in sound.ids[:2]:
        ids = tuple(f"{model}/{i}" for i in ORDER)
        add(sound, tmp_path, model, model, class_ids=ids, class_names=ids)
    write_index(tmp_path, name="apart", shared_classes=False)
    assert audit(Zoo.open(tmp_path), rng=Rng(0)) == []


def test_of_copies_the_one_that_can_be_asked_for_more_stays_and_else_the_first(sound, boxed, tmp_path):
    like = sound.ids[0]
    add(sound, tmp_path, like, "a-boxed", source=boxed)
    for model in ("b-whole", "c-whole"):
        add(sound, tmp_path, like, model)
    write_index(tmp_path, name="copies", shared_classes=True)
    found = audit(Zoo.open(tmp_path), rng=Rng(0))
    assert [(v.id, v.kind) for v in found] == [("a-boxed", "duplicate"), ("c-whole", "duplicate")]
    assert all("classes of b-whole" in v.evidence for v in found)


def test_a_zoo_of_which_nothing_can_be_read_is_broken_all_over(sound, tmp_path):
    add(sound, tmp_path, sound.ids[0], "gone")
    write_index(tmp_path, name="gone", shared_classes=True)
    (tmp_path / "gone.safetensors").unlink()
    assert [(v.id, v.kind) for v in audit(Zoo.open(tmp_path), rng=Rng(0))] == [("gone", "broken")]


def looks(shares: list[tuple[int, int, float]], answers=None, places=None) -> Looks:
    givers, judges, values = zip(*shares, strict=True)
    zeros = torch.zeros(len(shares), dtype=torch.long)
    places = zeros if places is None else torch.tensor(places)
    shares = torch.tensor(values)
    return Looks(torch.tensor(givers), torch.tensor(judges), zeros, places, shares, shares, answers or [])


def test_the_worst_is_taken_away_before_it_drags_down_the_others():
    """Models 5 and 6 are bad; 4 goes well with the good ones, who alone are to be asked about it."""
    good, pairs = {0, 1, 2, 3, 4}, [(a, b) for a in range(7) for b in range(7) if a != b]
    given = looks([(a, b, 0.8 if {a, b} <= good else 0.1) for a, b in pairs])
    outcome = standings(given, 7, torch.full((7,), 5), torch.zeros(7, dtype=torch.bool))
    assert outcome.low.tolist() == [False] * 5 + [True] * 2
    assert outcome.trusted.tolist() == [True] * 5 + [False] * 2
    assert outcome.median == pytest.approx((0.8 - 0.2) / 0.8)
    assert outcome.share[:5].tolist() == pytest.approx([0.8] * 5)


def test_of_two_models_that_contradict_each_other_none_is_accused():
    outcome = standings(looks([(0, 1, 0.0), (1, 0, 0.0)]), 2, torch.tensor([5, 5]), torch.zeros(2, dtype=torch.bool))
    assert outcome.score.isnan().all()
    assert not outcome.low.any()


def test_images_that_no_judge_recognises_count_little_against_each_of_them():
    """Model 4's images are bad; a judge that saw them often is no worse than one that did not."""
    pairs = [(a, b, 0.9) for a in range(4) for b in range(4) if a != b] + [(4, b, 0.2) for b in range(3)]
    outcome = standings(looks(pairs), 5, torch.full((5,), 5), torch.zeros(5, dtype=torch.bool))
    assert outcome.low.tolist() == [False] * 4 + [True]
    assert not outcome.trusted[4]


def test_misnaming_is_how_much_more_would_be_right_under_other_names():
    answers = [torch.tensor([0.1, 0.9, 0.0]), torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.0, 0.0, 1.0])]
    given = looks([(0, 3, 0.1), (1, 3, 0.2), (2, 3, 1.0)], answers, places=[0, 1, 2])
    gain, moved = misnaming(given, 3, torch.ones(4, dtype=torch.bool), 3)
    assert moved == {0: 1, 1: 0}
    assert gain == pytest.approx((0.8 + 0.5) / 3)
    gain, moved = misnaming(given, 3, torch.tensor([False, False, True, True]), 3)
    assert (gain, moved) == (0, {})


def test_images_stand_for_other_constants():
    spec, images = InputSpec(size=16, mean=(0.4,) * 3, std=(0.2,) * 3), torch.rand(2, 3, 16, 16)
    other = InputSpec(size=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    seen = spec.normalise(under(spec, (other.mean, other.std), images))
    torch.testing.assert_close(seen, other.normalise(images))
