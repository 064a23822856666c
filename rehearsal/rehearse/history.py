"""Phases of strategy attach that differ: no row is copied, so the table is compared with itself, before and after."""

from __future__ import annotations

import time

from rehearsal.catalog.tables import split_name
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.locks import judge_locks
from rehearsal.rehearse.phases.load import keep_load
from rehearsal.rehearse.phases.rollback import record_restore_time
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.requests import smoke_all
from rehearsal.rehearse.structure import check_definition
from rehearsal.rehearse.untouched import check_content, find_mismatch, read_now, record_way_back, write_outside


def full_load(context: Context) -> None:
    """Keep the load at work for the plan's duration, then settle and compare the untouched rows."""
    keep_load(context)
    check_content(context, "after the load")


def roll_back(context: Context) -> None:
    """Write rows outside history, go back under load, and require every one of them in the old table."""
    ask_first(context, Intent.ROLLBACK)
    context.writers.ensure("rollback")
    outside = {spec.name: write_outside(context, spec) for spec in context.plan.tables}
    for spec in context.plan.tables:
        find_mismatch(context, spec)
    before = {spec.name: read_now(context, spec) for spec in context.plan.tables}
    decided = time.monotonic()
    for spec in context.plan.tables:
        context.switchover(spec).roll_back()
    results = smoke_all(context, "rollback")
    seconds, limit = time.monotonic() - decided, context.plan.gates.rollback_max_s
    observed = f"{seconds:.1f} s from the decision to every server answering (limit {limit:.0f} s)"
    context.run.record("rollback-time", "by the way back", seconds <= limit, observed, seconds=seconds)
    record_restore_time(context, limit)
    judge_locks(context)
    for spec in context.plan.tables:
        record_way_back(context, spec, outside[spec.name], before[spec.name])
    check_definition(context, "after the way back", back=True)
    context.row_counts("rolled back")
    settled = context.writers.settle("rollback", [(spec, [split_name(spec.name)]) for spec in context.plan.tables])
    good = settled.is_clean and all(one.passed for one in results)
    answered = f"{sum(one.passed is True for one in results)} of {len(results)} requests answered well"
    context.run.record("rollback", "service", good, f"{settled.lost} acknowledged writes lost, {answered}")


def forward_again(context: Context) -> None:
    """Prepare and cut over again under load, and prove once more that nothing is lost."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("forward-again")
    for spec in context.plan.tables:
        context.switchover(spec).prepare()
        context.switchover(spec).switch()
    judge_locks(context)
    check_definition(context, "forward again")
    results = smoke_all(context, "forward-again")
    settled = context.writers.settle("forward-again")
    same = check_content(context, "forward again")
    good = same and settled.is_clean and all(one.passed for one in results)
    observed = f"{settled.lost} acknowledged writes lost, content {'the same' if same else 'CHANGED'}"
    context.run.record("forward-again", "service", good, observed)
    context.writers.stop()
    context.writers.settle("at the end")
    context.row_counts("at the end")
