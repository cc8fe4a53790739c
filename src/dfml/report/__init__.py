"""Tables and pictures for people."""

from dfml.report.comparison import Comparison, Row, compare
from dfml.report.cost_plot import cost_plot
from dfml.report.formats import FORMATS, csv_text, latex, markdown
from dfml.report.tables import comparison_tables, confusion_table, score_table, sweep_table

__all__ = [
    "FORMATS",
    "Comparison",
    "Row",
    "compare",
    "comparison_tables",
    "confusion_table",
    "cost_plot",
    "csv_text",
    "latex",
    "markdown",
    "score_table",
    "sweep_table",
]
