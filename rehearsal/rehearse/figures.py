"""Figures of a table, held against those of the baseline."""

from __future__ import annotations

import re

from rehearsal.catalog.tables import Table
from rehearsal.checks.figures import read_figures, row_column
from rehearsal.errors import CannotSee
from rehearsal.evidence.data import Baseline
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context


def compare_figures(context: Context, conn: Connection, spec: TableSpec, target: Table) -> None:
    """Compare rows, key range and distinct values with the baseline, without the rows that the load made."""
    before = baseline_of(context, spec)
    if before is None or not before.figures:
        message = f"no baseline of {spec.name} was recorded; run again from baseline"
        raise CannotSee(message)
    primary = row_column(target, spec.key)
    now = read_figures(conn, target, spec, distinct_columns(target), before.upto, primary)
    then = before.figures
    changed = {name: (then.get(name), value) for name, value in now.items() if then.get(name) != value}
    observed = "as before: " + ", ".join(f"{name} {value}" for name, value in now.items())
    if changed:
        observed = "changed: " + ", ".join(f"{name} {was} -> {is_}" for name, (was, is_) in changed.items())
    context.run.record("stats-unchanged", spec.name, not changed, observed)


def baseline_of(context: Context, spec: TableSpec) -> Baseline | None:
    """Return what was last measured of a table before anything was changed."""
    seen = [evidence for evidence in context.run.evidence() if evidence.gate == "baseline"]
    found = [evidence.data for evidence in seen if evidence.subject == spec.name]
    return next((data for data in reversed(found) if isinstance(data, Baseline)), None)


def distinct_columns(table: Table) -> list[str]:
    """Return the columns whose distinct values are counted before and after: those of foreign keys."""
    named = (re.match(r"FOREIGN KEY \((.*?)\) REFERENCES", key.definition) for key in table.foreign_keys)
    have = {column.name for column in table.columns}
    found = (figure.strip().strip('"') for match in named if match for figure in match[1].split(","))
    return [figure for figure in dict.fromkeys(found) if figure in have]
