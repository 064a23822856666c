"""Rehearsals that were reported and signed, by the writers of the tool itself; only what was seen is played."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rehearsal.approval.fingerprint import parts_of
from rehearsal.approval.signature import sign
from rehearsal.plan.model import Plan
from rehearsal.report import write_report
from tests.played import ENVIRONMENT, play

# Of the played run, which ends so long after its beginning.
LENGTH = timedelta(minutes=10)


def rehearsed(
    runs: Path,
    plan: Plan,
    fingerprint: str,
    *,
    name: str = "go",
    kind: str = "staging",
    rows: Mapping[str, int] | None = None,
    server: int | None = 150_000,
    ago: timedelta = timedelta(hours=1),
    gates: Mapping[str, bool | None] | None = None,
    by: str = "K. Sato",
) -> Path:
    """Play a rehearsal that ended `ago`, write its report, and sign it unless `by` is empty; return its folder."""
    begun = datetime.now(UTC) - ago - LENGTH
    facts: list[tuple[str, dict[str, Any]]] = [("fingerprint", {"whole": fingerprint, "parts": parts_of(fingerprint)})]
    if server:
        facts.append(("server", {"version": server}))
    folder = runs / f"{begun:%Y%m%dT%H%M%SZ}-{kind}-{plan.name}-{name}"
    run = play(folder, start=begun, facts=facts, rows=rows or {}, mutate=dict(gates or {}))
    outcome = write_report(run, plan, ENVIRONMENT | {"name": kind, "kind": kind}, fingerprint).outcome
    if by:
        sign(folder, by, accept="" if outcome == "GO" else "accepted in this test")
    return folder
