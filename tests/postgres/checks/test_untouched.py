"""Rows of the rehearsal's own: made of copies, whatever the primary key is, or said why they cannot be."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.untouched import drop_witnesses, make_witnesses, unmakeable
from rehearsal.errors import CannotSee
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

# Columns of the primary key, and how rows get theirs: none has a default, as where the application draws them.
KEYS = {
    "uuid": ("id uuid", "gen_random_uuid()"),
    "bigint": ("id bigint", "n"),
    "integer": ("id integer", "n"),
    "text": ("id text", "'number ' || n"),
    "bytea": ("id bytea", "decode(lpad(n::text, 4, '0'), 'hex')"),
    "of a tenant": ("tenant text, id bigint", "'tenant ' || n % 3, n"),
    "with a default": ("id inet default '0.0.0.0'::inet + (random() * 1e9)::bigint", "'0.0.0.0'::inet + n"),
}
SPEC = TableSpec.model_validate({"name": "public.parcels", "key": "at", "marker": "source"})
UNTIL = "2027-01-01 00:00:00+00"


def made(conn: Connection, columns: str, values: str) -> None:
    """Make the table with 100 rows, and a foreign key by which a tenant cannot be made up."""
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    conn.execute(
        as_query(
            f"create table public.parcels ({columns}, at timestamptz not null, n int, source text,"
            f" primary key ({names}));"
            f"insert into public.parcels ({names}, at, n, source) select {values}, '2026-01-01', n, 'row ' || n "
            "from generate_series(1, 100) as n;"
            "create table public.tenants (tenant text primary key); insert into public.tenants values ('tenant 0'),"
            "('tenant 1'), ('tenant 2');"
        )
    )
    if "tenant" in names:
        conn.execute("alter table public.parcels add foreign key (tenant) references public.tenants")


@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_made_with_keys_of_their_own(conn: Connection, sql_files: SqlFiles, kind: str) -> None:
    """They are copies but for key, mark and primary key; those that stay do so beside the rows that were there."""
    made(conn, *KEYS[kind])
    table = Catalog(conn, sql_files).read(("public", "parcels"))
    assert unmakeable(table, SPEC) is None

    assert make_witnesses(conn, sql_files, table, SPEC, UNTIL, 100) == 80

    assert scalar(conn, "select count(*) from public.parcels where n is null") == 0
    assert scalar(conn, "select count(*) from public.parcels") == 190
    assert drop_witnesses(conn, ("public", "parcels"), SPEC) == 90


UNMAKEABLE = {
    "a type that cannot be made up": ("id inet", "'0.0.0.0'::inet + n", SPEC, "type inet"),
    "no marker": ("id bigint", "n", SPEC.model_copy(update={"marker": None}), "no marker"),
}


@pytest.mark.parametrize("kind", UNMAKEABLE)
def test_it_is_said_why_rows_cannot_be_made(conn: Connection, sql_files: SqlFiles, kind: str) -> None:
    """Preflight says the same before a rehearsal begins."""
    columns, values, spec, why = UNMAKEABLE[kind]
    made(conn, columns, values)
    table = Catalog(conn, sql_files).read(("public", "parcels"))
    assert why in (unmakeable(table, spec) or "")
    with pytest.raises(CannotSee, match=why):
        make_witnesses(conn, sql_files, table, spec, UNTIL, 10)
