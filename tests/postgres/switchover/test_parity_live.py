"""Parity while writers work: exact with synchronous triggers, explained with a key log, nothing held afterwards."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from psycopg import errors

from rehearsal.catalog.tables import Catalog, Table
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity import compare
from tests.waiting import eventually
from tests.writing import at_work

SCHEMA = """
create table public.posts (id bigint generated always as identity primary key, at timestamptz not null, body text);
create table public.posts_p (id bigint not null, at timestamptz not null, body text, primary key (id, at))
    partition by range (at);
create table public.posts_1 partition of public.posts_p for values from ('2026-01-01Z') to ('2026-02-01Z');
create table public.posts_2 partition of public.posts_p for values from ('2026-02-01Z') to ('2026-03-01Z');
create table public.posts_3 partition of public.posts_p for values from ('2026-03-01Z') to ('2026-04-01Z');
insert into public.posts (at, body) select '2026-01-01Z'::timestamptz + n % 80 * interval '1 day', 'body ' || n
from generate_series(1, 10000) as n;
insert into public.posts_p select * from public.posts;
create table public.keylog (
    seq bigint generated always as identity primary key, k1 bigint not null, k2 timestamptz not null
);
"""
MIRROR = """
create function public.mirror() returns trigger language plpgsql as $$
begin
    if current_setting('rehearsal.applying', true) = 'on' then return null; end if;
    if tg_op <> 'INSERT' then delete from public.posts_p where id = old.id and at = old.at; end if;
    if tg_op <> 'DELETE' then insert into public.posts_p select new.*; end if;
    return null;
end $$;
create trigger mirror after insert or update or delete on public.posts for each row execute function public.mirror();
"""
CAPTURE = """
create function public.capture() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then insert into public.keylog (k1, k2) values (old.id, old.at); end if;
    if tg_op <> 'DELETE' then insert into public.keylog (k1, k2) values (new.id, new.at); end if;
    return null;
end $$;
create trigger capture after insert or update or delete on public.posts for each row execute function public.capture();
"""
WRITES = (
    "insert into public.posts (at, body) values ('2026-01-01Z'::timestamptz + %(n)s %% 80 * interval '1 day', 'new')",
    "update public.posts set body = body || '.' where id = %(n)s",
    "delete from public.posts where id = %(n)s",
    "update public.posts set at = '2026-01-01Z'::timestamptz + (%(n)s * 7) %% 80 * interval '1 day' where id = %(n)s",
)


@dataclass
class Mirrored:
    """Sessions that write a table which triggers mirror; `writes` counts what was committed."""

    database: Database
    writes: int = 0

    def work(self, seed: int, stop: threading.Event) -> None:
        """Write until told to stop."""
        dice = random.Random(seed)
        with connect(self.database, role="writer") as conn:
            while not stop.is_set():
                with contextlib.suppress(errors.DeadlockDetected):
                    conn.execute(dice.choice(WRITES), {"n": dice.randint(1, 10_000)})
                    self.writes += 1

    def until(self, writes: int) -> None:
        """Wait until so many are committed."""
        eventually(lambda: self.writes, 60, that=lambda count: count >= writes)


@contextlib.contextmanager
def writing(database: Database, threads: int = 2) -> Iterator[Mirrored]:
    """Let writers work for the block."""
    writers = Mirrored(database)
    with at_work(*(partial(writers.work, seed) for seed in range(threads))):
        writers.until(1)
        yield writers


@pytest.fixture
def tables(conn: Connection, sql_files: SqlFiles) -> tuple[Table, Table]:
    """An equal pair of tables and a key log."""
    conn.execute(SCHEMA)
    catalog = Catalog(conn, sql_files)
    return catalog.read(("public", "posts")), catalog.read(("public", "posts_p"))


def test_exact_under_synchronous_writers(
    database: Database, conn: Connection, sql_files: SqlFiles, tables: tuple[Table, Table]
) -> None:
    """Five comparisons while two writers mirror each write: never a difference; afterwards nothing is held."""
    conn.execute(MIRROR)
    with writing(database) as writers:
        seen = writers.writes
        for number in range(5):
            got = compare(database, sql_files, *tables, "at", self_test=number % 2 == 0)
            assert got.is_equal, got.text()
            assert got.self_test in ({True} if number % 2 == 0 else {None}), got.self_test_note
        assert writers.writes > seen + 20  # witness: they were writing all the time

    assert scalar(conn, "select count(*) from public.posts") == scalar(conn, "select count(*) from public.posts_p")
    held = "select count(*) from pg_stat_activity where backend_xmin is not null and application_name like '%parity%'"
    assert scalar(conn, held) == 0


def test_lagging_twin_is_explained_by_the_key_log(
    database: Database, conn: Connection, sql_files: SqlFiles, tables: tuple[Table, Table]
) -> None:
    """Differences that the key log of the same snapshot announces are explained; one that it does not is not."""
    conn.execute(CAPTURE)
    with writing(database) as writers:
        for _ in range(3):
            writers.until(writers.writes + 20)
            got = compare(database, sql_files, *tables, "at", keylog=("public", "keylog"))
            assert got.unexplained == 0, got.text()
            assert got.explained > 0
            assert got.has_explanation
            assert not got.is_equal
            assert got.self_test is True, got.self_test_note

    conn.execute(
        "delete from public.keylog where k1 = (select k1 from public.keylog join public.posts on id = k1 limit 1)"
    )
    got = compare(database, sql_files, *tables, "at", keylog=("public", "keylog"), self_test=False)
    assert got.unexplained == 1
    assert not got.examples[0].explained
    assert not got.has_explanation


KILL = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name like '%parity%' and wait_event_type = 'Lock'
"""


def test_comparison_that_is_cut_short_is_no_evidence(
    database: Database, conn: Connection, sql_files: SqlFiles, tables: tuple[Table, Table]
) -> None:
    """A session that is killed half-way makes it inconclusive, never equal; nothing is left behind."""

    def kill(stop: threading.Event) -> None:
        with connect(database, role="killer") as killer:
            while not stop.wait(0.05) and not killer.execute(KILL).fetchall():
                pass

    with at_work(kill), connect(database, autocommit=False, role="locker") as locker:
        locker.execute("lock table public.posts_2 in access exclusive mode")
        with pytest.raises(CannotSee, match=r"public\.posts was cut short: .*terminat"):
            compare(database, sql_files, *tables, "at")

    left = "select count(*) from pg_stat_activity where application_name like '%parity%' and backend_xmin is not null"
    assert scalar(conn, left) == 0
    assert compare(database, sql_files, *tables, "at").is_equal
