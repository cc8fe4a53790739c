import csv
from io import StringIO

import pytest
from rich.console import Console

from dfml.report import compare, comparison_tables, csv_text, latex, markdown
from dfml.report.formats import columns


@pytest.fixture
def comparison(judged):
    runs = [judged("first", uses_data="unlabelled"), judged("a|b", recipe="best", mean=57.04, seed=3)]
    return compare([*runs, judged("second 50 % & more", recipe="best", mean=58.0, seed=3)])


def test_markdown_has_a_cell_for_every_column(comparison):
    text = markdown(comparison)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    cells = [[cell.strip() for cell in line.replace(r"\|", "!").split("|")[1:-1]] for line in table]
    assert len({len(line) for line in cells}) == 1
    first, second = (dict(zip(cells[0], line, strict=True)) for line in cells[2:4])
    assert first["recipe"] == "fast"
    assert second["recipe"] == "best (a!b)"
    assert second["1-shot"].startswith("67.0 ± ")
    assert second["1-shot minus fast"].startswith("+7.0 ± ")
    assert (first["1-shot minus fast"], first["uses data"], second["uses data"]) == ("-", "unlabelled", "no")
    assert (second["networks"], second["seeds"], second["seconds"], second["questions"]) == ("1", "1", "103", "5,000")
    assert all(f"- {note}" in text for note in comparison.notes)


def test_csv_holds_the_numbers_themselves(comparison):
    lines = list(csv.DictReader(StringIO(csv_text(comparison))))
    assert [line["recipe"] for line in lines] == [row.recipe for row in comparison.rows]
    row = comparison.rows[1]
    assert float(lines[1]["5_shot_inductive_mean"]) == row.accuracies[5, "inductive"].mean
    assert float(lines[1]["1_shot_minus_first_ci95"]) == row.minus_first[1][1]
    assert lines[0]["1_shot_minus_first_mean"] == ""
    assert lines[1]["zoo"] == "sha256:first zoo"
    assert lines[1]["1_shot_inductive_over"] == "episodes"


def test_latex_escapes_what_would_be_commands(comparison):
    lines = latex(comparison).splitlines()
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 1 + 3
    assert r"best (second 50 \% \& more)" in body[-1]
    assert "$\\pm$" in body[-1]
    assert all(line.startswith("%") for line in lines[: lines.index(next(i for i in lines if "tabular" in i))])
    columns = body[0].count(" & ")
    assert all(line.replace(r"\&", "").count(" & ") == columns for line in body)


def test_a_terminal_of_80_columns_holds_the_tables_whole(judged):
    large = {"teacher_queries": 3_463_920, "images_recovered": 25_600, "peak_memory_mb": 1029}
    large["seconds"] = {"total": 1208.0}
    runs = [judged("the one before the change", **large), judged("the one after the change", mean=40.0, **large)]
    comparison = compare(runs)
    console = Console(width=80, file=StringIO())
    for table in comparison_tables(comparison):
        console.print(table)
    shown = console.file.getvalue().split()
    for column in columns(comparison):
        for word in " ".join(column.cells).split():
            assert word in shown, f"{word} of {column.head}"
