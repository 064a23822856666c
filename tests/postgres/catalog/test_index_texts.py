"""What PostgreSQL tells of an index in parts, and that a column is added to its text in the right place."""

from __future__ import annotations

import pytest

from rehearsal.catalog.ddl import add_column
from rehearsal.catalog.tables import Catalog, Index
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

# A table whose columns are named so that a careless reader goes wrong.
TABLE = 'create table public.t (a text, "b)" text, "c""(" int, "select" int, at timestamptz)'
OF_PARTS = """(lower(a) collate "C" text_pattern_ops desc nulls last, "b)") include ("c""(") with (fillfactor = 70)"""
INDEXES = (
    "(a)",
    OF_PARTS,
    """(replace("b)", ')', '''('), ("c""(" + 1)) where "b)" <> ')'""",
    """((a || '\\)'), "c""(") include ("b)")""",
    """(coalesce(a, '"('), at desc)""",
)


def test_the_catalog_tells_a_column_without_class_collation_and_order(conn: Connection) -> None:
    """The reason why texts are cut: an index of these parts would be another one."""
    conn.execute(as_query(TABLE))
    conn.execute(as_query(f"create index i on public.t {OF_PARTS}"))

    whole = scalar(conn, "select pg_get_indexdef('public.i'::regclass)")
    part = scalar(conn, "select pg_get_indexdef('public.i'::regclass, 1, false)")

    assert 'lower(a) COLLATE "C" text_pattern_ops DESC NULLS LAST' in whole
    assert part == "lower(a)"


@pytest.mark.parametrize("definition", INDEXES)
@pytest.mark.parametrize("key", ["select", 'c"('])
def test_a_column_is_added_behind_the_last_one(
    conn: Connection, sql_files: SqlFiles, definition: str, key: str
) -> None:
    """PostgreSQL reads back what was made: the same columns and one more, all else as it was."""
    conn.execute(as_query(TABLE))
    conn.execute(as_query(f"create unique index i on public.t {definition}"))
    table = Catalog(conn, sql_files).read(("public", "t"))
    before, quoted = table.indexes[0], table.column(key).quoted
    where = f" where {before.predicate}" if before.predicate else ""

    text = add_column(before.tail, quoted)
    conn.execute(as_query(f"create unique index j on public.t {text}{where}"))

    after = next(index for index in Catalog(conn, sql_files).read(("public", "t")).indexes if index.name == "j")
    assert after.tail == text
    assert columns(conn, after) == [*columns(conn, before), quoted]
    assert (after.included, after.options, after.predicate) == (before.included, before.options, before.predicate)


def columns(conn: Connection, index: Index) -> list[str]:
    """Return the key columns of an index, as PostgreSQL counts them."""
    found: list[str] = scalar(
        conn,
        "select array(select pg_get_indexdef(indexrelid, n, false) from generate_series(1, indnkeyatts::int) as n) "
        "from pg_index where indexrelid = %s::regclass",
        [f"public.{index.name}"],
    )
    return found
