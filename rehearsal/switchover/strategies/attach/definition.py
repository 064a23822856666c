"""Whether an attached table is what it was before; after the rollback, whether anything was left. Reads only."""

from __future__ import annotations

from dataclasses import replace

from rehearsal.catalog.definition import Difference, read_definition
from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.definition import find_leftovers, judge_definition, remembered
from rehearsal.switchover.detail import Split
from rehearsal.switchover.target.target import Shape


def find_differences(conn: Connection, files: SqlFiles, spec: TableSpec) -> list[Difference]:
    """Return what the table is not any more; while it is not attached, what the rollback has left.

    Raises:
        CannotSee: no definition from before was remembered.
    """
    name = split_name(spec.name)
    found = state.read_migration(conn, name)
    if found.state not in (state.ATTACHED, state.SPLIT):
        return find_leftovers(conn, files, spec)
    live = Catalog(conn, files).read(name)
    # History has the new primary key as well, so what it was before is read from what was decided then.
    shape = replace(Shape.of(live, spec.key), primary=tuple(Split.of_detail(found.detail).primary.columns))
    return judge_definition(conn, files, spec, live, shape, remembered(found), read_definition(conn, files, live))
