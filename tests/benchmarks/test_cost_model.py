"""The formulas of costs against real steps: what can be counted is exact."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import cost_model
from cost_model import Setting
from dfml.methods.base import teachers_of
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.zoo import Zoo
from large_zoo import write_large_zoo

RESULTS = Path(cost_model.__file__).with_name("cost_model.jsonl")
PIECES = {"visit_s": 1e-3, "answer_s": 1e-4, "update_s": 1e-3, "read_s": 1e-2}
TINY = Setting(models=6, size=16, answering=4, visits=2, images_per_class=2, inner_steps=1)


@pytest.mark.parametrize("changed", [{}, {"visits": 3, "answering": 100}, {"images_per_class": 3, "inner_steps": 2}])
def test_questions_and_bank_are_those_of_a_real_step(changed, tmp_path):
    setting = replace(TINY, **changed)
    options = {
        "method.validation_teachers": 0,
        "method.teachers_per_step": setting.visits,
        "method.images_per_class": setting.images_per_class,
        "method.answering_teachers": setting.answering if setting.answering <= 6 else None,
        "method.updates": 1,
        "method.batch_size": 4,
        "method.capacity": 100,
        "recovery.steps": setting.inner_steps,
    }
    zoo = Zoo.open(write_large_zoo(tmp_path / "zoo", models=6, width=4, size=16))
    method = resolve("fast", options | {"run.steps": 1}).build()
    state = method.init(zoo, Rng(0))
    before = zoo.tally.queries
    report = method.step(state, teachers_of(zoo, method.plan(state, zoo, Rng(1))), Rng(1))
    assert (report.images, zoo.tally.queries - before) == (setting.images, setting.questions)
    bank = state.bank.images.nbytes + state.bank.answers.nbytes
    assert replace(setting, capacity=100).bank_bytes == bank


def test_seconds_are_the_sum_of_their_pieces():
    setting = replace(TINY, updates=3, batch=8)
    assert setting.seconds(PIECES) == pytest.approx(20 * 2 * 2e-3 / 2 + 20 * 4 * 1e-4 + 24 * 1e-3)
    assert setting.seconds(PIECES, read=2) == pytest.approx(setting.seconds(PIECES) + 0.02)


def test_tables_show_what_the_formulas_say_beside_what_was_measured():
    small = {"schema": 1, "name": "check", "models": 10, "open_s": 0.1, "index_mb": 1.0, "peak_mb": 500.0}
    small |= {"step_s": 9.9, "questions": 7.0, "read": 0.0}
    large = small | {"models": 110, "open_s": 0.2, "index_mb": 2.0, "peak_mb": 600.0}
    lines = [{"name": "pieces", "network": "conv4", "size": 32} | PIECES, small, large]
    said = Setting(10, updates=10)
    first = cost_model.checked_table(lines).splitlines()[2]
    assert first == f"| 10 | {said.seconds(PIECES):.2f} / 9.90 | {said.questions:,} / 7 | 0 | 0.100 | 1.00 | 500 |"
    assert cost_model.beyond_table(lines).splitlines()[2] == "| 100,000 | 100.1 | 1,001 | 100,490 |"
    assert cost_model.pieces_table(lines).splitlines()[2].startswith("| conv4 | 32 | 1 | 0.1 | 1 | 10 | ")


def test_the_page_shows_what_was_measured():
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    page = (RESULTS.parents[1] / "docs" / "scale.md").read_text()
    for table in (cost_model.pieces_table, cost_model.checked_table, cost_model.beyond_table):
        assert table(lines) in page
    for check in cost_model.named(lines, "check"):
        setting = Setting(check["models"], updates=cost_model.OPTIONS["method.updates"])
        assert check["questions"] == setting.questions
