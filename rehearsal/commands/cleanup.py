"""The verb `db.cleanup`: the retired tables of a swap are dropped once the plan's stable days have passed.

Owns the one thing that cannot be taken back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

from rehearsal.approval.confirm import confirm
from rehearsal.catalog.tables import split_name
from rehearsal.commands.session import DONE, Target, alone, opened
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, with_lock
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity import compare
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.strategies.attach.unsplit import forget_copy


def clean_up(context: Context, conn: Connection) -> None:
    """Drop the retired table of every pair, after all of them were looked at.

    Locks: ACCESS EXCLUSIVE on each table for the time of its drop.

    Raises:
        PreconditionError: too early, not swapped, or a pair differs; then nothing was dropped.
        LockNotAcquired: a table was in use for longer than the budget; those before it are dropped.
    """
    pairs = [(spec, state.read_migration(conn, split_name(spec.name))) for spec in context.plan.tables]
    for _, found in pairs:
        require_stable(conn, found, context.plan.stable_days)
    for spec, _ in pairs:
        require_equal(context, conn, spec)
    for spec, found in pairs:
        drop_legacy(context, conn, Names(split_name(spec.name)), found)


def require_stable(conn: Connection, found: state.Migration, days: int) -> None:
    """Refuse a clean-up before the stable days have passed.

    Raises:
        PreconditionError: it is too early, or the table was not swapped.
    """
    if found.state not in (state.SWAPPED, state.ATTACHED, state.REGRAINED):
        message = (
            f"{found.source} is {found.state}; only what a swap or a cut-over left can be dropped here. "
            "With dual-write the application's name is still that of the legacy table"
        )
        raise PreconditionError(message)
    query = "select changed_at from rehearsal.migration where id = %s"
    for (switched,) in conn.execute(query, [found.id]):
        ready = switched + timedelta(days=days)
        if ready > datetime.now(UTC):
            message = f"{found.source} was switched at {_minute(switched)}; it may be dropped from {_minute(ready)} on"
            raise PreconditionError(message)


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def require_equal(context: Context, conn: Connection, spec: TableSpec) -> None:
    """Drain the lagging table and compare the pair exactly.

    Raises:
        PreconditionError: rows differ.
    """
    work = context.switchover(spec)
    work.follow()
    source, target = context.pair(conn, spec)
    report = compare(context.env.database, context.files, source, target, spec.key, keylog=work.log_now(conn))
    if report.unexplained:
        message = f"{spec.name}: {report.unexplained} rows differ; nothing was dropped. Look at `invoke db.verify`"
        raise PreconditionError(message)


def drop_legacy(context: Context, conn: Connection, names: Names, found: state.Migration) -> None:
    """Drop the retired table, its logs and the capture, in one short transaction."""

    def work(held: Connection) -> None:
        trigger = sql.Identifier(names.reverse_capture_trigger)
        held.execute(sql.SQL("drop trigger {} on {}").format(trigger, sql.Identifier(*names.source)))
        trigger = sql.Identifier(names.truncate_trigger)
        held.execute(sql.SQL("drop trigger {} on {}").format(trigger, sql.Identifier(*names.source)))
        held.execute(as_query(Guard(context.files, names, found.id).off_sql(names.source)))
        for name in (names.retired, names.forward_log, names.reverse_log):
            held.execute(sql.SQL("drop table {}").format(sql.Identifier(*name)))
        for role in ("capture_forward", "capture_reverse", "refuse_truncate"):
            held.execute(sql.SQL("drop function {}()").format(sql.Identifier(*names.function(role))))
        held.execute("delete from rehearsal.migration where id = %s", [found.id])

    lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*names.source))
    with_lock(conn, f"clean-up of {found.source}", work, lock=lock)
    context.run.event("note", text=f"{'.'.join(names.retired)} dropped")


def end_attach(context: Context, conn: Connection) -> None:
    """End the way back of every attached table: its copy of the old primary key goes, or its split history.

    Locks: SHARE UPDATE EXCLUSIVE on the history partition; ACCESS EXCLUSIVE on history that was split, which nobody
    uses.

    Raises:
        PreconditionError: too early, or not attached; then nothing was dropped.
    """
    pairs = [(spec, state.read_migration(conn, split_name(spec.name))) for spec in context.plan.tables]
    for spec, found in pairs:
        require_stable(conn, found, context.plan.stable_days)
        sub = state.find_migration(conn, HistoryNames(Names(split_name(spec.name))).history)
        if sub and sub.state != state.SWAPPED:
            message = f"the history of {found.source} is being split; `invoke db.regrain` goes on with it"
            raise PreconditionError(message)
    for spec, found in pairs:
        extra = HistoryNames(Names(split_name(spec.name)))
        index = sql.Identifier(extra.history[0], extra.back_index)
        conn.execute(sql.SQL("drop index concurrently if exists {}").format(index))
        with conn.transaction():
            if found.state == state.REGRAINED:
                forget_copy(conn, Names(extra.history), state.read_migration(conn, extra.history).id)
                conn.execute(sql.SQL("drop table {}").format(sql.Identifier(*extra.history)))
            conn.execute("delete from rehearsal.migration where id = %s", [found.id])
        context.run.event("note", text=f"{found.source} stays partitioned; its way back has ended")


def cleanup(target: Target) -> int:
    """Drop the legacy tables, after the plan's stable days and a last exact comparison of all of them.

    Raises:
        PreconditionError: too early, not switched, or the tables differ; then nothing was dropped.
    """
    with opened(target, "cleanup") as context:
        confirm(context.env, context.plan, yes=target.yes)
        with alone(context) as conn:
            require_ready(context, conn, Intent.CLEANUP)
            (end_attach if context.plan.strategy == "attach" else clean_up)(context, conn)
    return DONE
