"""The phase `history` of strategy attach: no row was copied, so each table is compared with what it was."""

from __future__ import annotations

from rehearsal.catalog.tables import count_rows
from rehearsal.plan.model import TableSpec
from rehearsal.plan.strategies import ATTACH
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.figures import compare_figures
from rehearsal.rehearse.parity import record_duplicates
from rehearsal.rehearse.phase import Phase, StopHere
from rehearsal.rehearse.structure import check_definition, check_shape
from rehearsal.rehearse.untouched import check_content


def unchanged(context: Context) -> None:
    """Compare content, structure and figures with those of before, while writers are at work."""
    context.writers.ensure("history")
    same = check_content(context, "after the cutover")
    with context.session("structure") as conn:
        for spec in context.plan.tables:
            history, parent = context.pair(conn, spec)
            check_shape(context, conn, spec, history, parent)
            record_duplicates(context, conn, spec)
            compare_figures(context, conn, spec, parent)
            if spec.default_partition:
                check_default(context, conn, spec)
    check_definition(context, "after the cutover")
    context.row_counts("history unchanged")
    context.writers.reconcile("history")
    if not same:
        raise StopHere


def check_default(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Count what is in the DEFAULT partition: nothing may be."""
    name = context.switchover(spec).names.default_leaf
    rows = count_rows(conn, name)
    context.run.record("default-empty", spec.name, rows == 0, f"{rows} rows in the default partition")


PHASE = Phase("history", "History unchanged", "history-unchanged", unchanged, ATTACH)
