"""The formulas of costs against real steps: what can be counted is exact, seconds are of the right size."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cost_measured
import cost_model
from cost_model import Constants, Setting
from dfml.methods.base import teachers_of
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator
from dfml.runs.checkpoint import save_tree
from dfml.training.bank import AnswerBank, Bank
from dfml.zoo import Zoo, loaders, store
from large_zoo import write_large_zoo

TINY = Setting(
    16, zoo_classes=49, validation=0, images_per_class=2, inner_steps=2, answering=6, updates=1, batch=8, capacity=100
)  # of the embedded zoo
DOCUMENT = Path(__file__).parents[2] / "docs" / "scale.md"


def take_steps(zoo: Zoo, method, steps: int = 1):
    """The state after so many steps, and the questions of the last one."""
    state, asked = method.init(zoo, Rng(0)), 0
    for step in range(steps):
        before = zoo.tally.queries
        method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(step))), Rng(step))
        asked = zoo.tally.queries - before
    return state, asked


def tensors_in(tree) -> int:
    """Bytes of all tensors of a checkpoint."""
    if isinstance(tree, torch.Tensor):
        return tree.nbytes
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return sum(tensors_in(child) for child in children)


@pytest.fixture(scope="module")
def glyphs() -> Zoo:
    return Zoo.open("glyphs")


@pytest.mark.parametrize("changed", [{}, {"visits": 2, "answering": 3}, {"images_per_class": 3, "inner_steps": 1}])
def test_the_questions_of_a_step_are_those_that_a_real_step_asks(changed, glyphs):
    setting = replace(TINY, **changed)
    _, asked = take_steps(glyphs, cost_measured.method_of(setting))
    assert cost_model.questions(setting) == asked > 0


def test_the_questions_of_a_step_of_free_are_those_that_a_real_step_asks(glyphs):
    _, asked = take_steps(glyphs, cost_measured.free_of(TINY, 3))
    assert cost_model.free_questions(TINY, 3) == asked > 0


def test_with_held_out_classes_the_mean_step_is_predicted(tmp_path):
    setting = Setting(60, zoo_classes=20, images_per_class=1, answering=3, updates=1, inner_steps=1, validation=1)
    zoo = Zoo.open(write_large_zoo(tmp_path / "zoo", models=60, classes=20, width=4, size=16))
    method = cost_measured.method_of(setting)
    state = method.init(zoo, Rng(0))
    labels = [len(state.validation.training_labels(zoo.cards[i])) for i in state.validation.training_ids]
    assert setting.images == pytest.approx(setting.visits * sum(labels) / len(labels), rel=0.1)


def test_banks_take_the_bytes_that_are_predicted():
    bank = AnswerBank(capacity=70, shape=(3, 16, 16), outputs=35)
    assert cost_model.answer_bank_bytes(70, 3 * 16 * 16, 35) == bank.images.nbytes + bank.answers.nbytes
    free = Bank(classes=6, capacity=4, shape=(3, 16, 16))
    for c in range(6):
        free.add(torch.rand(5, 3, 16, 16), torch.full((5,), c), 0)
    held = [v for c in range(6) for v in (free.images(c), free.teachers(c))]
    assert cost_model.free_bank_bytes(6, 4, 3 * 16 * 16) == sum(v.nbytes for v in held) + free.written.nbytes


@pytest.mark.parametrize(("size", "hidden"), [(32, 512), (64, 40)])
def test_a_checkpoint_has_the_bytes_that_are_predicted(size, hidden, tmp_path):
    setting = Setting(
        8, size=size, hidden=hidden, validation=0, images_per_class=1, inner_steps=1, answering=4, updates=1, batch=4
    )
    zoo = Zoo.open(write_large_zoo(tmp_path / "zoo", models=8, size=size, distinct=1, meets=1))
    state, _ = take_steps(zoo, cost_measured.method_of(setting))
    predicted = cost_model.checkpoint_bytes(setting, len(state.bank), validated=False)
    assert predicted == tensors_in(state.state_dict())
    save_tree(state.state_dict(), tmp_path / "checkpoint")
    written = (tmp_path / "checkpoint" / "tensors.safetensors").stat().st_size
    assert predicted <= written < 1.05 * predicted + 20_000


@pytest.mark.parametrize(("network", "size"), [("conv4", 32), ("conv4", 84), ("resnet10", 32)])
def test_a_model_has_the_bytes_that_are_predicted(network, size, tmp_path):
    zoo = Zoo.open(
        write_large_zoo(tmp_path / "zoo", models=1, network=network, width=None, size=size, distinct=1, meets=1)
    )
    setting = Setting(1, network, size)
    assert cost_model.teacher_bytes(setting) == zoo.teacher(zoo.ids[0]).teacher.nbytes
    written = (tmp_path / "zoo" / f"{zoo.ids[0]}.safetensors").stat().st_size
    assert cost_model.weight_file_bytes(setting) <= written < cost_model.weight_file_bytes(setting) + 15_000


def test_the_generator_grows_as_predicted(glyphs):
    state = MetaGenerator().init(glyphs.canvas, Rng(0))
    assert cost_model.generator_parameters(32) == sum(p.numel() for p in state.generator.parameters())
    assert cost_model.generator_parameters(96) > 4 * cost_model.generator_parameters(32)


@pytest.mark.parametrize(("room", "least", "most"), [(3, 0.8, 1.0), (10, 0.4, 1.6), (16, 1.0, 1.0)])
def test_models_are_read_as_predicted(room, least, most, glyphs, monkeypatch):
    """Where those that answer and are visited fit the cache, visited ones; else all of them; none where all are there.

    A little less where one is still there that answered, or was visited before.
    """
    each, loaded, read = glyphs.teacher(glyphs.ids[0]).teacher.nbytes, [], loaders.read_network
    for module in (store, cost_model):
        monkeypatch.setattr(module, "CACHE_BYTES", room * each)
    monkeypatch.setattr(loaders, "read_network", lambda path, card: loaded.append(card.id) or read(path, card))
    zoo, setting, steps = Zoo.open("glyphs"), replace(TINY, images_per_class=1, inner_steps=1), 6
    method = cost_measured.method_of(setting)
    state = method.init(zoo, Rng(0))
    for name in [*zoo.ids, *state.outputs_of]:
        zoo.teacher(name)
    loaded.clear()
    for step in range(steps):
        method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(step))), Rng(step))
    predicted = cost_model.loads(setting)
    assert least * predicted <= len(loaded) / steps <= most * predicted


def test_a_step_takes_about_the_seconds_that_are_predicted(glyphs, tmp_path):
    with cost_measured.one_thread():
        setting = replace(TINY, images_per_class=10, inner_steps=5, updates=4, batch=128, capacity=1000)
        teacher = cost_measured.time_teacher("conv4", 32, tmp_path / "teacher")
        canvas = cost_measured.time_canvas(32, tmp_path / "student", 1)
        constants = Constants(
            teacher_pass_s={"conv4": {32: teacher["pass"]}},
            answer_s={"conv4": {32: teacher["answer"]}},
            generator_pass_s={32: canvas["generator"]},
            adam_s=canvas["adam"],
            vary_s={32: canvas["vary"]},
            update_s={32: canvas["updates"][0]},
            update_output_s=0.0,
            read_s={"conv4": {32: teacher["read"]}},
            open_s=0.0,
            plan_s=0.0,
            index_bytes=0.0,
            index_memory=0.0,
            base_memory=0.0,
            teacher_saved={"conv4": {32: teacher["saved"]}},
            generator_saved={32: canvas["generator_saved"]},
            student_saved={32: canvas["student_saved"]},
        )
        method = cost_measured.method_of(setting)
        state, _ = take_steps(glyphs, method)
        start = time.process_time()
        method.step(state, teachers_of(glyphs, method.plan(state, glyphs, Rng(1))), Rng(1))
        measured = time.process_time() - start
    assert measured / 3 < cost_model.step_seconds(setting, constants) < 3 * measured


def test_between_sizes_a_cost_follows_the_pixels():
    points = {32: 1.0, 64: 5.0}
    assert [cost_model.at(points, size) for size in (16, 32, 64, 128)] == [0.25, 1.0, 5.0, 20.0]
    assert cost_model.at(points, 48) == pytest.approx(1 + 4 * (48**2 - 32**2) / (64**2 - 32**2))


def test_large_differences_are_marked():
    assert cost_model.deviation(1.2, 1.0) == "+20%"
    assert cost_model.deviation(0.6, 1.0) == "**-40%**"


def test_the_document_shows_what_the_file_holds_and_the_file_what_the_formulas_say():
    constants, lines = cost_model.read()
    text = DOCUMENT.read_text()
    for table in (
        cost_model.constants_table(constants),
        cost_model.checked_table(lines),
        cost_model.beyond_table(constants),
        cost_model.sizes_table(constants),
    ):
        assert table in text, "run benchmarks/cost_model.py --tables and copy them to docs/scale.md"
    for line in lines:
        values, settings = line["values"], line["settings"]
        if "questions a step" in values and "recipe" not in settings:
            setting = Setting(**settings)
            assert values["questions a step"][0] == pytest.approx(cost_model.questions(setting))
            assert values["bank MB"][0] == pytest.approx(
                cost_model.answer_bank_bytes(setting.capacity, setting.pixels, setting.outputs) / 1e6
            )
    sizes = {int(n.replace(",", "")) for n in re.findall(r"^\| ([\d,]+) \| CPU s a step", text, re.MULTILINE)}
    assert sizes == set(cost_model.MODELS)
