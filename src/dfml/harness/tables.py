"""Tables for people."""

from rich import box
from rich.table import Table

from dfml.evaluate import Score
from dfml.harness.results import Evaluation

HEADS = {"inductive": "inductive", "transductive": "transduct."}  # short, so that 80 columns hold the table


def score_table(evaluation: Evaluation) -> Table:
    """Accuracy in percent with 95 % intervals, a line per learner, a column per shot and kind."""
    rows = evaluation.rows
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
