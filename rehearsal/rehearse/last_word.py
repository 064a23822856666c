"""The last word on every acknowledged write, when no writer is left: in every table that must have it."""

from __future__ import annotations

from rehearsal.catalog.tables import Name, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.names import Names


def final_reconciliation(context: Context) -> None:
    """Reconcile once more when no writer is left, in every table that must have each write, with the log replayed."""
    with context.session() as conn:
        relations = [(spec, brought_level(context, conn, spec)) for spec in context.plan.tables]
    context.writers.reconcile("at the end", relations)
    context.row_counts("at the end")


def brought_level(context: Context, conn: Connection, spec: TableSpec) -> list[Name]:
    """Replay what lags; return the table and, where there is one, the other that has the same rows."""
    names, work = Names(split_name(spec.name)), context.switchover(spec)
    if work.log_now(conn) is not None:
        work.follow()
    others = {state.MIRRORED: [names.target], state.SWAPPED: [names.retired]}
    return [names.source, *others.get(state.read_migration(conn, names.source).state, [])]
