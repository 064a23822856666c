"""Phases that prove the rest: full load, a mismatch that is really there, the way back, and forward again."""

from __future__ import annotations

import time

from rehearsal.catalog.tables import Name, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.mismatch import inject
from rehearsal.rehearse.perform import check_definition, check_drift, compare_all, judge_locks, route
from rehearsal.rehearse.prepare import check_triggers
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.usage import smoke_all
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.repair import resync


def full_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then settle and compare exactly."""
    keep_load(context)
    compare_all(context, "parity-after", self_test=False)


def keep_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then settle; require that every kind of write was seen."""
    context.writers.ensure("load")
    time.sleep(context.plan.load.duration_s)  # the load is open loop: its length is what is asked for
    settled = context.writers.settle("load")
    short = settled.short_of(context.plan.gates.min_writes, context.plan)
    context.run.record(
        "load",
        "witness",
        None if short else True,
        "too few: " + "; ".join(short) if short else "every kind of write was acknowledged often enough",
    )


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


def forward_again(context: Context) -> None:
    """Bring the rows back that were taken out, switch again under load, and prove once more that nothing is lost."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("forward-again")
    brought = 0
    with context.session("re-sync") as conn:
        for spec in context.plan.tables:
            brought += resync(conn, context.switchover(spec))
    context.run.event("note", text=f"re-synced {brought} rows")
    for spec in context.plan.tables:
        context.switchover(spec).switch()
    if context.plan.strategy == "dual-write":
        route(context, on=True)
        check_drift(context, expected=True)
    else:
        judge_locks(context)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    check_triggers(context)
    settled = context.writers.settle("forward-again")
    context.writers.stop()
    reports = compare_all(context, "parity-after", self_test=False)
    equal = all(report.unexplained == 0 for report in reports)
    good = equal and settled.is_clean and all(one.passed for one in results)
    observed = (
        f"{brought} rows re-synced, {settled.lost} acknowledged writes lost, content {'equal' if equal else 'DIFFERS'}"
    )
    context.run.record("forward-again", "service", good, observed)
    final_settlement(context)


def final_settlement(context: Context) -> None:
    """Settle once more when no writer is left, in both tables of every pair, the lagging one drained."""
    relations: list[tuple[TableSpec, list[Name]]] = []
    with context.session() as conn:
        for spec in context.plan.tables:
            names = Names(split_name(spec.name))
            work = context.switchover(spec)
            if work.log_now(conn) is not None:
                work.follow()
            swapped = state.read_migration(conn, names.source).state == state.SWAPPED
            relations.append((spec, [names.source, names.retired if swapped else names.target]))
    context.writers.settle("at the end", relations)
    context.row_counts("at the end")
