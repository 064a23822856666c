"""The structure of a twin, on a real server: complete, and each missing part is named."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.structure import StructureCheck, check_structure
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

SCHEMA = """
create table public.hotels (id int primary key);
create table public.posts (
    id bigint generated always as identity primary key, hotel int not null references public.hotels,
    "At" date, code text default 'x', constraint positive check (id > 0)
);
create unique index posts_code on public.posts (lower(code), hotel desc) where hotel > 0;
create index posts_at on public.posts using brin ("At");
comment on table public.posts is 'Posts';
create table public.twin (
    id bigint generated always as identity, hotel int not null references public.hotels,
    "At" date, code text default 'x', constraint positive check (id > 0), primary key (id, "At")
) partition by range ("At");
create table public.twin_1 partition of public.twin for values from ('2026-01-01') to ('2026-02-01');
create table public.twin_2 partition of public.twin for values from ('2026-02-01') to ('2026-03-01');
create unique index twin_code on public.twin (lower(code), hotel desc, "At") where hotel > 0;
create index twin_at on public.twin using brin ("At");
comment on table public.twin is 'Posts';
"""
BOUNDS = [("2026-01-01", "2026-02-01"), ("2026-02-01", "2026-03-01")]


def look(conn: Connection, files: SqlFiles) -> dict[str, StructureCheck]:
    """Check the twin as it is now."""
    catalog = Catalog(conn, files)
    target = catalog.read(("public", "twin"))
    leaves = [catalog.read(part.name) for part in target.partitions]
    return {
        finding.check: finding
        for finding in check_structure(catalog.read(("public", "posts")), target, leaves, "At", BOUNDS)
    }


MUTANTS = [
    ("partitions", "alter table public.twin detach partition public.twin_2", "no partition from 2026-02-01"),
    (
        "partitions",
        "create table public.twin_3 partition of public.twin for values from ('2026-03-02') to ('2026-04-01')",
        "twin_3 from 2026-03-02 to 2026-04-01 is not expected",
    ),
    ("columns", "alter table public.twin alter code drop default", "public.twin: column code has default None"),
    ("columns", "alter table public.twin add extra int", "column extra is not in the source"),
    ("indexes", "drop index public.twin_at", "public.twin_1: nothing valid like posts_at"),
    ("indexes", "drop index public.twin_code", 'unique btree (lower(code), hotel DESC, "At") WHERE (hotel > 0)'),
    ("foreign keys", "alter table public.twin drop constraint twin_hotel_fkey", "nothing like posts_hotel_fkey"),
    ("checks", "alter table public.twin drop constraint positive", "nothing like positive (CHECK ((id > 0)))"),
    ("rights", "grant select on public.posts to pg_monitor", "grants are none instead of pg_monitor=r"),
    ("rights", "comment on table public.twin is null", "comment is None instead of 'Posts'"),
]


def test_complete_twin_passes_and_each_missing_part_is_named(conn: Connection, sql_files: SqlFiles) -> None:
    """Each mutant is put in on its own and rolled back."""
    conn.execute(SCHEMA)
    assert [finding for finding in look(conn, sql_files).values() if not finding.passed] == []
    for check, mutant, said in MUTANTS:
        with conn.transaction(force_rollback=True):
            conn.execute(mutant)
            found = look(conn, sql_files)
        assert said in "; ".join(found[check].problems), (mutant, found)


def test_unvalidated_key_is_named(conn: Connection, sql_files: SqlFiles) -> None:
    """A foreign key that was never checked against the rows is not the same key."""
    conn.execute(SCHEMA)
    conn.execute("alter table public.twin_1 drop constraint if exists nothing")
    conn.execute(
        "update pg_constraint set convalidated = false where conrelid = 'public.twin_1'::regclass and contype = 'f'"
    )

    found = look(conn, sql_files)["foreign keys"]

    assert found.problems == ("public.twin_1: twin_hotel_fkey is not validated",)


@pytest.mark.parametrize("lost", ["twin_1"])
def test_leaf_that_was_not_looked_at_is_a_problem(conn: Connection, sql_files: SqlFiles, lost: str) -> None:
    """Missing evidence never passes."""
    conn.execute(SCHEMA)
    catalog = Catalog(conn, sql_files)
    source, target = catalog.read(("public", "posts")), catalog.read(("public", "twin"))
    leaves = [catalog.read(part.name) for part in target.partitions if part.name[1] != lost]

    found = check_structure(source, target, leaves, "At", BOUNDS)

    assert found[0].problems == ("public.twin_1 was not looked at",)
