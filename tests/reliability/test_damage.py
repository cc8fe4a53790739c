"""Damaged files of every kind: named in an error or a warning, or without effect; never a traceback, never silent."""

import re

import pytest
from damage import damages, try_all

SILENT = {"JPEG picture": r"bit|byte|cut", "metrics.jsonl": r"cut to \d+"}
"""What may pass unnoticed, as docs/reliability.md says: a JPEG has no checksums, and a log may end at any line."""


def damage_all(every_kind, most: int) -> None:
    for kind in every_kind:
        content = kind.path.read_bytes()
        outcomes = try_all(kind, damages(content, most))
        counts = {name: outcomes.counts[name] for name in ("named", "no effect", "silent")}
        print(f"| {kind.name} | {len(content):,} | {sum(outcomes.counts.values()):,} |", *counts.values(), sep=" | ")
        allowed = rf"{kind.name}, ({SILENT.get(kind.name, '(?!)')}).*: silent"
        assert not [bad for bad in outcomes.bad if not re.match(allowed, bad)]


def test_a_damage_is_named_or_without_effect(every_kind, no_waiting):
    damage_all(every_kind, 16)


@pytest.mark.reliability
def test_a_damage_at_a_thousand_places_is_named_or_without_effect(every_kind, no_waiting):
    damage_all(every_kind, 1000)
