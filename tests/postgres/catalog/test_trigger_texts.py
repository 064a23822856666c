"""A trigger's text without its table's place, whatever its name, columns, condition and arguments say."""

from __future__ import annotations

import pytest

from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Catalog
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

TABLE = """
create schema if not exists rehearsal;
create table public.t (id int, "c ON public.t " text);
create function public.f() returns trigger language plpgsql as 'begin return new; end';
create trigger {name} before update of "c ON public.t " on public.t for each row
    when (new."c ON public.t " <> ' ON public.t FOR') execute function public.f(' ON public.t ');
"""


@pytest.mark.parametrize("name", ['"x ON it "', '"a "" ON public.t "', '"ON public.t ON it"'])
def test_only_the_place_of_the_table_is_taken_out(conn: Connection, sql_files: SqlFiles, name: str) -> None:
    """And read back, the text is what it was."""
    conn.execute(as_query(TABLE.format(name=name)))
    table = Catalog(conn, sql_files).read(("public", "t"))
    facts = conn.execute(sql_files.query("catalog/definition.sql"), {"oid": table.oid}).fetchall()
    ((subject, said),) = [row[::2] for row in facts if row[0].startswith("trigger ") and row[1] == "definition"]

    head = f'CREATE TRIGGER {name} BEFORE UPDATE OF "c ON public.t " ON it FOR EACH ROW WHEN '
    assert said.startswith(head)
    assert said.count("' ON public.t FOR'") == said.count("f(' ON public.t ')") == 1
    assert Readback(conn, sql_files, table).text(subject, "definition", said) == said
