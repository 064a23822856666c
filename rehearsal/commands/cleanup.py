"""Clean-up: what is kept for the rollback is dropped once the plan's stable days have passed.

Owns the one thing that cannot be taken back, and which of two mirrored tables it is. What is dropped is said by each
strategy.
"""

from __future__ import annotations

from rehearsal.application.flags import Routing, read_routing
from rehearsal.approval.confirm import confirm
from rehearsal.catalog.tables import split_name
from rehearsal.commands.session import DONE, Target, alone, opened
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.postgres.connection import Connection, scalar, told_clearly
from rehearsal.rehearse.context import Context, require_mark
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover.acts import Act
from rehearsal.switchover.dryrun import dry_run_text
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.state import find_ended, find_migration
from rehearsal.switchover.strategies.dual_write.keys import validate_carried
from rehearsal.switchover.strategies.registry import strategy_of
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.unused import LastLook, Lookout, Watched

SIDES: dict[Routing, Stays] = {
    Routing(reads=False, writes=False): "source",
    Routing(reads=True, writes=True): "target",
}
# So long a watch of moments is taken for an answer where statements are not counted.
LONG_S = 600.0
NO_CHANGE = "no change: no switchover is under way, and nothing is kept for a rollback"


def clean_up(context: Context, conn: Connection, stays: Stays | None = None) -> None:
    """Drop what is kept of every table that has not ended yet, after all of them were looked at. See `Strategy.end`.

    `stays`: which of two mirrored tables the application uses; None: the app servers say so.

    Raises:
        PreconditionError: too early, not switched, in use, or a pair differs; then nothing was dropped.
        LockNotAcquired: a table was in use for longer than the budget; those before it are dropped.
    """
    strategy, tables = strategy_of(context.plan), _tables(context, conn)
    for table in tables:
        table.migration(conn)  # refuses what another plan is at
    if not tables:
        _finish_ended(context, conn)
        return
    asked = used_side(context, stays)
    for table in tables:
        strategy.require_end(table, conn, asked)
    last = _watch(context, conn, tables, stays) if context.plan.traits.mirrors and asked == "target" else None
    for table in tables:
        if used_side(context, stays) != asked:
            message = "app servers changed what they use meanwhile; nothing more was dropped, run again"
            raise PreconditionError(message)
        context.run.note(strategy.end(table, conn, asked, last))
    _finish_ended(context, conn)


def _watch(context: Context, conn: Connection, tables: list[Switchover], said: Stays | None) -> LastLook:
    """Watch the sources that are about to go, and return what looks once more under the lock of each."""
    pairs = [Watched(table.names.source, table.names.target) for table in tables]
    lookout = Lookout.begin(conn, context.files, pairs, context.plan.unused_s)
    if not lookout.is_exact and said is None and context.plan.unused_s < LONG_S:
        message = (
            "this database has no pg_stat_statements, so a watch sees only the statements of moments: make the "
            f"extension, or watch for longer (unused_s = {LONG_S:g} or more in the plan), or say yourself that nobody "
            "uses the source by `--leads target`. Nothing was dropped"
        )
        raise PreconditionError(message)
    for seen in lookout.watch(conn, context.plan.unused_s):
        context.run.note(seen)
    return lookout.last


def _finish_ended(context: Context, conn: Connection) -> int:
    """Validate foreign keys that a clean-up of dual-write was killed before; return how many needed it."""
    if not context.plan.traits.mirrors:
        return 0
    ended = [stays for spec in context.plan.tables if (stays := find_ended(conn, split_name(spec.name)))]
    with told_clearly("foreign keys that a clean-up left to validate"):
        return sum(validate_carried(conn, context.files, stays) for stays in ended)


def _tables(context: Context, conn: Connection) -> list[Switchover]:
    tables = map(context.switchover, context.plan.tables)
    return [table for table in tables if find_migration(conn, table.names.source)]


def used_side(context: Context, said: Stays | None = None) -> Stays:
    """Return which of two mirrored tables the application uses: both reads and writes, on every app server.

    What is `said` counts where there is no app server to ask. Other strategies know it by the state of the table.

    Raises:
        PreconditionError: servers differ, do not say, or there is none and nothing was said; names them.
    """
    if not context.plan.traits.mirrors:
        return "target"
    asked = [(server.name, *read_routing(server)) for server in context.env.app_servers]
    sides: set[Stays | None] = {SIDES.get(routing) if routing else None for _, routing, _ in asked}
    if not asked and said is None:
        message = (
            "the inventory has no app server to ask which tables are used, and a clean-up of dual-write drops the "
            "others: say `--leads source` or `--leads target`. Nothing was dropped"
        )
        raise PreconditionError(message)
    side = said if not asked else sides.pop() if len(sides) == 1 else None
    if side is None or (said is not None and said != side):
        told = "; ".join(f"{name}: {routing or problem}" for name, routing, problem in asked)
        message = (
            f"a clean-up of dual-write drops the tables that nobody uses, and app servers use both or do not say: "
            f"{told}. Let all of them read and write one side (`./inv flags.set`), then run again. Nothing was dropped"
        )
        raise PreconditionError(message)
    return side


def show_end(context: Context, conn: Connection, leads: Stays | None) -> list[Act]:
    """Return what a clean-up would do, read in a transaction that PostgreSQL lets change nothing.

    Raises:
        PreconditionError: which tables are used is not known, or something cannot go along; names it.
    """
    strategy = strategy_of(context.plan)
    with conn.transaction():
        conn.execute("set transaction read only")
        tables = _tables(context, conn)
        stays = used_side(context, leads) if tables else "target"
        acts = [act for table in tables for act in strategy.end_acts(table, conn, stays)]
        if scalar(conn, "select pg_catalog.pg_current_xact_id_if_assigned()::text") is not None:
            message = "the dry run wrote something; its transaction was taken back"
            raise StepFailed(message)
    return acts


def cleanup(target: Target, *, dry: bool = False, leads: Stays | None = None) -> int:
    """Drop the tables that are kept, after the plan's stable days and a last exact comparison of all of them.

    `dry`: print every statement, change nothing. `leads`: which of two mirrored tables the application uses, where no
    app server says so. A second run changes nothing.

    Raises:
        PreconditionError: too early, not switched, in use, or the tables differ; then nothing was dropped.
    """
    with opened(target, "cleanup") as context:
        if dry:
            return _dry_run(context, leads)
        confirm(context.env, context.plan, yes=target.yes, what="cleaned up: there is no rollback afterwards")
        with alone(context) as conn:
            if not any(find_migration(conn, split_name(spec.name)) for spec in context.plan.tables):
                done = _finish_ended(context, conn)
                context.run.note(f"{done} foreign keys validated, which a clean-up had left" if done else NO_CHANGE)
                return DONE
            require_ready(context, conn, Intent.CLEANUP)
            clean_up(context, conn, leads)
    return DONE


def _dry_run(context: Context, leads: Stays | None) -> int:
    with context.session("dry run") as conn:
        require_mark(context, conn)
        acts = show_end(context, conn, leads)
    print(dry_run_text(context.plan, acts, {}) if acts else NO_CHANGE)
    context.run.note("nothing was changed: the transaction was read only, and PostgreSQL gave it no number")
    return DONE
