"""A GO that fits production, and what is said where none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehearsal.approval import go
from rehearsal.approval.fingerprint import Fingerprint
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from tests.signed import rehearsed

PLAN = Plan(name="managed", strategy="swap", tables=[TableSpec(name="public.t", key="at", interval="1 month")])
PARTS = {"plan": "a", "sql": "b", "templates": "c", "code": "d", "lock": "e"}
FINGERPRINT = Fingerprint.of(PARTS)
WANTED = go.Conditions(PLAN, FINGERPRINT, 15, {"public.t": 1_000_000})
ENOUGH = {"public.t": 100_000}


def fitting(runs: Path, **odd: Any) -> Path:
    """Sign a GO that fits, but for what is odd about it."""
    how = {"rows": ENOUGH, **odd}
    return rehearsed(runs, how.pop("plan", PLAN), how.pop("fingerprint", FINGERPRINT), **how)


def refusal(runs: Path, wanted: go.Conditions = WANTED) -> str:
    """Return why nothing stands for production; empty when something does."""
    try:
        go.find_go(runs, wanted)
    except PreconditionError as exc:
        return str(exc)
    return ""
