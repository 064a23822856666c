"""Figures of the baseline: what rows there are, without those of the load."""

from __future__ import annotations

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.figures import newest_id, read_figures
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

SETUP = """
create table public.parcels (id int primary key, depot int, source text);
insert into public.parcels select n, nullif(n % 12, 0), 'old' from generate_series(1, 100) as n;
insert into public.parcels values (101, 99, 'old'), (50000, -5, 'lg:1:1');
"""


def test_ends_are_those_of_the_values_not_of_their_text(conn: Connection, sql_files: SqlFiles) -> None:
    """Of 1 to 11, "9" is the greatest text; nulls, later rows and rows of the load do not count."""
    conn.execute(SETUP.encode())
    table = Catalog(conn, sql_files).read(("public", "parcels"))
    spec = TableSpec.model_validate({"name": "public.parcels", "key": "depot", "interval": "10", "marker": "source"})

    figures = read_figures(conn, table, spec, ["depot"], 100, "id")

    assert figures == {"rows": 100, "oldest": "1", "newest": "11", "distinct depot": 11}
    assert newest_id(conn, table) == 50000
    assert read_figures(conn, table, spec, [], None, "id") == {"rows": 101, "oldest": "1", "newest": "99"}
