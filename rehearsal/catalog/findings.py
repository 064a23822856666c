"""What preflight finds, and what its checks look at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rehearsal.catalog.tables import Table
from rehearsal.plan.model import Plan, TableSpec

Severity = Literal["blocker", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: what it is, what it would do, what to do about it."""

    id: str
    severity: Severity
    subject: str
    condition: str
    effect: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks of one table look at."""

    plan: Plan
    spec: TableSpec
    table: Table
    row: Mapping[str, Any]
