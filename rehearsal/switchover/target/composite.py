"""Composite foreign keys: the referencing table carries the partition key, so that a real foreign key can stay.

Prepared online, while the target is made: a column, a trigger that fills it for every write of the application (which
need not know of it), a trigger that follows changes of the key, a fill in short transactions. At the swap the foreign
key is exchanged for one over both columns; validated afterwards. Column and filling trigger stay for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import STATE_SCHEMA, Catalog, Name, Table, dotted, split_name
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover.names import fit
from rehearsal.switchover.state import SWAPPED, Migration, find_migration, prepare_again
from rehearsal.switchover.target.references import (
    Reference,
    composite_column,
    key_values,
    read_references,
    require_decided,
    validate_references,
)

BLOCKS = 200
REFERENCES = "references"
FILL = "reference_fill_"


@dataclass(frozen=True, slots=True)
class Composite:
    """One referencing table on its way to a composite foreign key."""

    files: SqlFiles
    reference: Reference
    parent: Name
    key: str

    def prepare_sql(self, type_sql: str) -> str:
        """Return the statements that add column, functions and triggers."""
        return self.files.render("switchover/target/composite.sql.j2", **self._values(), type=type_sql)

    def undo_sql(self) -> str:
        """Return the statements that take them off again."""
        return self.files.render("switchover/target/composite_undo.sql.j2", **self._values())

    def fill_sql(self, first: int, last: int) -> str:
        """Return the statement that fills one range of blocks."""
        blocks = {"first": f"({first},0)", "last": f"({last},0)"}
        return self.files.render("switchover/target/composite_fill.sql.j2", **self._values(), **blocks)

    def _values(self) -> dict[str, Any]:
        reference = self.reference
        base = f"{reference.table}_{reference.name}"
        return key_values(reference, self.parent) | {
            "key": self.key,
            "column": composite_column(reference, self.key),
            "fill": (STATE_SCHEMA, fit(f"{reference.schema}_{base}", prefix="reference_fill_")),
            "follow": (STATE_SCHEMA, fit(f"{reference.schema}_{base}", prefix="reference_follow_")),
            "fill_trigger": fit(base, prefix=FILL),
            "follow_trigger": fit(base, prefix="reference_follow_"),
            "comment": f"Partition key of the row that {reference.label} refers to; filled by a trigger",
        }

    def is_prepared(self, conn: Connection) -> bool:
        """Return whether the referencing table has the trigger that fills the partition key."""
        child, trigger = Catalog(conn, self.files).read(self.reference.child), self._values()["fill_trigger"]
        return any(existing.name == trigger for existing in child.triggers)

    def refuse_taken(self, conn: Connection) -> None:
        """Refuse a column of the application that has the name of ours: it would be filled, and dropped in the end.

        Raises:
            PreconditionError: names it.
        """
        child, name = Catalog(conn, self.files).read(self.reference.child), composite_column(self.reference, self.key)
        ours = any(trigger.name.startswith(FILL) for trigger in child.triggers)
        if not ours and any(column.name == name for column in child.columns):
            message = (
                f"{dotted(child.name)} has a column {name} already, which the partition key for "
                f"{self.reference.label} would be called; rename it, or make the foreign key loose in the plan"
            )
            raise PreconditionError(message)

    def fill(self, conn: Connection) -> int:
        """Give every row its key, in one short transaction a range of blocks; return how many rows were changed.

        A second run finds nothing; rows that are written meanwhile are filled by the trigger. User triggers of the
        referencing table do not fire where the role may keep them from it.

        Locks: ROW EXCLUSIVE on the referencing table; its changed rows until each range is done.
        """
        size = "select pg_catalog.pg_relation_size(%s::regclass) / current_setting('block_size')::int + 1"
        blocks, changed = int(scalar(conn, size, [quote_ident(self.reference.child)])), 0
        for first in range(0, blocks, BLOCKS):
            with conn.transaction():
                _quiet(conn)
                changed += conn.execute(as_query(self.fill_sql(first, first + BLOCKS))).rowcount
        return changed


def _quiet(conn: Connection) -> None:
    """Keep triggers such as an updated_at from firing for our own fill; captures of ours are ENABLE ALWAYS."""
    if scalar(conn, "select rolsuper from pg_catalog.pg_roles where rolname = current_user"):
        conn.execute("set local session_replication_role = replica")


@dataclass(frozen=True, slots=True)
class Composites:
    """All composite foreign keys that point at one table of a plan."""

    files: SqlFiles
    plan: Plan
    spec: TableSpec

    @property
    def parent(self) -> Name:
        """The table that they point at."""
        return split_name(self.spec.name)

    def prepare(self, conn: Connection, on_lock: Callable[[LockReport], None]) -> int:
        """Give the referencing tables the partition key; return how many rows were filled. A second run fills none.

        Locks: ACCESS EXCLUSIVE on each referencing table, SHARE ROW EXCLUSIVE on the referenced one, for milliseconds.

        Raises:
            PreconditionError: the plan does not decide for a foreign key.
            LockNotAcquired: the budget is spent; those before are prepared.
        """
        source = Catalog(conn, self.files).read(self.parent)
        found = read_references(conn, self.files, source.oid)
        filled = 0
        for reference in require_decided(found, self.plan, self.spec, conn.info.server_version):
            if reference.decision == "composite":
                work = Composite(self.files, reference, self.parent, self.spec.key)
                work.refuse_taken(conn)
                on_lock(self._add(conn, work, source.column(self.spec.key).type))
                filled += work.fill(conn)
        return filled

    def undo(self, conn: Connection, source: Table, on_lock: Callable[[LockReport], None]) -> None:
        """Take the partition key off referencing tables whose foreign key does not use it; a second run finds none.

        Locks: ACCESS EXCLUSIVE on each referencing table and on the referenced one, for milliseconds.

        Raises:
            LockNotAcquired: the budget is spent; those before are as they were once.
        """
        prepared: dict[Name, list[str]] = {}
        for reference in read_references(conn, self.files, source.oid):
            work = Composite(self.files, reference, self.parent, self.spec.key)
            if composite_column(reference, self.spec.key) not in reference.columns and work.is_prepared(conn):
                prepared.setdefault(reference.child, []).append(work.undo_sql())
        for child, texts in prepared.items():
            # Two foreign keys may share a column, which one of their triggers would go on writing.
            on_lock(
                self._locked(conn, child, f"end of the partition key of {dotted(child)}", "".join(texts), undone=True)
            )

    def _add(self, conn: Connection, work: Composite, type_sql: str) -> LockReport:
        title = f"partition key for {work.reference.label}"
        return self._locked(conn, work.reference.child, title, work.prepare_sql(type_sql))

    def _locked(self, conn: Connection, child: Name, title: str, text: str, *, undone: bool = False) -> LockReport:
        policy = LockPolicy(**self.plan.locks.model_dump())
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, child)

        def act(held: Connection) -> None:
            held.execute(as_query(text))
            if undone and (found := find_migration(held, self.parent)):
                prepare_again(held, found, REFERENCES)

        _, report = with_lock(conn, title, act, lock=lock, policy=policy)
        return report

    def finish(self, conn: Connection, found: Migration) -> int:
        """Validate what the last exchange made in the place of foreign keys; return how much there was to do.

        A key that got past the triggers is mended before. Locks: SHARE UPDATE EXCLUSIVE on the referencing tables.

        Raises:
            ForeignKeyViolation: a row points at nothing.
        """
        references = found.detail.references
        live = Catalog(conn, self.files).read(self.parent)
        weak = {reference.name for reference in read_references(conn, self.files, live.oid) if not reference.validated}
        for reference in references:
            if found.state == SWAPPED and reference.decision == "composite" and reference.name in weak:
                Composite(self.files, reference, self.parent, self.spec.key).fill(conn)
        return validate_references(conn, self.files, live.oid, references)
