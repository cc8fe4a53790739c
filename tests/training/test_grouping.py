import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from dfml.errors import InputError, NotFinite
from dfml.randomness import Rng
from dfml.training.grouping import SCALE, Grouping, probe_network
from toys import SPEC, ToyZoo, toy_encoder

G = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.rand(9, 3, 16, 16, generator=G), torch.tensor([4, 4, 2, 2, 2, 7, 7, 7, 7])


@pytest.fixture
def grouping() -> Grouping:
    return Grouping(toy_encoder(), 4)


def _placed(grouping: Grouping, names: str) -> None:
    for i, name in enumerate(names):
        grouping.place(name, torch.rand(sum(grouping.sizes), generator=torch.Generator().manual_seed(i)))


def test_an_embedding_is_the_probes_fisher_information_at_the_classes_means(grouping):
    probe = grouping.probe
    before = copy.deepcopy(probe.state_dict())
    features = F.normalize(probe(IMAGES), dim=-1)
    places = torch.tensor([1, 1, 0, 0, 0, 2, 2, 2, 2])
    means = torch.stack([features[places == c].mean(0) for c in range(3)])
    parameters = {k: p.clone().requires_grad_() for k, p in probe.named_parameters()}
    total = {k: torch.zeros_like(p) for k, p in parameters.items()}
    for image, place in zip(IMAGES, places, strict=True):
        seen = F.normalize(functional_call(probe, parameters, (image[None],)), dim=-1)
        loss = F.cross_entropy(-SCALE * ((seen[:, None] - means) ** 2).sum(-1), place[None])
        for k, g in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            total[k] += g**2 / len(IMAGES)
    wanted = torch.cat([v.flatten(1).mean(1) if v.ndim > 1 else v for v in total.values()])
    found = grouping.embedding(IMAGES, LABELS)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.max()))
    assert float(found.sum()) > 0
    assert len(found) == sum(grouping.sizes)
    assert all(torch.equal(v, before[k]) for k, v in probe.state_dict().items())
    assert not probe.training


def test_the_names_of_labels_do_not_matter_and_images_of_any_size_fit(grouping):
    renamed = torch.tensor([0, 0, 5, 5, 5, 1, 1, 1, 1])
    torch.testing.assert_close(grouping.embedding(IMAGES, LABELS), grouping.embedding(IMAGES, renamed))
    assert bool(grouping.embedding(torch.rand(4, 1, 24, 24, generator=G), torch.tensor([0, 1, 0, 1])).isfinite().all())


def test_images_of_one_class_tell_nothing_and_break_nothing(grouping):
    _placed(grouping, "abc")
    grouping.place("d", grouping.embedding(IMAGES, torch.zeros(9, dtype=torch.int64)))
    assert float(grouping.embeddings["d"].sum()) == 0
    grouping.regroup(2)
    assert grouping.groups.keys() == set("abcd")


def test_a_visit_counts_half_and_the_oldest_makes_room(grouping):
    _placed(grouping, "abcd")
    first, again = grouping.embeddings["a"], torch.ones(sum(grouping.sizes))
    grouping.regroup(2)
    grouping.place("a", again)
    torch.testing.assert_close(grouping.embeddings["a"], (first + 1) / 2)
    grouping.place("e", again)
    assert list(grouping.embeddings) == ["c", "d", "a", "e"], "b waited longest"
    assert grouping.groups.keys() == {"a", "c", "d"}
    with pytest.raises(NotFinite, match="Fisher information"):
        grouping.place("f", torch.nan * again)
    assert "f" not in grouping.embeddings


def test_fellows_are_of_one_group_and_every_group_is_drawn_as_often_as_its_size_says(grouping):
    assert grouping.fellows(["x", "y"], G) == ["x", "y"], "no groups yet"
    grouping.groups = {"a": 0, "b": 1, "c": 1, "d": 1}
    drawn = [grouping.fellows(["d", "a", "c", "b", "new"], Rng(0).generator(i)) for i in range(400)]
    assert {tuple(d) for d in drawn} == {("a",), ("d", "c", "b")}
    assert 60 < sum(d == ["a"] for d in drawn) < 140


def test_groups_and_embeddings_travel(grouping):
    _placed(grouping, "badc")
    grouping.regroup(2)
    other = Grouping(toy_encoder(), 4)
    other.load_state_dict(copy.deepcopy(grouping.state_dict()))
    assert other.groups == grouping.groups
    assert list(other.embeddings) == list("badc")
    assert all(torch.equal(v, other.embeddings[k]) for k, v in grouping.embeddings.items())


def test_the_probe_is_a_copy_of_a_sound_teacher_of_our_own_make_else_random():
    zoo = ToyZoo()
    probe = probe_network(None, zoo, Rng(0))
    own = zoo.network("t0").backbone
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in probe.backbone.state_dict().items())
    assert probe.backbone is not own
    with torch.no_grad():
        next(own.parameters()).fill_(torch.nan)
    second = zoo.network("t1").backbone.state_dict()
    probe = probe_network(None, zoo, Rng(0))
    assert all(torch.equal(v, second[k]) for k, v in probe.backbone.state_dict().items())
    random, same = (probe_network("conv4", zoo, Rng(0)).state_dict() for _ in range(2))
    assert all(torch.equal(v, same[k]) for k, v in random.items())
    assert random[next(iter(random))].shape[0] == 32
    with pytest.raises(InputError, match=r"architecture .nothing."):
        probe_network("nothing", zoo, Rng(0))


def test_without_a_teacher_of_our_own_make_the_probe_is_random(monkeypatch):
    zoo = ToyZoo()
    monkeypatch.setattr(zoo, "entry", lambda name: type("Entry", (), {"source": "onnx"}))
    probe = probe_network(None, zoo, Rng(3))
    assert probe.spec == SPEC
    assert next(probe.parameters()).shape[0] == 32
