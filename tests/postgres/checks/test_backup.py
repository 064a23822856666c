"""Backup and restore drill with the real pg_dump and pg_restore."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.cluster import Cluster
from rehearsal.checks.backup import (
    Content,
    backup,
    content_differences,
    read_content,
    restore_drill,
    restore_dump,
)
from rehearsal.checks.scratch import scratch_database
from rehearsal.environment import Database
from rehearsal.errors import CannotSee, PreconditionError
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.programs import find_client, require_version
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.writing import at_work

SCHEMA = """
create schema "We""ird";
create type "We""ird".mood as enum ('sad', 'glad');
create function public.touch() returns trigger language plpgsql as 'begin new.note := 1; return new; end';
create table public.owners (id int primary key, name text);
create table public.hotels (id int primary key, owner int references public.owners);
create table public.unrelated (id int);
create table "We""ird"."Re.ven*ts" (
    id bigint generated always as identity primary key, hotel int references public.hotels, at timestamptz not null,
    price numeric, mood "We""ird".mood, moods "We""ird".mood[], note double precision, doc jsonb
);
create trigger touch before update on "We""ird"."Re.ven*ts" for each row execute function public.touch();
insert into public.owners values (1, 'a');
insert into public.hotels values (1, 1), (2, 1);
insert into "We""ird"."Re.ven*ts" (hotel, at, price, mood, moods, note, doc)
select n % 2 + 1, '2026-01-01Z'::timestamptz + n * interval '1 minute', n / 4.0, 'glad', '{sad}', n / 3.0, '{"a": 1.0}'
from generate_series(1, 3000) as n;
create table public.parts (id int, at date) partition by range (at);
create table public.parts_1 partition of public.parts for values from ('2026-01-01') to ('2027-01-01');
insert into public.parts values (1, '2026-02-02');
"""
REVENUES = ('We"ird', "Re.ven*ts")


@pytest.fixture
def bin_folder(cluster: Cluster) -> Path:
    """Client programs of the server's version."""
    return Path(cluster.facts()["bin"])


@pytest.fixture
def hotels(conn: Connection) -> Connection:
    """A database with foreign keys, a type, a trigger and hostile names."""
    conn.execute(SCHEMA)
    return conn


def test_backup_comes_back_whole_while_writers_work(
    database: Database, hotels: Connection, sql_files: SqlFiles, bin_folder: Path, tmp_path: Path
) -> None:
    """Referenced tables are in it; content is that of the dump's snapshot, whatever is written meanwhile."""

    def write(stop: threading.Event) -> None:
        with connect(database, role="writer") as conn:
            while not stop.is_set():
                conn.execute('insert into "We""ird"."Re.ven*ts" (at) values (now())')

    with at_work(write):
        made = backup(database, sql_files, [REVENUES, ("public", "parts")], tmp_path / "b1", bin_folder)
    drill = restore_drill(database, sql_files, made, "scratch_1", bin_folder)

    assert set(made.tables) == {REVENUES, ("public", "hotels"), ("public", "owners"), ("public", "parts")}
    now = scalar(hotels, 'select count(*) from "We""ird"."Re.ven*ts"')
    assert 3000 <= made.content[REVENUES].rows < now  # witness: rows came in after the snapshot
    assert drill.differences == ()
    assert drill.is_equal
    assert drill.restored == made.content
    assert 0 < drill.restore_seconds <= drill.seconds
    listed = json.loads((made.folder / "content.json").read_text())
    assert {(row["schema"], row["name"]): row["rows"] for row in listed} == {
        name: content.rows for name, content in made.content.items()
    }
    assert scalar(hotels, "select count(*) from pg_database where datname = 'scratch_1'") == 0
    assert "password" not in repr(made)


@pytest.mark.usefixtures("hotels")
def test_restored_tables_have_indexes_and_keys_and_lost_rows_show(
    database: Database, sql_files: SqlFiles, bin_folder: Path, tmp_path: Path
) -> None:
    """Mutants in the scratch database: a lost row, a changed value, a dropped table."""
    made = backup(database, sql_files, [REVENUES], tmp_path / "b1", bin_folder)
    with scratch_database(database, "scratch_2") as scratch:
        restore_dump(scratch, made.folder, bin_folder)
        with connect(scratch) as conn:
            keys = "select count(*) from pg_constraint where contype in ('f', 'p') and conrelid = %s::regclass"
            assert scalar(conn, keys, ['"We""ird"."Re.ven*ts"']) == 2

            assert content_differences(made.content, read_content(conn, sql_files, made.tables)) == ()
            conn.execute('update "We""ird"."Re.ven*ts" set mood = \'sad\' where id = 7')
            assert content_differences(made.content, read_content(conn, sql_files, made.tables)) == (
                'We"ird.Re.ven*ts has 3000 rows with other content',
            )
            conn.execute('delete from "We""ird"."Re.ven*ts" where id = 7')
            assert (
                "2999 rows instead of 3000"
                in content_differences(made.content, read_content(conn, sql_files, made.tables))[0]
            )
            conn.execute('drop table "We""ird"."Re.ven*ts"')
            got = read_content(conn, sql_files, made.tables)
            assert content_differences(made.content, got) == ('We"ird.Re.ven*ts is missing',)


def flip_a_bit(victim: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flip": (flip_a_bit, "not as it was written"),
    "remove": (Path.unlink, "not as it was written"),
    "add": (lambda victim: victim.with_name("more").touch(), "not as it was written: data/more;"),
    "unfinished": (lambda victim: (victim.parent.parent / "MANIFEST.sha256").unlink(), "never finished"),
}


def test_damaged_backup_is_refused(
    database: Database, hotels: Connection, sql_files: SqlFiles, bin_folder: Path, tmp_path: Path
) -> None:
    """One flipped bit is enough; nothing is restored from it."""
    for name, (damage, message) in DAMAGES.items():
        made = backup(database, sql_files, [("public", "owners")], tmp_path / name, bin_folder)
        damage(next((made.folder / "data").glob("*.dat*")))

        with pytest.raises(PreconditionError, match=message):
            restore_drill(database, sql_files, made, "scratch_3", bin_folder)
    assert scalar(hotels, "select count(*) from pg_database where datname = 'scratch_3'") == 0


def test_refusals_name_what_is_wrong(
    database: Database, hotels: Connection, sql_files: SqlFiles, bin_folder: Path, tmp_path: Path
) -> None:
    """No program, an old program, a folder or a database that is somebody else's, no right."""
    with pytest.raises(PreconditionError, match=f"no pg_dump in {tmp_path}"):
        backup(database, sql_files, [REVENUES], tmp_path / "b1", tmp_path)
    with pytest.raises(PreconditionError, match="older than the server's 99"):
        require_version(find_client("pg_dump", bin_folder), 990_000)
    (tmp_path / "b2").mkdir()
    with pytest.raises(PreconditionError, match="already exists"):
        backup(database, sql_files, [REVENUES], tmp_path / "b2", bin_folder)
    with pytest.raises(PreconditionError, match=r"no table public\.nothing"):
        backup(database, sql_files, [("public", "nothing")], tmp_path / "b3", bin_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["b2"]  # nothing half done
    with pytest.raises(PreconditionError, match="not made by a drill"), scratch_database(database, "postgres"):
        pass
    hotels.execute("create role lowly login password 'se:cr\\et'")
    lowly = Database(database.host, database.port, database.name, "lowly", "se:cr\\et")
    with pytest.raises(CannotSee, match="grant it CREATEDB"), scratch_database(lowly, "scratch_4"):
        pass
    hotels.execute("grant select on public.owners to lowly")
    with pytest.raises(Exception, match="permission denied"):
        backup(lowly, sql_files, [("public", "hotels")], tmp_path / "b4", bin_folder)
    hotels.execute("drop owned by lowly; drop role lowly")


def test_differences_are_said_once_a_table() -> None:
    """Counts first, content next."""
    wanted = {("a", "b"): Content(1, 5), ("a", "c"): Content(1, 5)}

    assert content_differences(wanted, {("a", "b"): Content(1, 5)}) == ("a.c is missing",)
