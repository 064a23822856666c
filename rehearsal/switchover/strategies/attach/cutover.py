"""The cutover of strategy attach and its rollback, each in one short transaction under lock.

Owns what happens while the application waits. At the cutover nothing is read and nothing moves. On the rollback the
rows that were written outside history are put into it under the same lock that detaches it, so that there is one copy
of every row at every moment and no log is needed (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import errors, sql

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.lifecycle.policy import forget_gone, require_nothing_held
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.kept import StatisticsNames
from rehearsal.switchover.snapshot_fence import SnapshotFence, refuse_old_snapshots
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Statements
from rehearsal.switchover.target.carry import key_comments
from rehearsal.switchover.target.foreign_keys import lock_referenced

SHOWN = 5
# Under the lock, with four indexes, on an idle machine; a busy one takes several times as long (tests/bench/attach.py).
MS_A_ROW = 0.02
Parts = tuple[set[int], set[int]]


@dataclass(frozen=True, slots=True)
class Attached:
    """Cutover and rollback of one table whose split is decided."""

    files: SqlFiles
    spec: TableSpec
    statements: Statements

    @property
    def extra(self) -> HistoryNames:
        """Names that only this strategy needs."""
        return HistoryNames(self.statements.shape.names)

    def cut_over_sql(self, source: Table) -> str:
        """Return the statements of the cutover."""
        return self.statements.render("attach", sequences=_sequences(source))

    def roll_back_sql(self, conn: Connection, parent: Table) -> str:
        """Return the statements of the rollback as the table is now: columns, names of indexes, comments on the key.

        Since the cutover columns may have come and gone, and indexes may have other names, or be others.
        """
        return self.statements.render(
            "attach_back",
            sequences=_sequences(parent),
            comments=key_comments(conn, self.files, parent),
            constraint_comments=self._constraint_comments(conn, parent),
            columns=[column.name for column in parent.columns if not column.generated],
            indexes=self._index_pairs(conn),
            statistics=self._statistics(conn),
        )

    def _index_pairs(self, conn: Connection) -> list[dict[str, Name | str | None]]:
        """Return the indexes of history, the names that they get, and comments; a key that changes gets its own."""
        schema, history = self.extra.history[0], Catalog(conn, self.files).read(self.extra.history)
        query = self.files.query("switchover/strategies/attach/index_pairs.sql")
        return [
            {"source": (schema, parent), "history": (schema, child), "comment": comment}
            for parent, child, is_primary, comment in conn.execute(query, {"history": history.oid})
            if not (is_primary and self.statements.split.primary.swapped)
        ]

    def _constraint_comments(self, conn: Connection, parent: Table) -> list[dict[str, str | None]]:
        """Return the comments that constraints of history have to get; a key that changes gets its own."""
        query = self.files.query("switchover/strategies/attach/constraint_comments.sql")
        history = Catalog(conn, self.files).read(self.extra.history)
        return [
            {"name": name, "comment": comment}
            for name, is_primary, comment in conn.execute(query, {"history": history.oid, "parent": parent.oid})
            if not (is_primary and self.statements.split.primary.swapped)
        ]

    def _statistics(self, conn: Connection) -> list[StatisticsNames]:
        """Return the extended statistics of history that are there still: they go with their columns."""
        query = "select to_regnamespace(quote_ident(%s)) = stxnamespace from pg_statistic_ext where stxname = %s"
        return [
            pair
            for pair in self.statements.split.statistics
            if any(same for (same,) in conn.execute(query, pair.history or ("", "")))
        ]

    def cut_over(self, conn: Connection, policy: LockPolicy, migration: int, watch: Watch) -> LockReport:
        """Make the table a partition and give its name to the parent. Second run: see `rehearsal.migration.state`.

        `watch` has looked; what was altered since gives the lock back.
        Locks: ACCESS EXCLUSIVE on the table and the parent, SHARE ROW EXCLUSIVE on referenced tables, milliseconds.

        Raises:
            StepFailed: the server read the rows, or built an index or a key anew; everything is as it was.
            LockNotAcquired: the budget is spent; nothing changed.
        """
        names = self.statements.shape.names

        def work(held: Connection) -> None:
            watch.hold(held)
            source = Catalog(held, self.files).read(names.source)
            lock_referenced(held, source.foreign_keys, Mode.SHARE_ROW_EXCLUSIVE)
            self._attach(held, source)
            state.set_state(held, migration, state.ATTACHED)

        return self._locked(conn, "cutover", names.target, work, policy, watch)

    def _attach(self, held: Connection, source: Table) -> None:
        said: list[str] = []
        before = self._parts(held, source.oid)

        def listen(notice: errors.Diagnostic) -> None:
            said.append(notice.message_primary or "")

        held.add_notice_handler(listen)
        try:
            held.execute(as_query(self.cut_over_sql(source)))
        finally:
            held.remove_notice_handler(listen)
        self._prove(held, source, before, said)

    def _prove(self, held: Connection, source: Table, before: Parts, said: list[str]) -> None:
        """Refuse a cutover in which the server did more than to change its catalog."""
        history = self.extra.history
        problems: list[str] = []
        if any(line.startswith("verifying table") and f'"{history[1]}"' in line for line in said):
            problems.append("the rows were read to check the bound")
        if any(now - then for now, then in zip(self._parts(held, source.oid), before, strict=True)):
            problems.append("an index or a foreign key was built anew")
        values = {"oid": source.oid, "own": self.extra.back_index}
        problems += [
            f"{name} was not adopted by the parent"
            for (name,) in held.execute(self.files.query("switchover/strategies/attach/not_adopted.sql"), values)
        ]
        if problems:
            message = f"cutover of {self.spec.name}: {'; '.join(problems)}; nothing was changed"
            raise StepFailed(message)

    def _parts(self, conn: Connection, oid: int) -> Parts:
        """Return the indexes and the foreign keys of a table, by oid."""
        row = conn.execute(self.files.query("switchover/strategies/attach/parts.sql"), {"oid": oid}).fetchone() or (
            None,
            None,
        )
        return set(row[0] or ()), set(row[1] or ())

    def require_key(self, conn: Connection) -> None:
        """Refuse the rollback while the primary key is not the one that was made for the cutover.

        Raises:
            PreconditionError: it has other columns, or other names for them; says which.
        """
        primary, names = self.statements.split.primary, self.statements.shape.names
        now = Catalog(conn, self.files).read(names.source).primary_key
        if primary.swapped and list(now) != list(primary.identity):
            message = (
                f"the primary key of {self.spec.name} is ({', '.join(now)}) and was ({', '.join(primary.identity)}) "
                "after the cutover: the rollback makes the earlier one of it. Give its columns their names again, then "
                "run again. Nothing was changed"
            )
            raise PreconditionError(message)

    def refuse_duplicates(self, conn: Connection) -> None:
        """Refuse the rollback while a primary key stands in two partitions: the whole table has room for one.

        Raises:
            PreconditionError: there are such rows; names them.
        """
        if found := self._repeated(conn):
            message = (
                f"{self.spec.name} has rows in several partitions with the same primary key {', '.join(found)}; the "
                "whole table has room for one of each. Correct or delete the surplus rows, then run again"
            )
            raise PreconditionError(message)

    def _repeated(self, conn: Connection) -> list[str]:
        """Return some primary keys that more than one row has; history that was split is no place of rows any more."""
        primary = self.statements.split.primary
        alone = self._is_unique_itself(conn)
        parts = self._outside(conn) if alone else self._leaves(conn)
        if not primary.swapped or not parts:
            return []
        query = self.files.query(
            "switchover/strategies/attach/repeated.sql.j2",
            columns=primary.columns,
            parts=parts,
            history=self.extra.history if alone else None,
            limit=SHOWN,
        )
        return [row[0] for row in conn.execute(query)]

    def _is_unique_itself(self, conn: Connection) -> bool:
        """Whether history is a partition in which no primary key can repeat: a split takes the index for that away."""
        if self.extra.history not in self._leaves(conn):
            return False
        indexes = Catalog(conn, self.files).read(self.extra.history).indexes
        return any(index.name == self.extra.back_index and index.is_valid for index in indexes)

    def refuse_many(self, conn: Connection, policy: LockPolicy) -> None:
        """Refuse the rollback while more rows are outside history than can be brought within the lock's budget.

        Raises:
            PreconditionError: there are too many; says how long the lock would be held.
        """
        rows = self.outside_rows(conn)
        if rows * MS_A_ROW > policy.hold_ms:
            needed = round(rows * MS_A_ROW)
            message = (
                f"{rows:,} rows of {self.spec.name} are outside history; to bring them back would hold the lock for "
                f"{needed:,} ms at least, the plan allows {policy.hold_ms:,} ms. Choose a quiet hour and raise hold_ms "
                "in [locks] knowingly, or stay: nothing was changed"
            )
            raise PreconditionError(message)

    def told(self, conn: Connection) -> str:
        """Return where the rows are, for people."""
        if self.extra.history not in self._leaves(conn):
            return f"split; every row is in one of {len(self._leaves(conn))} partitions"
        return f"attached; {self.outside_rows(conn):,} rows outside history"

    def outside_rows(self, conn: Connection) -> int:
        """Count the rows that were written outside history."""
        count = sql.SQL("select count(*) from {}")
        return sum(int(scalar(conn, count.format(sql.Identifier(*leaf)))) for leaf in self._outside(conn))

    def _outside(self, conn: Connection) -> list[Name]:
        return [leaf for leaf in self._leaves(conn) if leaf != self.extra.history]

    def _leaves(self, conn: Connection) -> list[Name]:
        parent = Catalog(conn, self.files).read(self.statements.shape.names.source)
        return [leaf.name for leaf in parent.partitions]

    def roll_back(self, conn: Connection, policy: LockPolicy, migration: int, watch: Watch) -> LockReport:
        """Detach history, put into it what was written outside, and give it its name again.

        `watch` has looked; what was altered since gives the lock back.
        Locks: ACCESS EXCLUSIVE on the partitioned table; held for milliseconds, and for about ten microseconds for
        every row outside history.

        Raises:
            PreconditionError: a row outside history has a primary key that history has too; nothing changed.
            StepFailed: something depends on the partitioned table; nothing changed.
            LockNotAcquired: the budget is spent; nothing changed.
        """
        names = self.statements.shape.names

        def work(held: Connection) -> None:
            watch.hold(held)
            if self.outside_rows(held):
                # Moved rows are invisible to a snapshot from before: its UPDATE would find nothing and say so.
                refuse_old_snapshots(held)
            parent = Catalog(held, self.files).read(names.source)
            lock_referenced(held, parent.foreign_keys, Mode.SHARE_ROW_EXCLUSIVE)
            require_nothing_held(held, names.source)
            held.execute(as_query(self.roll_back_sql(held, parent)))
            forget_gone(held)
            state.forget_steps(held, migration)
            state.set_state(
                held, migration, state.PREPARED, Detail(guard=SnapshotFence(self.files, names, migration).move(held))
            )

        try:
            return self._locked(conn, "rollback", None, work, policy, watch)
        except errors.UniqueViolation as exc:
            message = f"rollback of {self.spec.name}: {exc.diag.message_detail}; nothing was changed"
            raise PreconditionError(message) from exc
        except errors.DependentObjectsStillExist as exc:
            message = (
                f"rollback of {self.spec.name}: {exc.diag.message_detail}; made since the cutover, it would be lost. "
                "Drop it and run again; nothing was changed"
            )
            raise StepFailed(message) from exc

    def _locked(
        self,
        conn: Connection,
        what: str,
        other: Name | None,
        work: Callable[[Connection], None],
        policy: LockPolicy,
        watch: Watch,
    ) -> LockReport:
        source = self.statements.shape.names.source
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, *((other, source) if other else (source,)))

        def between() -> None:
            watch.again(conn)

        _, report = with_lock(conn, f"{what} of {self.spec.name}", work, lock=lock, policy=policy, between=between)
        return report


def _sequences(table: Table) -> list[dict[str, str]]:
    return [{"name": column.sequence, "column": column.name} for column in table.columns if column.sequence]
