import json

import pytest

import scale
from large_zoo import write_large_zoo


def cost(teachers: int, seconds: float) -> dict:
    opening = {"teachers": teachers, "open_s": 0.1, "open_mb": 250.0, "import_mb": 220.0}
    steps = {"init_s": 1.0, "step_s": seconds, "cpu_s": seconds, "floor_s": 0.03, "peak_memory_mb": 600.0}
    return opening | steps | {"repeats": 3, "device": "cpu x1"}


@pytest.fixture
def lines() -> list[dict]:
    smallest = scale.result_line("free", cost(10, 2.0), None)
    return [smallest, scale.result_line("free", cost(1000, 4.0), smallest)]


def test_a_ratio_is_the_smallest_zoo_over_this_one(lines):
    assert [line["ratio"] for line in lines] == [1.0, 0.5]
    assert (lines[1]["ours_s"], lines[1]["other_s"], lines[1]["other"]) == (4.0, 2.0, "10 teachers")
    assert "| 1,000 | 0.100 | 250 (import 220) | free | 1.00 | 4.00 | 4.00 | 2.00 | 600 |" in scale.table(lines)


def test_the_lines_of_other_benchmarks_stay(lines, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"name": "recover", "ratio": 7}\n{"name": "scale", "ratio": 9}\n')
    scale.merge(path, lines)
    scale.merge(path, lines)
    assert [json.loads(text)["name"] for text in path.read_text().splitlines()] == ["recover", "scale", "scale"]


def test_opening_is_measured(tmp_path):
    opened = scale.measure_opening(write_large_zoo(tmp_path / "zoo", models=10, width=4, size=16, shared=False))
    assert opened["teachers"] == 10
    assert opened["open_mb"] >= opened["import_mb"] > 0
    assert opened["open_s"] > 0
