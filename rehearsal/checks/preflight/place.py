"""One planned table as it is just now: how far its switchover is, and under which names its rows are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Catalog, Name, Table, split_name
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.strategies.attach.layout import HistoryNames

# Where nothing was copied yet, and where the application still has the unpartitioned table.
NOT_COPIED = (None, state.PREPARED)
NOT_SWITCHED = (*NOT_COPIED, state.COPYING, state.FOLLOWING, state.READY)


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks of one table look at; `found` is its migration, None before `db.migrate`."""

    conn: Connection
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    found: state.Migration | None

    @property
    def state(self) -> str | None:
        """State of the migration, None before there is one."""
        return self.found.state if self.found else None

    @property
    def names(self) -> Names:
        """Names around the table."""
        return Names(split_name(self.spec.name))

    @property
    def source(self) -> Name:
        """The unpartitioned table, whatever it is called now."""
        if self.state == state.SWAPPED:
            return self.names.retired
        if self.state in (state.ATTACHED, state.SPLIT):
            return HistoryNames(self.names).history
        return self.names.source

    @property
    def relations(self) -> list[Name]:
        """Every table that rows are read from or written to: leaves are left out."""
        names = [self.names.source, self.source]
        if self.found and self.state not in (state.SWAPPED, state.ATTACHED, state.SPLIT):
            names.append(self.names.target)
        if self.found and self.state == state.ATTACHED:
            names.append(Names(self.source).target)
        return list(dict.fromkeys(names))

    @property
    def children(self) -> set[Name]:
        """Tables whose foreign keys a swap has replaced, and its rollback restores."""
        return (
            {reference.child for reference in self.found.detail.references}
            if self.found and self.swapped
            else set[Name]()
        )

    @property
    def swapped(self) -> bool:
        """Whether the partitioned table has the name, after a swap."""
        return self.state == state.SWAPPED

    def table(self) -> Table | None:
        """Return the unpartitioned table, or None if there is none."""
        return Catalog(self.conn, self.files).find(self.source)

    def row(self, query: str, **values: Any) -> dict[str, Any]:
        """Return the only row of a query."""
        rows = self.rows(query, **values)
        return rows[0] if rows else {}

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        return read_rows(self.conn, self.files, query, **values)


def places(conn: Connection, files: SqlFiles, plan: Plan) -> list[Place]:
    """Return every table of the plan as it is now; a database that was never provisioned has no migrations."""
    known = not scalar(conn, "select pg_catalog.to_regclass('rehearsal.migration') is null")
    return [
        Place(conn, files, plan, spec, state.find_migration(conn, split_name(spec.name)) if known else None)
        for spec in plan.tables
    ]


def read_rows(conn: Connection, files: SqlFiles, query: str, **values: Any) -> list[dict[str, Any]]:
    """Return the rows of a query of ours."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query(f"checks/preflight/{query}.sql"), values).fetchall()
