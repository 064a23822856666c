"""The phase `rollback`: a mismatch is put in and found, then the switchover is taken back under load."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rehearsal.application.smoke import SmokeResult
from rehearsal.catalog.tables import split_name
from rehearsal.evidence.data import Injected, RestoreSeconds, Seconds
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.routing import judge_move, route_if_wanted
from rehearsal.rehearse.strategy import proof_of
from rehearsal.rehearse.structure import check_definition


def roll_back(context: Context) -> None:
    """Put a mismatch in, see it found, and go back under load, until every server answers."""
    ask_first(context, Intent.ROLLBACK)
    context.writers.ensure("rollback")
    proof, began = proof_of(context), time.monotonic()
    proof.before_rollback()
    decided = time.monotonic()
    route_if_wanted(context, on=False)
    for spec in context.plan.tables:
        context.switchover(spec).roll_back()
    results = smoke_all(context, "rollback")
    record_times(context, time.monotonic() - decided)
    judge_move(context, on=False)
    proof.after_rollback()
    check_definition(context, "after the rollback", back=True)
    context.row_counts("rolled back")
    record_service(context, results, injected_s=decided - began)


def record_times(context: Context, seconds: float) -> None:
    """Hold both rollbacks against the same limit: the rollback just now, and the restore of the backup."""
    limit = context.plan.gates.rollback_max_s
    observed = f"{seconds:.1f} s from the decision to every server answering (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by the rollback", seconds <= limit, observed, Seconds(seconds))
    record_restore_time(context, limit)


def record_restore_time(context: Context, limit: float) -> None:
    """Hold the measured restore of the backup against the same limit: it is the last resort."""
    drills = [seen.data for seen in context.run.evidence() if seen.gate == "restore-drill"]
    measured = [data.seconds for data in drills if isinstance(data, Seconds)]
    if not measured:
        context.run.record("rollback-time", "by restore", None, "no restore was measured in this run")
        return
    seconds = measured[-1]
    observed = f"{seconds:.1f} s to restore the backup with its indexes and foreign keys (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by restore", seconds <= limit, observed, RestoreSeconds(seconds))


def record_service(context: Context, results: Sequence[SmokeResult], *, injected_s: float) -> None:
    """Reconcile in the old tables alone, and record whether the application is served from them as before."""
    reconciled = context.writers.reconcile(
        "rollback", [(spec, [split_name(spec.name)]) for spec in context.plan.tables]
    )
    good = reconciled.is_clean and all(result.passed for result in results)
    answered = f"{sum(result.passed is True for result in results)} of {len(results)} requests answered well"
    observed = f"{reconciled.lost} acknowledged writes lost, {answered}"
    context.run.record("rollback", "service", good, observed, Injected(injected_s))


PHASE = Phase("rollback", "Rollback under load", "rollback", roll_back)
