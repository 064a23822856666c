"""Whether everything that a table is was carried through a switchover, and through the rollback.

Owns the definition that is remembered in `rehearsal.migration`, and how two definitions are judged. Which two are
compared in which state is said by each strategy. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from rehearsal.catalog.definition import Definition, Difference, differences, read_definition
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Catalog, Table, split_name
from rehearsal.errors import CannotSee
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.state import Migration, read_migration
from rehearsal.switchover.target.expected import Expected, expect
from rehearsal.switchover.target.target import Shape

Explain = Callable[[Expected, Definition], None]


def explain_nothing(_wanted: Expected, _before: Definition) -> None:
    """Explain no difference besides those that every partitioned table has."""


def judge_definition(
    conn: Connection,
    files: SqlFiles,
    spec: TableSpec,
    live: Table,
    shape: Shape,
    before: Definition,
    after: Definition,
    explain: Explain = explain_nothing,
) -> list[Difference]:
    """Return every difference of two definitions, with its reason where the partitioned table explains it.

    `explain` adds the reasons of a strategy; `live` is the table on which texts are read back.
    """
    key = scalar(conn, sql.SQL("select pg_catalog.quote_ident({})").format(sql.Literal(spec.key)))
    wanted = expect(before, shape, key, spec.method)
    explain(wanted, before)
    return differences(before, after, wanted.facts, wanted.reasons, spec.accepted, Readback(conn, files, live).same)


def find_leftovers(conn: Connection, files: SqlFiles, spec: TableSpec) -> list[Difference]:
    """Return what the rollback has left: the difference to the definition from before the switchover, none expected.

    Raises:
        CannotSee: no definition was remembered.
    """
    name = split_name(spec.name)
    before = remembered(read_migration(conn, name))
    live = Catalog(conn, files).read(name)
    return differences(before, read_definition(conn, files, live), same=Readback(conn, files, live).same)


def remembered(found: Migration) -> Definition:
    """Return the definition from before the switchover.

    Raises:
        CannotSee: it was not kept.
    """
    if found.detail.definition is None:
        message = (
            f"the definition of {found.source} from before its switch was not kept; switch again with this version"
        )
        raise CannotSee(message)
    return found.detail.definition
