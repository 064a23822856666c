"""The throttle of the copy: it steps back for the application with a reason, and stops before it does harm."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet.cluster import Cluster
from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.evidence.events import Event, ThrottleChanged
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.signals import Signals
from rehearsal.switchover.copy.throttle import Throttle, make_throttle
from tests.fix_postgres import burning
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of
from tests.waiting import eventually

WAIT_S = 60.0


class Heard:
    """What the throttle said, and a way to wait for a word."""

    def __init__(self, run: Run) -> None:
        self._texts: list[str] = []
        self._change = threading.Condition()
        run.listen(self)

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event.what, ThrottleChanged):
            with self._change:
                self._texts.append(event.what.text)
                self._change.notify_all()

    def wait(self, word: str) -> str:
        """Return the first text with that word."""
        with self._change:
            assert self._change.wait_for(lambda: any(word in text for text in self._texts), WAIT_S), self._texts
            return next(text for text in self._texts if word in text)


class Waited(threading.Condition):
    """Tells that somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as before."""
        self.began.set()
        return super().wait(timeout)


def throttled(database: Database, files: SqlFiles, plan: Plan, run: Run, table: Name) -> Throttle:
    """Return the throttle of a copy of the events table."""
    return make_throttle("copy of events", database, files, plan, run, table, ("id",))


def test_copy_is_slowed_for_busy_sessions_and_says_why(
    database: Database, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """One session at work on one core is enough; when it ends, the copy comes back to full speed and says so."""
    heard = Heard(run)
    plan = make_plan("swap", pace={"cores": 1, "probe_floor_ms": 10_000})
    with throttled(database, sql_files, plan, run, events) as turns:
        with burning(database):
            text = heard.wait("slowed")
            assert "1 session at work on 1 core" in text
            assert turns.permits < plan.copying.workers
        heard.wait("full speed again")
        assert turns.permits == plan.copying.workers


def test_full_pace_is_never_slowed(database: Database, sql_files: SqlFiles, events: Name, run: Run) -> None:
    """The same busy session: the reading shows it, and the places stay."""
    plan = make_plan("swap", pace={"cores": 1, "mode": "full"})
    with burning(database), throttled(database, sql_files, plan, run, events) as turns:
        seen, stop = Signals(database, sql_files, events, ("id",)), threading.Event()
        eventually(lambda: seen.read(stop, 0.05), 60, that=lambda reading: (reading.busy or 0) >= 1)
        seen.close()
        assert turns.permits == plan.copying.workers


def test_a_core_is_left_to_others_and_chunks_are_short_for_them(
    database: Database, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """An application that is hardly busy counts as well; our own sessions do not, and without others all is taken."""
    heard = Heard(run)
    plan = make_plan("swap", copy={"workers": 3}, pace={"cores": 3, "busy": 100, "probe_floor_ms": 10_000})
    with throttled(database, sql_files, plan, run, events) as turns:
        assert (turns.permits, turns.shared) == (3, False)
        with burning(database):
            assert "others are at work; one of 3 cores is theirs" in heard.wait("slowed")
            assert (turns.permits, turns.shared) == (2, True)
        heard.wait("full speed again")
        assert (turns.permits, turns.shared) == (3, False)


def test_lookup_that_waits_slows_the_copy(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """Somebody holds a lock on the table: the application feels it, and so does the probe."""
    heard = Heard(run)
    plan = make_plan("swap", pace={"cores": 64, "probe_floor_ms": 600})
    with throttled(database, sql_files, plan, run, events):
        with conn.transaction():
            conn.execute(as_query('lock table public."We""ird Events" in access exclusive mode'))
            heard.wait("a lookup takes")
        heard.wait("full speed again")


def test_no_more_workers_than_places(database: Database, sql_files: SqlFiles, events: Name, run: Run) -> None:
    """With one place, the second worker gets its turn when the first has given its own back."""
    plan = make_plan("swap", pace={"mode": "full"})
    stop, order = threading.Event(), list[str]()
    with (
        ThreadPoolExecutor(1) as pool,
        throttled(database, sql_files, plan, run, events) as turns,
        connect(database) as one,
        connect(database) as two,
    ):
        assert turns._thread is not None
        turns._stop.set()
        turns._thread.join()
        turns.permits = 1.0
        turns._change = change = Waited()

        def second() -> None:
            with turns.turn(two, stop) as granted:
                order.append(f"second {granted}")

        with turns.turn(one, stop) as granted:
            later = pool.submit(second)
            assert change.began.wait(WAIT_S)
            order.append(f"first {granted}")
        later.result(WAIT_S)
    assert order == ["first True", "second True"]


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        ({"stop_free_gb": 1e9}, r"GB free on the disk, less than 1e\+09 \(pace.stop_free_gb\)"),
        ({"stop_xmin_age": 20, "mode": "full"}, r"transactions old, more than 20 \(pace.stop_xmin_age\)"),
    ],
)
def test_passed_limit_stops_the_copy_which_goes_on_later(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    run: Run,
    pace: dict[str, Any],
    said: str,
) -> None:
    """Exit code 1 with the reason and the key; state is kept, and once the limit holds the same command finishes."""
    plan = make_plan("swap", pace=pace)
    deploy(conn, sql_files, plan)
    with connect(database, autocommit=False) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select 1")
        for _ in range(30):
            conn.execute("select pg_catalog.pg_current_xact_id()")

        with pytest.raises(StepFailed, match=said) as caught:
            make_switchover(database, sql_files, plan, run).prepare()

    assert caught.value.exit_code == 1
    assert state.read_migration(conn, events).state == state.COPYING
    assert make_switchover(database, sql_files, make_plan("swap"), run).prepare()
    assert difference(conn, events, names_of(events).target) == (0, 0)


def test_what_cannot_be_seen_is_said_once(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """A role without rights copies all the same; each blind spot names its remedy, once a run."""
    conn.execute("drop role if exists plain_role")
    conn.execute("create role plain_role login password 'plain'")
    conn.execute(as_query('grant select on public."We""ird Events" to plain_role'))
    conn.execute("grant usage on schema rehearsal to plain_role; grant select on rehearsal.pause to plain_role")
    plain = Database(database.host, database.port, database.name, "plain_role", "plain")
    try:
        for _ in range(2):
            with throttled(plain, sql_files, make_plan("swap"), run, events):
                pass
    finally:
        conn.execute("drop owned by plain_role; drop role plain_role")

    told = [event.what.text for event in run.events() if isinstance(event.what, ThrottleChanged)]
    assert len(told) == len(set(told)) == 3
    assert any("grant pg_monitor" in text for text in told)
    assert any("pace.cores" in text for text in told)


@pytest.mark.slow
def test_archive_that_does_not_keep_up_slows_the_copy(sql_files: SqlFiles, run: Run) -> None:
    """A real archiver whose command fails: files wait, the copy is slowed, and past the limit it stops."""
    base = Path(tempfile.mkdtemp(prefix="pgr-archive-"))
    base.chmod(0o711)
    cluster = Cluster(base)
    heard = Heard(run)
    try:
        cluster.start(settings={"archive_mode": "on", "archive_command": "'false'", "fsync": "off"})
        server = Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())
        with connect(server) as conn:
            conn.execute(sql_files.query("registry.sql"))
            conn.execute("create table public.posts (id int primary key); insert into public.posts values (1)")
            plan = make_plan("swap", pace={"max_archive_queue": 2, "stop_archive_queue": 6})
            with throttled(server, sql_files, plan, run, ("public", "posts")) as turns:
                for _ in range(4):
                    conn.execute("select pg_catalog.pg_logical_emit_message(false, 'pace', 'x'), pg_switch_wal()")
                heard.wait("WAL files wait to be archived")
                for _ in range(4):
                    conn.execute("select pg_catalog.pg_logical_emit_message(false, 'pace', 'x'), pg_switch_wal()")
                heard.wait("stopped: ")
                with pytest.raises(StepFailed, match=r"pace\.stop_archive_queue"), turns.turn(conn, threading.Event()):
                    pass
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)


def test_table_that_is_locked_when_the_copy_begins_slows_it_and_does_not_end_it(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """The application rolls a long TRUNCATE back: whoever begins meanwhile waits like everybody, and goes on after."""
    heard = Heard(run)
    plan = make_plan("swap", pace={"cores": 64, "probe_floor_ms": 600})
    with conn.transaction(force_rollback=True):
        conn.execute(as_query('truncate public."We""ird Events" cascade'))
        with throttled(database, sql_files, plan, run, events):
            heard.wait("a lookup takes")
