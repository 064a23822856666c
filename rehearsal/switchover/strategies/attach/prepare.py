"""Strategy attach: the old table becomes the history partition of a parent that takes its name. No row is copied.

Owns the steps before the cut-over and their undo. Each one is a short transaction or a statement that nobody waits
for, and each may be repeated after a kill. The cut-over and its way back are in `attached`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from psycopg import errors, sql

from rehearsal.catalog.bounds import Bound
from rehearsal.catalog.definition import read_definition
from rehearsal.catalog.keys import read_key_range
from rehearsal.catalog.tables import Catalog, Name, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, LockPolicy, LockReport, connect, told_clearly, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.steps import run_step
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.layout import (
    HistoryNames,
    Split,
    Statements,
    is_near,
    parent_statements,
    plain,
    split_table,
)
from rehearsal.switchover.strategies.attach.unsplit import SplitBack, finish_split, undo_split
from rehearsal.switchover.strategies.swap.exchange import lock_referenced
from rehearsal.switchover.target.carry import read_carried, statistics_names
from rehearsal.switchover.target.indexes import carry_sql
from rehearsal.switchover.target.target import Shape, placed, target_values
from rehearsal.switchover.watches import attach_watch, attached_watch, split_watch

INDEX_STATE = """
select x.indisvalid from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
join pg_catalog.pg_namespace as n on n.oid = i.relnamespace
where n.nspname = %s and i.relname = %s
"""


@dataclass(frozen=True, slots=True)
class Attach:
    """One table's way into history on one database, and back."""

    database: Database
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    run: Run

    @property
    def names(self) -> Names:
        """Names around the table."""
        return Names(split_name(self.spec.name))

    @property
    def extra(self) -> HistoryNames:
        """Names that only this strategy needs."""
        return HistoryNames(self.names)

    @property
    def policy(self) -> LockPolicy:
        """Budget of each lock."""
        return LockPolicy(**self.plan.locks.model_dump())

    def prepare(self) -> bool:
        """Build everything that the cut-over needs: parent, unique indexes, validated end of history.

        Returns whether anything was done; a second run on a table that is ready (or attached) does nothing.
        Locks: ACCESS EXCLUSIVE on the table for milliseconds, twice at most; SHARE ROW EXCLUSIVE on referenced tables.

        Raises:
            PreconditionError: the table is not registered, or the end of history came too near.
            StepFailed: rows at or after the end of history were written meanwhile; run again, a later end is chosen.
            LockNotAcquired: a lock was not granted within its budget.
        """
        with self._session("preparation") as conn:
            found = state.read_migration(conn, self.names.source)
            if found.state in (state.READY, *state.SWITCHED):
                return False
            self._lower_guard(conn)
            self._drop_outdated(conn, found)
            steps: dict[str, Callable[[], object]] = {
                "parent": lambda: self._build_parent(conn, found.id),
                "unique-indexes": lambda: self._unique_indexes(conn),
                "bound": lambda: self._bound(conn),
                "validate": lambda: self._validate(conn),
                "not-null": lambda: self._not_null(conn),
            }
            for name, work in steps.items():
                run_step(conn, self.run, self.spec.name, found.id, name, work)
            with conn.transaction():
                state.set_state(conn, found.id, state.READY)
            return True

    def switch(self) -> bool:
        """Cut over: the old table becomes a partition, the parent takes its name. Returns whether anything was done.

        Raises:
            PreconditionError: the table is not ready, or now is too near to the end of history.
            LockNotAcquired: the lock was not granted within its budget; the table is as it was.
        """
        with self._session("cut-over") as conn:
            found = state.read_migration(conn, self.names.source)
            if found.state not in (state.READY, *state.SWITCHED):
                message = (
                    f"table {self.spec.name} is {found.state}; it can be switched once it is ready: run "
                    "`invoke db.switchover`"
                )
                raise PreconditionError(message)
            if found.state == state.READY:
                self._refuse_near(Split.of_detail(found.detail))
                watch = self.examine(conn)
                self.lock_event(self.attached(conn).cut_over(conn, self.policy, found.id, watch))
            before = state.is_done(conn, found.id, "parent-statistics")
            run_step(conn, self.run, self.spec.name, found.id, "parent-statistics", lambda: self._analyze(conn))
            return found.state == state.READY or not before

    def roll_back(self) -> bool:
        """Give the old table its name again with every row written since; or undo a preparation. Second run: nothing.

        A history that was split becomes one partition again first.

        Raises:
            PreconditionError: rows outside history have a primary key that history has too (names them), or there are
                too many of them for the lock's budget.
            LockNotAcquired: the lock was not granted within its budget; the table is as it was.
        """
        with self._session("way back") as conn:
            found = state.read_migration(conn, self.names.source)
            watch = self.examine(conn) if found.state in state.SWITCHED else None
            if found.state == state.REGRAINED:
                self.attached(conn).refuse_duplicates(conn)
                back = SplitBack(self.files, self.plan, self.spec, self.statements(conn), self.lock_event)
                back.go(conn, found.id, split_watch(self.files, self.spec, found))
                found = state.read_migration(conn, self.names.source)
            if watch and found.state == state.ATTACHED:
                finish_split(conn, self.files, self.spec, self.policy, self.lock_event)
                attached = self.attached(conn)
                attached.refuse_duplicates(conn)
                attached.refuse_many(conn, self.policy)
                if undone := undo_split(conn, Names(self.extra.history), self.policy):
                    self.lock_event(undone)
                self._ensure_back_index(conn, attached.statements)
                watch.look(conn)
                self.lock_event(attached.way_back(conn, self.policy, found.id, watch))
                self._lower_guard(conn)
                return True
            guarded = self._lower_guard(conn)
            return self._undo(conn, found) or guarded

    def examine(self, conn: Connection) -> Watch:
        """Compare before the cut-over, or before going back, and return the watch that goes on looking.

        Raises:
            PreconditionError: the table or its parent was altered; names what.
        """
        found = state.read_migration(conn, self.names.source)
        if found.state in (state.ATTACHED, state.REGRAINED):
            watch = attached_watch(self.files, self.plan, self.spec, found)
        else:
            watch = attach_watch(self.files, self.spec, found)
        if found.state in (state.READY, *state.SWITCHED):
            watch.look(conn)
        return watch

    @contextmanager
    def _session(self, what: str) -> Generator[Connection]:
        """Open a session for one piece of work; what goes wrong in it is told with the name of table and work."""
        with told_clearly(f"{what} of {self.spec.name}"), connect(self.database) as conn:
            yield conn

    def attached(self, conn: Connection) -> Attached:
        """Return the cut-over and its way back, for the split that is decided.

        Raises:
            PreconditionError: nothing is decided yet.
        """
        return Attached(self.files, self.spec, self.statements(conn))

    def statements(self, conn: Connection) -> Statements:
        """Return the statements of the split that is decided."""
        found = state.read_migration(conn, self.names.source)
        table = Catalog(conn, self.files).read(self.names.source)
        return Statements(self.files, Shape.of(table, self.spec.key, self.names), Split.of_detail(found.detail))

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _build_parent(self, conn: Connection, migration: int) -> str:
        split = decide(conn, self.files, self.spec)
        texts = parent_sql(conn, self.files, self.plan, self.spec, split)
        source = Catalog(conn, self.files).read(self.names.source)
        definition = read_definition(conn, self.files, source)

        def work(held: Connection) -> None:
            lock_referenced(held, source.foreign_keys, "share row exclusive")
            for text in texts:
                held.execute(as_query(text))
            target = Catalog(held, self.files).read(self.names.target)
            shape = Shape.of(source, self.spec.key, self.names)
            held.execute(as_query(carry_sql(held, self.files, shape, source, target)))
            # Within this transaction: a kill must not leave a parent for an end of history that nobody remembers.
            state.set_state(held, migration, state.PREPARED, definition=definition, **split.to_detail())
            state.mark_done(held, migration, "parent", until=split.until)
            Sight(self.files, self.names, source.name, target.name).remember(held)

        _, report = with_lock(conn, f"parent of {self.spec.name}", work, policy=self.policy)
        self.lock_event(report)
        return split.until

    def _unique_indexes(self, conn: Connection) -> int:
        statements = self.statements(conn)
        if not statements.split.primary["swapped"]:
            return 0
        names = (self.extra.key_index, self.extra.back_index)
        return sum(self._ensure_index(conn, statements, self.names.source, name) for name in names)

    def _ensure_index(self, conn: Connection, statements: Statements, table: Name, name: str) -> bool:
        """Build a unique index unless a valid one is there; return whether it was built."""
        row = conn.execute(INDEX_STATE, [table[0], name]).fetchone()
        if row and row[0]:
            return False
        if row:
            conn.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier(table[0], name)))
        conn.execute(as_query(statements.unique_index(table, name)))
        return True

    def _ensure_back_index(self, conn: Connection, statements: Statements) -> None:
        """Build the copy of the old primary key on history again, should somebody have dropped it."""
        if statements.split.primary["swapped"]:
            self._ensure_index(conn, statements, self.extra.history, self.extra.back_index)

    def _bound(self, conn: Connection) -> None:
        if self._has_bound(conn):
            return
        self._refuse_near(self.statements(conn).split)
        text = self.statements(conn).render("attach_bound")

        def work(held: Connection) -> None:
            held.execute(as_query(text))

        self._locked(conn, f"end of history of {self.spec.name}", work)

    def _has_bound(self, conn: Connection) -> bool:
        table = Catalog(conn, self.files).read(self.names.source)
        return any(one.name == self.extra.bound for one in table.constraints)

    def _validate(self, conn: Connection) -> None:
        statements = self.statements(conn)
        try:
            conn.execute(as_query(statements.render("attach_validate")))
        except errors.CheckViolation as exc:
            self._undo(conn, state.read_migration(conn, self.names.source))
            message = (
                f"rows of {self.spec.name} at or after {statements.split.until} were written while the switchover was "
                "prepared; the preparation was undone. Run again: a later end of history is chosen"
            )
            raise StepFailed(message) from exc

    def _not_null(self, conn: Connection) -> None:
        statements = self.statements(conn)
        if not statements.split.nullable:
            return

        def work(held: Connection) -> None:
            held.execute(as_query(statements.render("attach_not_null")))

        self._locked(conn, f"key of {self.spec.name} not null", work)

    def _analyze(self, conn: Connection) -> None:
        conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*self.names.source)))

    # ── undo ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse_near(self, split: Split) -> None:
        if is_near(split, datetime.now(UTC)):
            message = (
                f"history of {self.spec.name} ends at {split.until}, which is too near: rows would be refused before "
                "the cut-over. Take the preparation back by `invoke db.rollback` and run again: a later end is chosen"
            )
            raise PreconditionError(message)

    def _drop_outdated(self, conn: Connection, found: state.Migration) -> None:
        """Undo a preparation that a killed run began and whose end of history came too near since."""
        if state.is_done(conn, found.id, "parent") and is_near(Split.of_detail(found.detail), datetime.now(UTC)):
            self._undo(conn, found)

    def _lower_guard(self, conn: Connection) -> bool:
        found = state.read_migration(conn, self.names.source)
        report, _ = Guard(self.files, self.names, found.id).lower(conn, self.policy)
        if report:
            self.lock_event(report)
        return report is not None

    def _undo(self, conn: Connection, found: state.Migration) -> bool:
        """Take everything off the table that a preparation put on it; return whether there was anything."""
        begun = state.is_done(conn, found.id, "parent")
        if begun:
            text = self.statements(conn).render("attach_undo")

            def work(held: Connection) -> None:
                held.execute(as_query(text))
                state.forget_steps(held, found.id)
                state.set_state(held, found.id, state.PREPARED)

            self._locked(conn, f"undo of {self.spec.name}", work)
        return self._drop_extra_indexes(conn) or begun

    def _drop_extra_indexes(self, conn: Connection) -> bool:
        schema, dropped = self.names.source[0], False
        for name in (self.extra.key_index, self.extra.back_index):
            if conn.execute(INDEX_STATE, [schema, name]).fetchone():
                conn.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier(schema, name)))
                dropped = True
        return dropped

    def _locked(self, conn: Connection, what: str, work: Callable[[Connection], None]) -> None:
        lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*self.names.source))
        _, report = with_lock(conn, what, work, lock=lock, policy=self.policy)
        self.lock_event(report)

    def lock_event(self, report: LockReport) -> None:
        """Tell what a lock cost."""
        self.run.event("lock", table=self.spec.name, **asdict(report))


def decide(conn: Connection, files: SqlFiles, spec: TableSpec) -> Split:
    """Decide the split for this moment; reads the newest key, an index scan where the key has an index."""
    names = Names(split_name(spec.name))
    table = plain(Catalog(conn, files).read(names.source), HistoryNames(names))
    _, newest = read_key_range(conn, table.name, spec.key)
    split = split_table(table, spec, Shape.of(table, spec.key, names), newest, datetime.now(UTC))
    statistics = statistics_names(read_carried(conn, files, table.oid)["statistics"])
    return replace(split, statistics=tuple(statistics))


def parent_sql(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, split: Split) -> list[str]:
    """Return the statements that build the parent, its later partitions, its indexes and foreign keys."""
    names = Names(split_name(spec.name))
    table = plain(Catalog(conn, files).read(names.source), HistoryNames(names))
    values = target_values(conn, files, plan, spec, datetime.now(UTC))
    bounds = [Bound(one["suffix"], one["lower"], one["upper"]) for one in split.leaves]
    leaves = [{"name": names.leaf(one.suffix), "bound": one.sql} for one in bounds]
    text = files.render("steps/target.sql.j2", **{**values, **placed(leaves, values["default_leaf"])})
    return [text, *parent_statements(table, Shape.of(table, spec.key, names))]
