"""Exact figures of a table, on a real server."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.stats import TableStats, read_stats
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles


def content(stats: TableStats) -> dict[str, object]:
    """Return the figures that do not depend on how the rows are stored."""
    return {
        "rows": stats.rows,
        "oldest": stats.oldest,
        "newest": stats.newest,
        "null keys": stats.null_keys,
        "distinct": stats.distinct,
    }


def test_figures_are_exact_and_changes_are_named(conn: Connection, sql_files: SqlFiles) -> None:
    """The same rows give the same figures, partitioned or not; each lost row shows."""
    conn.execute("""create table public."Posts" (id int primary key, "At" date, unit text)""")
    conn.execute(
        """insert into public."Posts" select n, date '2026-01-01' + n, 'u' || n % 3 from generate_series(1, 60) n"""
    )
    conn.execute("""insert into public."Posts" values (61, null, null)""")
    conn.execute("""create table public.twin (like public."Posts") partition by range ("At")""")
    conn.execute("create table public.twin_1 partition of public.twin default")
    conn.execute('insert into public.twin select * from public."Posts"')
    catalog = Catalog(conn, sql_files)
    source, twin = catalog.read(("public", "Posts")), catalog.read(("public", "twin"))

    before = read_stats(conn, sql_files, source, "At", ["unit"])
    after = read_stats(conn, sql_files, twin, "At", ["unit"])

    assert (before.rows, before.oldest, before.newest, before.null_keys) == (61, "2026-01-02", "2026-03-02", 1)
    assert before.distinct == {"unit": 3}
    assert before.bytes > 0
    assert before.index_bytes > 0
    assert after.bytes > 0  # of the leaf: the parent has none
    assert content(before) == content(after)
    conn.execute("delete from public.twin where id = 60")
    left = read_stats(conn, sql_files, twin, "At", ["unit"])
    assert content(left) == content(before) | {"rows": 60, "newest": "2026-03-01"}
    with pytest.raises(PreconditionError, match="no column units; it has: id, At, unit"):
        read_stats(conn, sql_files, source, "At", ["units"])
