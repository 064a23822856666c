"""Whether everything that a table is was carried through a switchover, and through the way back.

Owns the definition that is remembered in `rehearsal.migration`, and which two definitions are compared in which state.
Reads only, but for `remember`, which writes in the caller's transaction.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from psycopg import sql

from rehearsal.catalog.definition import Definition, Difference, compare, read_definition
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.errors import CannotSee
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.layout import Split
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.expected import expect, renamed, twin_names
from rehearsal.switchover.target.target import Shape


def find_differences(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec) -> list[Difference]:
    """Return every difference between what the table was and what the application has now, each with its reason.

    After a swap or an attach, and after their way back, with the definition from before; where both tables live, of
    the two.

    Raises:
        CannotSee: no definition was remembered.
    """
    names = Names(split_name(spec.name))
    found, catalog = state.read_migration(conn, names.source), Catalog(conn, files)
    live = catalog.read(names.source)
    judge = partial(_judge, Readback(conn, files, live), plan, spec)
    if found.state in (state.ATTACHED, state.REGRAINED):
        # History has the new primary key as well, so what it was before is read from what was decided then.
        shape = replace(Shape.of(live, spec.key), primary=tuple(Split.of_detail(found.detail).primary["columns"]))
        return judge(shape, _remembered(found), read_definition(conn, files, live))
    if found.state == state.SWAPPED:
        source = catalog.read(names.retired)
        shape = Shape.of(source, spec.key)
        return judge(shape, _remembered(found), read_definition(conn, files, live))
    if plan.strategy == "dual-write":
        target = catalog.read(names.target)
        statistics = read_carried(conn, files, live.oid)["statistics"]
        mapping = twin_names(live, target, Shape.of(live, spec.key, names), statistics)
        twin = renamed(read_definition(conn, files, target), mapping)
        return judge(Shape.of(live, spec.key), read_definition(conn, files, live), twin)
    return find_leftovers(conn, files, spec)


def find_leftovers(conn: Connection, files: SqlFiles, spec: TableSpec) -> list[Difference]:
    """Return what the way back has left: the difference to the definition from before the switch, none expected.

    Raises:
        CannotSee: no definition was remembered.
    """
    name = split_name(spec.name)
    remembered = _remembered(state.read_migration(conn, name))
    live = Catalog(conn, files).read(name)
    return compare(remembered, read_definition(conn, files, live), same=Readback(conn, files, live).same)


def _judge(
    readback: Readback, plan: Plan, spec: TableSpec, shape: Shape, before: Definition, after: Definition
) -> list[Difference]:
    key = scalar(readback.conn, sql.SQL("select pg_catalog.quote_ident({})").format(sql.Literal(spec.key)))
    wanted = expect(before, shape, plan.strategy, key, spec.method)
    return compare(before, after, wanted.facts, wanted.reasons, spec.accepted, readback.same)


def _remembered(found: Migration) -> Definition:
    definition: Definition | None = found.detail.get("definition")
    if definition is None:
        message = (
            f"the definition of {found.source} from before its switch was not kept; switch again with this version"
        )
        raise CannotSee(message)
    return definition


def remember(conn: Connection, migration: int, definition: Definition) -> None:
    """Keep the definition from before a switch, in the caller's transaction; a later one replaces it."""
    found = conn.execute("select state from rehearsal.migration where id = %s", [migration]).fetchone()
    state.set_state(conn, migration, found[0] if found else state.FOLLOWING, definition=definition)
