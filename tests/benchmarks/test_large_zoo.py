"""What a large zoo may cost: reads of files, loads of teachers and bytes, counted."""

import shutil
import weakref

import pytest
import torch

from dfml.evaluation.evaluate import check_disjoint
from dfml.methods.base import teachers_of
from dfml.methods.single_teacher import best_by_card
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.runs.provenance import describe_zoo
from dfml.training.pseudo_validation import PseudoValidation
from dfml.zoo import Capability, ModelCard, Zoo, loaders, store
from dfml.zoo.teacher import LocalTeacher, OnDemand
from large_zoo import write_large_zoo

# Nothing is held out: how many classes a visit has left would depend on how many teachers share them.
QUICK = {
    "free": ("free", {
        "method.images_per_class": 6, "method.warmup_steps": 0, "method.rounds": 2, "replay.queries": 3,
        "replay.limit": 1, "replay.episodes": 1, "recovery.latent": 8, "recovery.steps": 1,
    }),
    "consolidate": ("best", {
        "method.images_per_class": 2, "method.answering_teachers": 12, "method.updates": 1, "method.batch_size": 8,
        "method.capacity": 100, "method.validation_teachers": 0, "recovery.latent": 8, "recovery.steps": 1,
    }),
}  # fmt: skip


def method_of(name: str):
    recipe, options = QUICK[name]
    return resolve(recipe, options | {"network.width": 4, "run.steps": 3}).build()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Zoos of 20 and of 2,000 models, by size."""
    root = tmp_path_factory.mktemp("zoos")
    return {n: write_large_zoo(root / str(n), models=n, width=4, size=16) for n in (20, 2000)}


@pytest.fixture
def cards_read(monkeypatch):
    """The names of the card files that were read."""
    names, read = [], ModelCard.read

    def counting(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(ModelCard, "read", staticmethod(counting))
    return names


@pytest.fixture
def loaded(monkeypatch):
    """The models whose weights were read."""
    ids, read = [], loaders.read_network

    def counting(path, card):
        ids.append(card.id)
        return read(path, card)

    monkeypatch.setattr(loaders, "read_network", counting)
    return ids


def test_a_generated_zoo_is_real(folders):
    zoo = Zoo.open(folders[2000])
    assert (len(zoo), len(zoo.class_ids)) == (2000, 64)
    teacher = zoo.teacher("model-01999")
    assert teacher.card.class_ids == zoo.entry("model-01999").class_ids
    logits = teacher.answers(torch.rand(50, 3, 16, 16))
    assert logits.std() > 0.01
    assert torch.equal(zoo.network("model-00007").head.weight, zoo.network("model-01999").head.weight)
    assert not torch.equal(zoo.network("model-00006").head.weight, zoo.network("model-01999").head.weight)


def test_opening_and_questions_about_the_whole_read_the_index_alone(folders, tmp_path, image_set_of):
    shutil.copy(folders[2000] / "zoo.json", tmp_path)
    zoo = Zoo.open(tmp_path)
    assert describe_zoo(zoo)["models"] == 2000
    assert zoo.hash == Zoo.open(folders[2000]).hash
    assert len(zoo.rows("model-00100")) == 5
    assert best_by_card(zoo) == "model-00000"
    check_disjoint(zoo, image_set_of("unknown"))


def test_validation_teachers_are_held_out_by_the_index(folders, cards_read):
    zoo = Zoo.open(folders[2000])
    held_out = PseudoValidation(zoo, count=3, images_per_class=2, needs=Capability.LOGITS, rng=Rng(0))
    assert len(held_out.ids) == 3
    assert not set(held_out.ids) & set(held_out.training_ids)
    assert not cards_read, "the index knows the size of the images"


@pytest.mark.parametrize("name", QUICK)
def test_the_work_of_a_step_is_the_same_in_a_small_and_in_a_large_zoo(name, folders, cards_read, loaded):
    work = {}
    for size, folder in folders.items():
        zoo, method = Zoo.open(folder), method_of(name)
        cards_read.clear()
        state = method.init(zoo, Rng(0))
        assert not cards_read, "the index knows the size of the images"
        for step in range(2):
            loaded.clear()
            plan = method.plan(state, zoo, Rng(step))
            ids = [name for names in plan.values() for name in names]
            assert not cards_read, "plan reads no card"
            asked = zoo.tally.queries
            report = method.step(state, teachers_of(zoo, plan), Rng(step))
            assert len(loaded) <= len(set(ids))
            assert len(cards_read) == len(loaded)
            cards_read.clear()
        work[size] = (len(ids), report.images, zoo.tally.queries - asked)
        if name == "consolidate":
            assert len(loaded) <= method.teachers_per_step, "those that answer stay in memory"
    assert work[20] == work[2000]


def held_bytes(teacher: LocalTeacher) -> int:
    copies = [teacher.network] + ([teacher._fast] if teacher._fast is not None else [])
    return sum(v.nbytes for copy in copies for v in copy.state_dict().values())


def test_the_cache_counts_fused_copies_and_lets_the_least_recently_used_go(folders, monkeypatch, loaded):
    zoo = Zoo.open(folders[20])
    monkeypatch.setattr(store, "CACHE_BYTES", 3 * zoo.teacher("model-00000").teacher.nbytes)
    for name in ("model-00001", "model-00002", "model-00000", "model-00003"):
        zoo.teacher(name).answers(torch.rand(2, 3, 16, 16))
        kept = [counted.teacher for counted, _ in zoo._teachers.values()]
        assert sum(held_bytes(t) for t in kept) <= sum(t.nbytes for t in kept) <= store.CACHE_BYTES
    assert list(zoo._teachers) == ["model-00002", "model-00000", "model-00003"]
    assert loaded == ["model-00000", "model-00001", "model-00002", "model-00003"]


def test_answering_teachers_that_do_not_fit_the_cache_stream_through_it(folders, monkeypatch, loaded):
    monkeypatch.setattr(store, "CACHE_BYTES", 1)
    alive: weakref.WeakSet = weakref.WeakSet()
    most, answers = [], LocalTeacher.answers

    def counting(self, images, kind="logits"):
        alive.add(self)
        most.append(len(alive))
        return answers(self, images)

    monkeypatch.setattr(LocalTeacher, "answers", counting)
    zoo, method = Zoo.open(folders[20]), method_of("consolidate")
    state = method.init(zoo, Rng(0))
    method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(0))), Rng(0))
    assert set(state.answering.outputs_of) <= set(loaded)
    assert len(most) == 12
    assert max(most) <= 2, "the one that answers and the one before it"


def test_teachers_on_demand_are_loaded_when_asked_for():
    asked = []
    teachers = OnDemand(lambda name: asked.append(name) or name.upper(), ["a", "b", "c", "d"])
    first, rest = teachers[:1], teachers[1:]
    assert (len(first), len(rest), asked) == (1, 3, [])
    assert rest[-1] == "D"
    assert list(rest) == ["B", "C", "D"]
    assert asked == ["d", "b", "c", "d"]
