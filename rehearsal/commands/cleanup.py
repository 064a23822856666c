"""Clean-up: what is kept for the rollback is dropped once the plan's stable days have passed.

Owns the one thing that cannot be taken back. What is dropped is said by each strategy.
"""

from __future__ import annotations

from rehearsal.application.flags import Routing, read_routing
from rehearsal.approval.confirm import confirm
from rehearsal.catalog.tables import split_name
from rehearsal.commands.session import DONE, Target, alone, opened
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover.state import find_migration
from rehearsal.switchover.strategies.registry import strategy_of

LEGACY = Routing(reads=False, writes=False)


def clean_up(context: Context, conn: Connection) -> None:
    """Drop what is kept of every table that has not ended yet, after all of them were looked at. See `Strategy.end`.

    Raises:
        PreconditionError: too early, not switched, in use, or a pair differs; then nothing was dropped.
        LockNotAcquired: a table was in use for longer than the budget; those before it are dropped.
    """
    if context.plan.traits.mirrors:
        require_unused(context)
    strategy, all_tables = strategy_of(context.plan), map(context.switchover, context.plan.tables)
    tables = [table for table in all_tables if find_migration(conn, table.names.source)]
    for table in tables:
        strategy.require_end(table, conn)
    for table in tables:
        context.run.note(strategy.end(table, conn))


def require_unused(context: Context) -> None:
    """Refuse while a server may use the targets: with dual-write these are what goes, the sources keep their names.

    Raises:
        PreconditionError: a server reads or writes the partitioned tables, or does not say.
    """
    asked = [(server.name, *read_routing(server)) for server in context.env.app_servers]
    if using := [f"{name}: {routing or problem}" for name, routing, problem in asked if routing != LEGACY]:
        message = (
            f"a clean-up of dual-write removes the targets, and servers may use them: {'; '.join(using)}. To keep the "
            "targets, leave both tables mirrored; to give the switchover up, `./inv db.rollback` takes the flags off, "
            "then run again. Nothing was dropped"
        )
        raise PreconditionError(message)
    if not asked:
        context.run.note("the inventory has no app server, so nobody was asked whether the targets are still in use")


def cleanup(target: Target) -> int:
    """Drop the retired tables, after the plan's stable days and a last exact comparison of all of them.

    Raises:
        PreconditionError: too early, not switched, or the tables differ; then nothing was dropped.
    """
    with opened(target, "cleanup") as context:
        confirm(context.env, context.plan, yes=target.yes, what="cleaned up: there is no rollback afterwards")
        with alone(context) as conn:
            if not any(find_migration(conn, split_name(spec.name)) for spec in context.plan.tables):
                context.run.note("no change: no switchover is under way, and nothing is kept for a rollback")
                return DONE
            require_ready(context, conn, Intent.CLEANUP)
            clean_up(context, conn)
    return DONE
