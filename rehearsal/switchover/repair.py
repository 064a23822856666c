"""Repairs that are safe at any time: re-sync of differing rows, mirror triggers back on.

Owns nothing of its own: a repair writes keys into the log of the direction in which a table follows, and the replay,
which is exact, does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rehearsal.application.flags import read_routing
from rehearsal.catalog.tables import Name
from rehearsal.environment import AppServer
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import Quoted, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import EVERYTHING, Replay
from rehearsal.switchover.quiet import quiet
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.target import log_columns, records
from rehearsal.switchover.trigger_states import TriggerState, remake


def resync_sql(replay: Replay) -> str:
    """Return the statement that logs the keys of all differing rows."""
    shape = replay.shape
    keys = ", ".join(f"coalesce(a.{quote_ident(column)}, f.{quote_ident(column)})" for column in shape.identity)
    return replay.files.render(
        "switchover/resync.sql.j2",
        log=replay.log,
        log_columns=Quoted(", ".join(log_columns(shape))),
        keys=Quoted(keys),
        source=replay.source,
        target=replay.target,
        within=Quoted(replay.within),
        source_identity=Quoted(records("a", shape.identity)),
        target_identity=Quoted(records("f", shape.identity)),
        source_columns=Quoted(records("a", shape.columns)),
        target_columns=Quoted(records("f", shape.columns)),
    )


def resync(conn: Connection, switchover: Switchover, *, target_leads: bool = False) -> int:
    """Make the target equal to the source again; return how many keys were brought.

    The source is the source, or after a swap the partitioned table. Where both are mirrored synchronously it is the
    table that the application writes: the source, or the target when `target_leads`. There the keys that differ, and
    those that a killed repair left in the log, are replayed under SHARE ROW EXCLUSIVE on both; the comparison itself,
    which reads everything, takes no lock that anybody waits for. Where the source follows, its rows are changed where
    they stand, unseen by the application's triggers, which saw the target's writes already. A second run finds nothing.

    Raises:
        LockNotAcquired: the lock was not granted within the plan's budget.
    """
    found = state.read_migration(conn, switchover.names.source)
    if not switchover.strategy.keeps_two(found):
        return 0
    replay = switchover.current_replay(conn)
    if target_leads and found.state == state.MIRRORED:
        names = switchover.names
        replay = Replay(replay.files, replay.shape, names.reverse_log, names.target, names.source)
    keys = conn.execute(as_query(resync_sql(replay))).rowcount
    if found.state == state.MIRRORED:
        lock = lock_tables(Mode.SHARE_ROW_EXCLUSIVE, replay.source, replay.target)
        title, ours = f"re-sync of {switchover.spec.name}", our_triggers(conn, switchover, replay.target)

        def work(held: Connection) -> int:
            if not target_leads:
                return replay.batch(held, EVERYTHING)
            with quiet(held, replay.target, ours):
                return replay.merge(held)

        with_lock(conn, title, work, lock=lock, policy=switchover.policy)
    else:
        switchover.follow()
    return keys


def target_leads(conn: Connection, switchover: Switchover, servers: Iterable[AppServer]) -> bool | None:
    """Return whether the app writes the target of a mirrored pair; None if the servers differ or do not say.

    A re-sync from the table that is not written would undo acknowledged writes.
    """
    if state.read_migration(conn, switchover.names.source).state != state.MIRRORED:
        return False
    sides = {routing.writes if routing else None for routing, _ in map(read_routing, servers)}
    return sides.pop() if len(sides) == 1 else None


def our_triggers(conn: Connection, switchover: Switchover, table: Name) -> list[str]:
    """Return the names of the mirror triggers on one of the two tables."""
    return [trigger.name for trigger in switchover.trigger_states(conn) if trigger.table == table]


def enable_triggers(conn: Connection, switchover: Switchover) -> list[str]:
    """Put every mirror trigger into the state that it must have, also one that was dropped; return those that were not.

    One whose function is gone stays as it is. What was written meanwhile is for a re-sync to bring.
    Locks: SHARE ROW EXCLUSIVE on the table of each such trigger, for milliseconds.
    """
    mended: list[str] = []
    for trigger in switchover.trigger_states(conn):
        if trigger.found == trigger.wanted or not (statements := _puts_right(conn, trigger)):
            continue

        def work(held: Connection, statements: Sequence[str] = statements) -> None:
            for statement in statements:
                held.execute(as_query(statement))

        with_lock(conn, f"trigger {trigger.name} put right", work, policy=switchover.policy)
        mended.append(trigger.name)
    return mended


def _puts_right(conn: Connection, trigger: TriggerState) -> list[str]:
    verb = {"A": "enable always", "O": "enable", "D": "disable"}[trigger.wanted]
    turn = f"alter table {quote_ident(trigger.table)} {verb} trigger {quote_ident(trigger.name)}"
    if trigger.found is not None:
        return [turn]
    statement, function = remake(trigger)
    there = scalar(conn, "select pg_catalog.to_regprocedure(%s) is not null", [f"{quote_ident(function)}()"])
    return [statement, turn] if there else []
