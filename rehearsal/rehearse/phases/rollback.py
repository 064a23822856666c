"""The phase `rollback`: a mismatch is put in and found, then the switchover is taken back under load."""

from __future__ import annotations

import time

from rehearsal.catalog.tables import split_name
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.locks import judge_locks
from rehearsal.rehearse.mismatch import inject
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.routing import check_drift, route
from rehearsal.rehearse.structure import check_definition
from rehearsal.verdict.gates import COPYING


def roll_back(context: Context) -> None:
    """Put a mismatch in, see it found and repaired, and go back under load, until every server answers."""
    ask_first(context, Intent.ROLLBACK)
    context.writers.ensure("rollback")
    began = time.monotonic()
    for spec in context.plan.tables:
        inject(context, spec)
    decided = time.monotonic()
    if context.plan.strategy == "dual-write":
        route(context, on=False)
    for spec in context.plan.tables:
        context.switchover(spec).roll_back()
    results = smoke_all(context, "rollback")
    seconds = time.monotonic() - decided
    limit = context.plan.gates.rollback_max_s
    observed = f"{seconds:.1f} s from the decision to every server answering (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by the way back", seconds <= limit, observed, seconds=seconds)
    record_restore_time(context, limit)
    if context.plan.strategy == "dual-write":
        check_drift(context, expected=False)
    else:
        judge_locks(context)
    check_definition(context, "after the way back", back=True)
    context.row_counts("rolled back")
    settled = context.writers.settle("rollback", [(spec, [split_name(spec.name)]) for spec in context.plan.tables])
    good = settled.is_clean and all(one.passed for one in results)
    observed = (
        f"{settled.lost} acknowledged writes lost, {sum(one.passed is True for one in results)} of "
        f"{len(results)} requests answered well"
    )
    context.run.record("rollback", "service", good, observed, injected_s=decided - began)


def record_restore_time(context: Context, limit: float) -> None:
    """Hold the measured restore of the backup against the same limit: it is the last resort."""
    drills = [one for one in context.run.evidence() if one.gate == "restore-drill" and "seconds" in one.data]
    if not drills:
        context.run.record("rollback-time", "by restore", None, "no restore was measured in this run")
        return
    seconds = float(drills[-1].data["seconds"])
    observed = f"{seconds:.1f} s to restore the backup with its indexes and foreign keys (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by restore", seconds <= limit, observed, restore_s=seconds)


PHASE = Phase("rollback", "Rollback under load", "rollback", roll_back, COPYING)
