"""Defects of an engine that is not exact; the histories must find each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.snapshot_fence import SnapshotFence


def _nothing(_conn: Connection) -> None:
    """Leave the database as it is."""


@dataclass(frozen=True)
class Mutant:
    """A defect in the engine's process, or in the database that histories are cloned from."""

    in_process: Callable[[], None] = lambda: None
    in_database: Callable[[Connection], None] = _nothing


def only_new_keys(conn: Connection) -> None:
    """The capture logs the new key of a row that moves, and forgets the old one."""
    for (function,) in conn.execute("select oid from pg_proc where proname like 'capture_%'").fetchall():
        text = str(scalar(conn, "select pg_get_functiondef(%s::oid)", [function]))
        conn.execute(as_query(text.replace("if tg_op <> 'INSERT' then", "if tg_op = 'DELETE' then", 1)))


def keep_what_is_there() -> None:
    """The replay brings new rows and leaves those that the target has."""
    plain = Replay.put_sql
    Replay.put_sql = lambda self: plain(self) + "\non conflict do nothing"  # type: ignore[method-assign]
    take = Replay.take_sql
    Replay.take_sql = lambda self, limit: take(self, limit).replace(  # type: ignore[method-assign]
        "as t using keys as l where", "as t using keys as l where false and"
    )


def no_fence() -> None:
    """Nobody is refused whose snapshot is older than the swap."""
    SnapshotFence.on_sql = lambda *_: "select 1"  # type: ignore[method-assign]


MUTANTS: dict[str, Mutant] = {
    "only-new-keys": Mutant(in_database=only_new_keys),
    "keep-what-is-there": Mutant(keep_what_is_there),
    "no-guard": Mutant(no_fence),
}
