"""All that an exchange of names takes along besides the two tables: dependents and foreign keys that point at them.

Owns the order: locks of those objects first, then the statements before the renames, then those after them, then the
comparison that nothing stayed behind.
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.catalog.dependents import Dependents, check_moved, lock_statements, read_dependents, require_movable
from rehearsal.catalog.tables import Name, Table, dotted, split_name
from rehearsal.errors import StepFailed
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.target.composite import Composite
from rehearsal.switchover.target.references import (
    References,
    lock_children,
    read_references,
    replace_keys,
    require_decided,
    restore_keys,
    standing,
)


@dataclass(frozen=True, slots=True)
class Moves:
    """What goes along; `locks` run before the table is locked, `before` and `after` around the renames."""

    key: str
    dependents: Dependents
    references: References
    locks: list[str]
    before: list[str]
    after: list[str]

    def check(self, conn: Connection, files: SqlFiles, old: Table, new: Table) -> None:
        """Compare, in the transaction of the exchange, what points at the two tables with what should.

        Raises:
            StepFailed: something was left behind or came out differently.
        """
        check_moved(conn, files, self.dependents, old.oid, new.oid, self.key)
        left = read_references(conn, files, old.oid)
        if left:
            message = (
                f"left behind on {dotted(old.name)}: {', '.join(reference.label for reference in left)}. What came "
                "since the switchover has no decision in the plan: drop it, run again, and add it afterwards. "
                "Nothing was changed"
            )
            raise StepFailed(message)


def read_moves(conn: Connection, files: SqlFiles, plan: Plan, table: Name, live: Table) -> Moves:
    """Return what goes along when `live` gives the name of `table` away: to its target, or back to the retired table.

    Raises:
        PreconditionError: something cannot go along, or the plan does not decide for it; names it.
    """
    spec = {split_name(planned.name): planned for planned in plan.tables}[table]
    dependents = require_movable(read_dependents(conn, files, live.oid, spec.key), table)
    if live.kind == "p":
        kept = state.read_migration(conn, table).detail.references
        references = standing(conn, kept)
        before, after = restore_keys(files, kept, references, table)
        gone = [reference for reference in kept if reference not in references and reference.decision == "composite"]
        # What keeps its partition key, on the table that gets its name back, writes into a table that is no more.
        after += [Composite(files, reference, table, spec.key).undo_sql() for reference in gone]
    else:
        found = read_references(conn, files, live.oid)
        references = require_decided(found, plan, spec, conn.info.server_version)
        before, after = replace_keys(files, references, table, spec.key)
    return Moves(
        key=spec.key,
        dependents=dependents,
        references=references,
        locks=[*lock_children(references), *lock_statements(dependents)],
        before=[*before, *(dependent.before_sql for dependent in dependents if dependent.before_sql)],
        after=[*after, *(dependent.after_sql for dependent in dependents if dependent.after_sql)],
    )
