"""Tables for people."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dfml.evaluation.confusion import Judged
from dfml.evaluation.score import Score
from dfml.files import visible
from dfml.report.comparison import Comparison
from dfml.report.formats import columns
from dfml.runs.privacy import Attack
from dfml.runs.results import Evaluation

HEADS = {"inductive": "inductive", "transductive": "transduct."}  # short, so that 80 columns hold the table


def score_table(evaluation: Evaluation, beside: Sequence[Evaluation] = ()) -> Table:
    """Accuracy in percent with 95 % intervals, a line per learner, a column per shot and kind.

    Args:
        evaluation: the run that the table is about.
        beside: other runs on the same episodes, above its line.
    """
    rows = evaluation.rows
    own_line = [name for name, _, _ in rows].index(evaluation.name)
    rows[own_line:own_line] = [(other.name, other.networks, other.scores) for other in beside]
    shots = list(evaluation.scores)
    kinds = [k for k in HEADS if any(k in scores[s] for _, _, scores in rows for s in shots)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("learner", no_wrap=True)
    table.add_column("nets", justify="right", no_wrap=True)
    for kind in kinds:
        for shot in shots:
            table.add_column(
                f"{shot}-shot" + ("" if len(kinds) == 1 else f"\n{HEADS[kind]}"), justify="right", no_wrap=True
            )
    for name, networks, scores in rows:
        cells = [_cell(scores[shot].get(kind)) for kind in kinds for shot in shots]
        own = evaluation.baselines and name == evaluation.name
        table.add_row(name, str(networks), *cells, style="bold green" if own else None)
    return table


def _cell(score: Score | None) -> str:
    return "-" if score is None else f"{score.mean:.1f} ± {score.ci95:.1f}"


def privacy_table(attacks: Sequence[Attack]) -> Table:
    """A line per attack; what tells more than chance is bold, controls are dim."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("attack", "area under curve", "found at 1 % false"):
        table.add_column(name, justify="left" if name == "attack" else "right")
    for attack in attacks:
        cells = [f"{attack.area:.3f} ± {attack.ci95:.3f}", f"{100 * attack.found:.1f} %"]
        style = "dim" if attack.control else "bold" if attack.tells else None
        table.add_row(attack.name + (" (control)" if attack.control else ""), *cells, style=style)
    return table


WIDEST = 10  # classes of which a table shows what each was taken for


def confusion_table(judged: Judged) -> Table:
    """A line per class: images, how many were found, how many of those called so are; then what each was taken for.

    Of more than `WIDEST` classes, only what each was mostly taken for by mistake.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("class", "images", "found %", "right %"):
        table.add_column(name, justify="left" if name == "class" else "right")
    few = len(judged.names) <= WIDEST
    for name in judged.names if few else ["mostly taken for"]:
        table.add_column(Text(visible(name)), justify="right" if few else "left")
    for i, row in enumerate(judged.per_class()):
        shares = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("found", "right")]
        counts = judged.counts[i].tolist()
        wrong = [*counts[:i], -1, *counts[i + 1 :]]
        mostly = f"{visible(judged.names[wrong.index(max(wrong))])} ({max(wrong)})" if max(wrong) > 0 else "-"
        cells = [str(count) for count in counts] if few else [mostly]
        table.add_row(Text(visible(row["class"])), str(row["images"]), *shares, *map(Text, cells))
    return table


def sweep_table(lines: Sequence[dict[str, Any]]) -> Table:
    """The lines of `dfml.runs.sweep.sweep`: a column a value that was varied, then how each run did."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shots = list(dict.fromkeys(shot for line in lines for shot in line.get("accuracy", {})))
    names = list(lines[0]["values"])
    heads = [f"{shot}-shot" for shot in shots] or ["pseudo-val"]
    for head in [*names, *heads, "steps", "minutes", "error"]:
        table.add_column(head, justify="left" if head == "error" else "right")
    for line in lines:
        cells = [str(line["values"][name]) for name in names]
        if "error" in line:
            rest = ["-"] * (len(heads) + 2)
            table.add_row(*cells, *rest, Text(visible(line["error"].splitlines()[0])), style="red")
            continue
        means = [line["accuracy"][shot] for shot in shots]
        pseudo = "-" if line["pseudo_val"] is None else f"{line['pseudo_val']:.1f}"
        done = [f"{m['mean']:.1f} ± {m['ci95']:.1f}" for m in means] or [pseudo]
        table.add_row(*cells, *done, str(line["steps"]), f"{line['seconds'] / 60:.1f}", "")
    return table


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Accuracies; what was compared; differences and costs: each in a table that 80 columns hold."""
    shown, tables = columns(comparison), []
    for block in dict.fromkeys(column.block for column in shown):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("recipe", overflow="fold", min_width=12)
        part = [column for column in shown if column.block == block]
        for column in part:
            head = column.head.replace(" transductive", "\ntransduct.")
            head = head.replace(f" minus {comparison.first}", "\nminus\nfirst")
            table.add_column(head, justify="right", no_wrap=True)
        for i, row in enumerate(comparison.rows):
            table.add_row(Text(visible(row.recipe)), *(Text(column.cells[i]) for column in part))
        tables.append(table)
    return tables
