"""What strategy attach builds before its cutover, and how that is taken off again. No row is copied.

Each step is a short transaction or a statement that nobody waits for, and may be repeated after a kill. The cutover
and its rollback are in `cutover`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from psycopg import errors

from rehearsal.catalog.bounds import Bound
from rehearsal.catalog.definition import read_definition
from rehearsal.catalog.keys import read_key_range
from rehearsal.catalog.tables import Catalog, Name, split_name
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.lifecycle.policy import forget_gone
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, drop_index, lock_tables
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.detail import Detail, Split, StepDetail
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.layout import (
    HistoryNames,
    Statements,
    is_near,
    parent_statements,
    plain,
    split_table,
)
from rehearsal.switchover.target.carry import read_carried, statistics_names
from rehearsal.switchover.target.foreign_keys import lock_referenced
from rehearsal.switchover.target.indexes import carry_sql
from rehearsal.switchover.target.target import Shape, placed, target_values
from rehearsal.switchover.work import Step, TableWork

INDEX_STATE = """
select x.indisvalid from pg_catalog.pg_index as x
join pg_catalog.pg_class as i on i.oid = x.indexrelid
join pg_catalog.pg_namespace as n on n.oid = i.relnamespace
where n.nspname = %s and i.relname = %s
"""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Parent, unique indexes and validated end of history of one table."""

    work: TableWork

    @property
    def extra(self) -> HistoryNames:
        """Names that only this strategy needs."""
        return HistoryNames(self.work.names)

    def attached(self, conn: Connection) -> Attached:
        """Return the cutover and its rollback, for the split that is decided.

        Raises:
            PreconditionError: nothing is decided yet.
        """
        return Attached(self.work.files, self.work.spec, self.statements(conn))

    def statements(self, conn: Connection) -> Statements:
        """Return the statements of the split that is decided."""
        work = self.work
        shape = Shape.of(work.table(conn), work.spec.key, work.names)
        return Statements(work.files, shape, Split.of_detail(work.migration(conn).detail))

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def steps(self, conn: Connection, migration: int) -> list[Step]:
        """Return the steps until the table is ready, in order."""
        return [
            Step("parent", lambda: self._build_parent(conn, migration)),
            Step("unique-indexes", lambda: self._unique_indexes(conn)),
            Step("bound", lambda: self._bound(conn)),
            Step("validate", lambda: self._validate(conn)),
            Step("not-null", lambda: self._not_null(conn)),
        ]

    def _build_parent(self, conn: Connection, migration: int) -> str:
        work = self.work
        split = decide_split(conn, work.files, work.spec)
        texts = parent_sql(conn, work.files, work.plan, work.spec, split)
        source = work.table(conn)
        definition = read_definition(conn, work.files, source)

        def build(held: Connection) -> None:
            lock_referenced(held, source.foreign_keys, Mode.SHARE_ROW_EXCLUSIVE)
            for text in texts:
                held.execute(as_query(text))
            target = Catalog(held, work.files).read(work.names.target)
            shape = Shape.of(source, work.spec.key, work.names)
            held.execute(as_query(carry_sql(held, work.files, shape, source, target)))
            # Within this transaction: a kill must not leave a parent for an end of history that nobody remembers.
            state.set_state(held, migration, state.PREPARED, Detail(definition=definition, attach=split))
            state.mark_done(held, migration, "parent", detail=StepDetail(until=split.until))
            Sight(work.files, work.names, source.name, target.name).remember(held)

        work.locked(conn, f"parent of {work.spec.name}", build)
        return split.until

    def _unique_indexes(self, conn: Connection) -> int:
        statements = self.statements(conn)
        if not statements.split.primary.swapped:
            return 0
        names = (self.extra.key_index, self.extra.back_index)
        budget = self.work.policy.budget_s
        return sum(ensure_index(conn, statements, self.work.names.source, name, budget) for name in names)

    def ensure_back_index(self, conn: Connection, statements: Statements) -> None:
        """Build the copy of the old primary key on history again, should somebody have dropped it."""
        if statements.split.primary.swapped:
            ensure_index(conn, statements, self.extra.history, self.extra.back_index, self.work.policy.budget_s)

    def _bound(self, conn: Connection) -> None:
        if self._has_bound(conn):
            return
        self.refuse_near(self.statements(conn).split)
        text = self.statements(conn).render("attach_bound")

        def add(held: Connection) -> None:
            held.execute(as_query(text))

        self._locked(conn, f"end of history of {self.work.spec.name}", add)

    def _has_bound(self, conn: Connection) -> bool:
        return any(constraint.name == self.extra.bound for constraint in self.work.table(conn).constraints)

    def _validate(self, conn: Connection) -> None:
        statements = self.statements(conn)
        try:
            conn.execute(as_query(statements.render("attach_validate")))
        except errors.CheckViolation as exc:
            self.undo(conn, self.work.migration(conn))
            message = (
                f"rows of {self.work.spec.name} at or after {statements.split.until} were written while the "
                "switchover was prepared; the preparation was undone. Run again: a later end of history is chosen"
            )
            raise StepFailed(message) from exc

    def _not_null(self, conn: Connection) -> None:
        statements = self.statements(conn)
        if not statements.split.nullable:
            return

        def alter(held: Connection) -> None:
            held.execute(as_query(statements.render("attach_not_null")))

        self._locked(conn, f"key of {self.work.spec.name} not null", alter)

    def refuse_near(self, split: Split) -> None:
        """Refuse to go on so near to the end of history that rows could be refused before the cutover.

        Raises:
            PreconditionError: it is too near.
        """
        if is_near(split, datetime.now(UTC)):
            message = (
                f"history of {self.work.spec.name} ends at {split.until}, which is too near: rows would be refused "
                "before the cutover. Take the preparation back by `./inv db.rollback` and run again: a later end is "
                "chosen"
            )
            raise PreconditionError(message)

    # ── undo ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop_outdated(self, conn: Connection, found: Migration) -> None:
        """Undo a preparation that a killed run began and whose end of history came too near since."""
        if state.is_done(conn, found.id, "parent") and is_near(Split.of_detail(found.detail), datetime.now(UTC)):
            self.undo(conn, found)

    def undo(self, conn: Connection, found: Migration) -> bool:
        """Take everything off the table that a preparation put on it; return whether there was anything."""
        begun = state.is_done(conn, found.id, "parent")
        if begun:
            text = self.statements(conn).render("attach_undo")

            def take_off(held: Connection) -> None:
                held.execute(as_query(text))
                forget_gone(held)
                state.forget_steps(held, found.id)
                state.set_state(held, found.id, state.PREPARED)

            self._locked(conn, f"undo of {self.work.spec.name}", take_off)
        return self._drop_extra_indexes(conn) or begun

    def _drop_extra_indexes(self, conn: Connection) -> bool:
        schema, dropped = self.work.names.source[0], False
        for name in (self.extra.key_index, self.extra.back_index):
            if conn.execute(INDEX_STATE, [schema, name]).fetchone():
                drop_index(conn, (schema, name), self.work.policy.budget_s)
                dropped = True
        return dropped

    def _locked(self, conn: Connection, what: str, act: Callable[[Connection], None]) -> None:
        self.work.locked(conn, what, act, lock=lock_tables(Mode.ACCESS_EXCLUSIVE, self.work.names.source))


def ensure_index(conn: Connection, statements: Statements, table: Name, name: str, budget_s: float) -> bool:
    """Build a unique index unless a valid one is there; return whether it was built."""
    row = conn.execute(INDEX_STATE, [table[0], name]).fetchone()
    if row and row[0]:
        return False
    if row:
        drop_index(conn, (table[0], name), budget_s)
    conn.execute(as_query(statements.unique_index(table, name)))
    return True


def decide_split(conn: Connection, files: SqlFiles, spec: TableSpec) -> Split:
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
    bounds = [Bound(leaf.suffix, leaf.lower, leaf.upper) for leaf in split.leaves]
    leaves = [{"name": names.leaf(bound.suffix), "bound": bound.sql} for bound in bounds]
    text = files.render("switchover/target/target.sql.j2", **{**values, **placed(leaves, values["default_leaf"])})
    return [text, *parent_statements(table, Shape.of(table, spec.key, names))]
