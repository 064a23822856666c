"""Replay of a change log: the target takes over what the source has now.

Owns the rule that makes the copy exact: a log holds keys, never operations; a key is taken off the log, its row goes
out of the target, and the source's row of this moment comes in, all in one transaction. The order of keys does
not matter and a replay may be repeated (`tests/postgres/switchover/test_race_matrix.py`: 0 divergences in 12 cells).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql

from rehearsal.catalog.tables import Name
from rehearsal.errors import StepFailed
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import TryAgain
from rehearsal.postgres.sqlfiles import Quoted, SqlFiles, as_query
from rehearsal.switchover.target.target import Shape, assignments, log_columns, records

EVERYTHING = 2**62
MAX_KEYS_UNDER_LOCK = 2_000
MAX_KEYS_IN_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class Replay:
    """Where keys come from and which table follows which.

    `within`: the condition of the source's rows that are followed, as SQL; empty: all of them are.
    """

    files: SqlFiles
    shape: Shape
    log: Name
    source: Name
    target: Name
    within: str = ""

    def take_sql(self, limit: int) -> str:
        """Return the statement that takes keys off the log and their rows out of the target."""
        columns = log_columns(self.shape)
        values = {**self._values(), "stay": False, "limit": limit}
        return self.files.render("switchover/copy/replay_take.sql.j2", **values) if columns else ""

    def put_sql(self) -> str:
        """Return the statement that brings the source's rows; its parameters are arrays of keys as text."""
        return _with_arrays(self.files.render("switchover/copy/replay_put.sql.j2", **self._values(), primary=()))

    def _values(self) -> dict[str, Any]:
        columns = log_columns(self.shape)
        typed = zip(columns, self.shape.log_types, strict=True)
        return {
            "log": self.log,
            "target": self.target,
            "source": self.source,
            "columns": self.shape.columns,
            "source_columns": records("t", self.shape.columns),
            "log_columns": ", ".join(columns),
            "log_record": ", ".join(f"l.{column}" for column in columns),
            "log_identity": ", ".join(f"l.{column}" for column in columns),
            "target_identity": records("t", self.shape.identity),
            "key_arrays": ", ".join(f"array_agg({column}::text)" for column in columns),
            "arrays": ", ".join("\0::text[]" for _ in columns),
            "typed_columns": ", ".join(f"u.{column}::{kind} as {column}" for column, kind in typed),
        }

    def batch(self, conn: Connection, limit: int) -> int:
        """Replay up to `limit` log rows in the caller's transaction; return how many were taken."""
        conn.execute("select pg_catalog.set_config('rehearsal.applying', 'on', true)")
        row = conn.execute(as_query(self.take_sql(limit))).fetchone()
        *arrays, taken = row or (0,)
        if taken:
            conn.execute(as_query(self.put_sql()), arrays)
        conn.execute("select pg_catalog.set_config('rehearsal.applying', '', true)")
        return int(taken)

    def merge(self, conn: Connection) -> int:
        """Replay everything into a source that is mirrored; return how many keys were taken. The caller holds the lock.

        Rows are changed where they stand: others may point at them, and a row that goes out takes its children along.
        """
        shape, values = self.shape, self._values()
        fixed = (column for column in shape.columns if column not in shape.always)
        merged = {"primary": shape.primary, "assignments": assignments(fixed)}
        take = self.files.render("switchover/copy/replay_take.sql.j2", **values, stay=True, limit=EVERYTHING)
        put = self.files.render("switchover/copy/replay_put.sql.j2", **values, **merged)
        conn.execute("select pg_catalog.set_config('rehearsal.applying', 'on', true)")
        *arrays, taken = conn.execute(as_query(take)).fetchone() or (0,)
        for text in (_with_arrays(put), self.surplus_sql()) if taken else ():
            conn.execute(as_query(text), arrays)
        conn.execute("select pg_catalog.set_config('rehearsal.applying', '', true)")
        return int(taken)

    def surplus_sql(self) -> str:
        """Return the statement that takes rows out of the target which the source has no more; as `put_sql`."""
        identity = records("a", self.shape.identity)
        values = self._values()
        return _with_arrays(
            self.files.render("switchover/copy/replay_surplus.sql.j2", **values, source_identity=identity)
        )

    def pending(self, conn: Connection) -> int:
        """Return how many rows the log has."""
        return int(scalar(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(*self.log))))

    def until(
        self, conn: Connection, rest: int, batch: int, on_progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Replay in short transactions until at most `rest` rows are left; return how many were taken.

        A batch grows while the log does not become shorter, up to a bound.

        A batch that meets a unique value which another batch is about to free is repeated as one batch of everything.

        Raises:
            StepFailed: even one batch of everything violates a unique constraint of the target.
        """
        done = 0
        before: int | None = None
        while (left := self.pending(conn)) > rest:
            # Writers that are faster than the batches would be followed for ever; a larger batch costs less a key.
            batch = min(MAX_KEYS_IN_BATCH, batch * 2) if before is not None and left >= before else batch
            before = left
            done += self._one_batch(conn, batch)
            if on_progress:
                on_progress(done, done + max(0, left - batch))
        return done

    def once(self, conn: Connection, batch: int) -> int:
        """Replay one batch in a transaction of its own, however short the log is; return how many were taken.

        Raises:
            StepFailed: see `until`.
        """
        return self._one_batch(conn, batch)

    def _one_batch(self, conn: Connection, batch: int) -> int:
        try:
            with conn.transaction():
                return self.batch(conn, batch)
        except errors.DeadlockDetected:
            # Between the cutover's locks the mirrors write the target too; they have gone on, so the next try may.
            return 0
        except errors.UniqueViolation:
            pass
        try:
            with conn.transaction():
                return self.batch(conn, EVERYTHING)
        except errors.UniqueViolation as exc:
            raise StepFailed(_unique_message(self, exc)) from exc


def _with_arrays(text: str) -> str:
    """Return a statement that takes parameters: a percent sign in a name is doubled; NUL can be in no name."""
    return text.replace("%", "%%").replace("\0", "%s")


def forward_of(files: SqlFiles, shape: Shape) -> Replay:
    """Return the replay from the source to its target, before the exchange of a swap or while both are mirrored."""
    names = shape.names
    return Replay(files, shape, names.forward_log, names.source, names.target)


def reverse_of(files: SqlFiles, shape: Shape) -> Replay:
    """Return the replay from the partitioned table, which has the name of the source, to the retired one."""
    names = shape.names
    return Replay(files, shape, names.reverse_log, names.source, names.retired)


def replay_to_zero(replay: Replay, conn: Connection) -> None:
    """Replay everything under the lock, or give the lock back if that is too much.

    Raises:
        TryAgain: the log has more keys than should be replayed while the application waits.
        StepFailed: the source has two rows where a unique index of the target has room for one.
    """
    if (left := replay.pending(conn)) > MAX_KEYS_UNDER_LOCK:
        message = f"{left} keys are left in the log, more than {MAX_KEYS_UNDER_LOCK}"
        raise TryAgain(message)
    if not left:
        return
    try:
        replay.batch(conn, EVERYTHING)
    except errors.UniqueViolation as exc:
        raise StepFailed(_unique_message(replay, exc)) from exc


def _unique_message(replay: Replay, exc: errors.UniqueViolation) -> str:
    return (
        f"replay of {'.'.join(replay.log)}: {exc.diag.message_primary}: {exc.diag.message_detail}; `./inv db.verify` "
        f"lists the values that repeat in {'.'.join(replay.source)}: delete or renumber one of each"
    )


def purge_sql(files: SqlFiles, shape: Shape, log: Name, target: Name) -> str:
    """Return the statement that takes logged rows out of the freshly copied target, before it has an index."""
    columns = log_columns(shape)
    return files.render(
        "switchover/copy/purge.sql.j2",
        target=target,
        log=log,
        log_columns=Quoted(", ".join(columns)),
        log_identity=Quoted(", ".join(f"l.{column}" for column in columns)),
        target_identity=Quoted(records("t", shape.identity)),
    )
