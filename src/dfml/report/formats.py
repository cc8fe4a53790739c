"""A comparison as text: Markdown, CSV and LaTeX."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from dfml.report.comparison import Comparison, Row

Block = Literal["accuracy", "what", "cost"]
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


@dataclass(frozen=True)
class Column:
    """One column of a table for people.

    Args:
        head: over it.
        cells: one a row.
        block: what it belongs to, where a table is shown in parts.
    """

    head: str
    cells: list[str]
    block: Block


def columns(comparison: Comparison) -> list[Column]:
    """What Markdown, LaTeX and the terminal show, behind the recipe's label."""
    rows = comparison.rows

    def column(head: str, cell: Callable[[Row], str], block: Block) -> Column:
        return Column(head, [cell(row) for row in rows], block)

    shown = []
    for key in comparison.kinds:
        head = f"{key[0]}-shot" + (" transductive" if key[1] == "transductive" else "")
        shown.append(column(head, lambda row, key=key: _accuracy(row, key), "accuracy"))  # type: ignore[misc]
    shown += [
        column("seeds", lambda row: str(len(row.seeds)), "accuracy"),
        column("method", lambda row: row.about["method"], "what"),
        column("networks", lambda row: str(row.about["networks_at_inference"]), "what"),
        column("uses data", _uses_data, "what"),
        column("BatchNorm", lambda row: " / ".join(dict.fromkeys(a.norm for a in row.accuracies.values())), "what"),
    ]
    shown += [column(name, lambda row, name=name: _where(row, name), "what") for name in comparison.varies]  # type: ignore[misc]
    for shot in comparison.shots:
        if any(shot in row.minus_first for row in rows):
            head = f"{shot}-shot minus {comparison.first}"
            shown.append(column(head, lambda row, shot=shot: _difference(row, shot), "cost"))  # type: ignore[misc]
    return [
        *shown,
        column("seconds", lambda row: _number(row.seconds), "cost"),
        column("images", lambda row: _number(row.images), "cost"),
        column("questions", lambda row: _number(row.questions), "cost"),
        column("MB", lambda row: _number(row.memory_mb), "cost"),
    ]


def _accuracy(row: Row, key: tuple[int, str]) -> str:
    accuracy = row.accuracies.get(key)
    return "-" if accuracy is None else f"{accuracy.mean:.1f} ± {accuracy.ci95:.1f}"


def _difference(row: Row, shot: int) -> str:
    return "{:+.1f} ± {:.1f}".format(*row.minus_first[shot]) if shot in row.minus_first else "-"


def _number(value: float) -> str:
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _uses_data(row: Row) -> str:
    return {False: "no", True: "yes"}.get(row.about["uses_data"], str(row.about["uses_data"]))


def _where(row: Row, name: str) -> str:
    return f"{row.runs[0].zoo} ({row.about['zoo']['hash'][7:15]})" if name == "zoo" else str(row.about[name])


def markdown(comparison: Comparison) -> str:
    """A table, and the notes below it."""
    shown = columns(comparison)
    labels = [row.recipe for row in comparison.rows]
    lines = [["recipe", *(c.head for c in shown)], ["---", *("---:" for _ in shown)]]
    lines += [[label, *(c.cells[i] for c in shown)] for i, label in enumerate(labels)]
    table = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in comparison.notes), ""])


def latex(comparison: Comparison) -> str:
    """A ``tabular`` with the rules of the package booktabs, and the notes as comments."""
    shown = columns(comparison)
    lines = [["recipe", *(c.head for c in shown)]]
    lines += [[row.recipe, *(c.cells[i] for c in shown)] for i, row in enumerate(comparison.rows)]
    head, *body = [" & ".join(map(_escaped, line)) + r" \\" for line in lines]
    table = [r"\begin{tabular}{l" + "r" * len(shown) + "}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    notes = ["% " + " ".join(note.split()) for note in comparison.notes]
    return "\n".join([*notes, r"% needs \usepackage{booktabs}", *table, r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def csv_text(comparison: Comparison) -> str:
    """Numbers as they are, a line a row; empty where there is none."""
    table = StringIO()
    lines = [_values(comparison, row) for row in comparison.rows]
    writer = csv.DictWriter(table, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return table.getvalue()


def _values(comparison: Comparison, row: Row) -> dict[str, Any]:
    about = row.about
    values: dict[str, Any] = {"recipe": row.recipe, "method": about["method"]}
    for shot, kind in comparison.kinds:
        accuracy, name = row.accuracies.get((shot, kind)), f"{shot}_shot_{kind}"
        for part in ("mean", "ci95", "over", "norm"):
            values[f"{name}_{part}"] = getattr(accuracy, part, None)
    for shot in comparison.shots:
        mean, ci95 = row.minus_first.get(shot, (None, None))
        values |= {f"{shot}_shot_minus_first_mean": mean, f"{shot}_shot_minus_first_ci95": ci95}
    values |= {"networks": about["networks_at_inference"], "seeds": " ".join(map(str, row.seeds))}
    values |= {"seconds": row.seconds, "images": row.images, "questions": row.questions}
    values |= {"peak_memory_mb": row.memory_mb, "uses_data": about["uses_data"], "device": about["device"]}
    values |= {name: about[name] for name in ("data", "split", "way", "queries")}
    return values | {"zoo": about["zoo"]["hash"], "runs": " ".join(str(run.path) for run in row.runs)}


FORMATS: Mapping[str, Callable[[Comparison], str]] = {".md": markdown, ".csv": csv_text, ".tex": latex}
"""Ending of a file -> what it holds."""
