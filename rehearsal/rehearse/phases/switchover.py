"""The phase `switchover`: every table is copied and switched while writers are at work."""

from __future__ import annotations

from rehearsal.catalog.tables import split_name
from rehearsal.evidence.data import Reached
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.locks import judge_locks
from rehearsal.rehearse.phase import Phase
from rehearsal.rehearse.readiness import Intent, ask_first
from rehearsal.rehearse.structure import check_triggers
from rehearsal.switchover import state
from rehearsal.switchover.strategies.registry import strategy_of


def switch_over(context: Context) -> None:
    """Copy, follow and switch every table while writers are at work; reconcile their ledger."""
    ask_first(context, Intent.SWITCHOVER)
    context.writers.ensure("switchover")
    context.row_counts("before the copy")
    for spec in context.plan.tables:
        context.switchover(spec).prepare()
    context.row_counts("copied, following")
    for spec in context.plan.tables:
        context.switchover(spec).switch()
    context.row_counts("switched")
    with context.session() as conn:
        for spec in context.plan.tables:
            record_state(context, conn, spec)
    judge_locks(context)
    check_triggers(context)
    context.writers.reconcile("switchover")


def record_state(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Record which state a table is in, and how long its steps took."""
    found = state.read_migration(conn, split_name(spec.name))
    steps = conn.execute("select duration_ms from rehearsal.step where migration = %s", [found.id]).fetchall()
    seconds = sum(ms for (ms,) in steps) / 1e3
    observed = f"{found.state}; its steps took {seconds:.1f} s"
    passed = found.state in strategy_of(context.plan).switched
    context.run.record("switchover", spec.name, passed, observed, Reached(found.state, seconds))


PHASE = Phase("switchover", "Switchover under load", "switchover", switch_over)
