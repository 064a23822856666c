"""Dry run: every statement of a switchover in order, with its strongest lock and an estimate, changing nothing.

The statements are rendered by the same functions that the real run uses. The transaction is READ ONLY, so PostgreSQL
itself refuses a write, and must not have given it a number to write under. In a rehearsal, where nobody else is at
work, a digest of catalogs, state and row counters before and after proves it once more.
"""

from __future__ import annotations

from datetime import datetime

from rehearsal.catalog.tables import split_name
from rehearsal.errors import StepFailed
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.acts import Act, Prospect, lock_of, say_duration
from rehearsal.switchover.changes import read_applied, render_changes
from rehearsal.switchover.strategies.registry import strategy_of


def plan_acts(conn: Connection, files: SqlFiles, plan: Plan, now: datetime) -> list[Act]:
    """Return all acts for all tables of the plan that are still to come."""
    acts: list[Act] = []
    applied = read_applied(conn)
    acts += [
        Act(plan.name, f"change {change.name}", change.body, lock_of(change.body), 0.1)
        for change in render_changes(conn, files, plan, now)
        if change.name not in applied
    ]
    strategy = strategy_of(plan)
    for spec in plan.tables:
        found = state.find_migration(conn, split_name(spec.name))
        if found is None or found.state not in strategy.switched:
            acts += strategy.acts(Prospect(conn, files, plan, spec, now, found))
    return acts


def plan_read_only(conn: Connection, files: SqlFiles, plan: Plan, now: datetime) -> list[Act]:
    """Return all acts that are still to come, in one read-only transaction; writers may be at work meanwhile.

    Raises:
        StepFailed: PostgreSQL gave the transaction a number to write under, so something may have been written.
    """
    with conn.transaction():
        conn.execute("set transaction read only")
        acts = plan_acts(conn, files, plan, now)
        if scalar(conn, "select pg_catalog.pg_current_xact_id_if_assigned()::text") is not None:
            message = "the dry run wrote something; its transaction was taken back"
            raise StepFailed(message)
    return acts


def dry_run_text(plan: Plan, acts: list[Act], counts: dict[str, int]) -> str:
    """Return `dry_run.log`: row counts, every act in order, the sum of the estimates."""
    head = [f"-- dry run of plan {plan.name}, strategy {plan.strategy}; nothing was changed", "--"]
    head += [f"-- {table}: {rows:,} rows" for table, rows in counts.items()]
    head += [f"-- {len(acts)} acts, about {say_duration(sum(act.seconds for act in acts))} of work", ""]
    return "\n".join(head) + "\n" + "\n".join(act.text() for act in acts)


def catalog_digest(conn: Connection, files: SqlFiles) -> str:
    """Return a digest of catalogs, state and row counters; equal digests mean that nothing was changed."""
    conn.execute("select pg_catalog.pg_stat_clear_snapshot()")
    row = conn.execute(files.query("switchover/catalog_snapshot.sql"), {}).fetchone()
    return str(row[0]) if row else ""
