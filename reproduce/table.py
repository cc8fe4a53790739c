"""Print a results table as Markdown: ``python reproduce/table.py reproduce/cifar_fs/results.jsonl``."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def cell(row: dict[str, Any] | None, kind: str) -> str:
    """Mean and interval, or a dash."""
    if row is None or kind not in row["accuracy"]:
        return "-"
    score = row["accuracy"][kind]
    return f"{score['mean']:.1f} ± {score['ci95']:.1f}"


def main() -> None:
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for text in Path(sys.argv[1]).read_text().splitlines():
        row = json.loads(text)
        rows[row["name"]][row["shot"]] = row
    columns = ["row", "1-shot", "5-shot", "1-shot transductive", "5-shot transductive", "minus zoo ensemble, paired"]
    columns += ["networks", "seeds", "steps", "minutes"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    order = sorted(rows.items(), key=lambda kv: kv[1][1]["accuracy"]["inductive"]["mean"])
    for name, by_shot in order:
        one, five = by_shot.get(1), by_shot.get(5)
        first = one or five or {}
        scores = [cell(r, kind) for kind in ("inductive", "transductive") for r in (one, five)]
        ahead = [f"{d['mean']:+.1f} ± {d['ci95']:.1f}" for r in (one, five) if r and (d := r.get("minus_zoo_ensemble"))]
        minutes = f"{first['seconds']['total'] / 60:.0f}" if "seconds" in first else "-"
        facts = [str(first["networks_at_inference"]), str(len(first["seeds"])), str(first.get("steps", "-")), minutes]
        print("| " + " | ".join([name, *scores, " / ".join(ahead) or "-", *facts]) + " |")


if __name__ == "__main__":
    main()
