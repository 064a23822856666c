"""The victim sampler sees who waited, how long, and behind whom."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.evidence.run import Run
from rehearsal.load.lock_waits import SAMPLES, VictimSampler
from rehearsal.postgres.connection import Connection, connect
from tests.waiting import eventually

pytestmark = pytest.mark.alone


@pytest.fixture
def run(tmp_path: Path, conn: Connection) -> Run:
    conn.execute("create table public.posts (id int)")
    return Run.create(tmp_path, "local", "small")


def read_posts(database: Database, name: str) -> threading.Thread:
    """Start a session of the application that reads the table."""

    def work() -> None:
        with psycopg.connect(**database.conninfo(), application_name=name) as app:
            app.execute("select count(*) from public.posts")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_victims_of_a_lock_are_measured_and_the_blocker_named(database: Database, conn: Connection, run: Run) -> None:
    """Two readers behind one lock of 0.6 s: about 1.2 blocked session seconds, in the phase that held it."""
    sampler = VictimSampler(database, run).start()
    sampler.mark("swap")
    with connect(database, role="engine") as engine, engine.transaction():
        engine.execute("lock table public.posts in access exclusive mode")
        readers = [read_posts(database, f"web {number}") for number in range(2)]
        eventually(lambda: _waiters(conn) == 2)
        engine.execute("select pg_sleep(0.6)")
    for reader in readers:
        reader.join()
    sampler.mark("after")
    eventually(lambda: _waiters(conn) == 0)
    conn.execute("select pg_sleep(0.2)")
    report = sampler.stop()

    assert report.complete, report.reasons
    assert report.samples > 5
    swap = report.phases["swap"]
    assert swap.waits == 2
    assert swap.max_queue == 2
    assert 1.0 < report.total.blocked_session_s < 2.5
    assert 550 < report.total.longest_ms < 1_500
    assert "AccessShareLock on public.posts" in swap.longest
    assert any(name.startswith("pg-rehearsal engine pid") for name in swap.blockers)
    assert report.phases["after"].waits == 0
    assert (run.folder / SAMPLES).read_text().count("pg-rehearsal engine") >= 2


def test_sessions_of_the_engine_and_of_other_roles_are_no_victims(
    database: Database, conn: Connection, run: Run
) -> None:
    """Only the application is asked for; an engine that waits for a lock harms nobody."""
    conn.execute("create role stranger login")
    with VictimSampler(database, run, users=["stranger"]) as chosen, VictimSampler(database, run) as sampler:
        with connect(database, role="engine") as engine, engine.transaction():
            engine.execute("lock table public.posts in access exclusive mode")
            second = threading.Thread(target=_wait_as_engine, args=(database,))
            reader = read_posts(database, "web")
            second.start()
            eventually(lambda: _waiters(conn) == 2)
            engine.execute("select pg_sleep(0.2)")
        second.join()
        reader.join()
        assert sampler.stop().total.waits == 1
        assert chosen.stop().total.waits == 0
    conn.execute("drop role stranger")


def test_role_that_cannot_see_others_is_refused(database: Database, conn: Connection, run: Run) -> None:
    """No waits seen by a blind role would look like none."""
    conn.execute("create role blind login password 'blind-pass'")
    blind = Database(database.host, database.port, database.name, "blind", "blind-pass")

    with pytest.raises(CannotSee, match="pg_monitor"):
        VictimSampler(blind, run).start()

    conn.execute("grant pg_monitor to blind")
    assert VictimSampler(blind, run).start().stop().total.waits == 0
    conn.execute("drop role blind")


def test_sampler_that_lost_its_connection_is_not_complete(database: Database, conn: Connection, run: Run) -> None:
    """It comes back, and says that it was blind."""
    sampler = VictimSampler(database, run).start()
    where = "where application_name = 'pg-rehearsal victim sampler'"
    row = conn.execute(f"select pid from pg_stat_activity {where}".encode()).fetchone()
    assert row is not None
    conn.execute("select pg_terminate_backend(%s)", [row[0]])
    eventually(lambda: _count(conn, f"{where} and pid <> {row[0]} and query like '%wait_event_type%'") == 1)
    report = sampler.stop()

    assert not report.complete
    assert "57P01" in report.reasons[0]


def test_sampler_that_was_held_up_is_not_complete(database: Database, conn: Connection, run: Run) -> None:
    """What happened while it could not look was not seen, and it says so."""
    sampler = VictimSampler(database, run).start()
    with conn.transaction():
        conn.execute("lock table pg_catalog.pg_authid in access exclusive mode")
        conn.execute("select pg_sleep(1.2)")
    conn.execute("select pg_sleep(0.2)")
    report = sampler.stop()

    assert not report.complete
    assert "no sample for 1." in report.reasons[0]
    assert report.max_gap_ms > 1_000


def _wait_as_engine(database: Database) -> None:
    with connect(database, role="engine") as conn:
        conn.execute("select count(*) from public.posts")


def _waiters(conn: Connection) -> int:
    return _count(conn, "where datname = current_database() and wait_event_type = 'Lock'")


def _count(conn: Connection, where: str) -> int:
    row = conn.execute(f"select count(*) from pg_stat_activity {where}".encode()).fetchone()
    assert row is not None
    return int(row[0])
