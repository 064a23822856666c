"""The generator against a real server: exact under load, honest about stalls, harmless when killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.evidence.run import Run
from rehearsal.load.driver import LoadProcess, ledger_folder
from rehearsal.load.reconciliation import reconcile
from rehearsal.load.summary import summarize
from rehearsal.postgres.connection import Connection, connect, connect_as_application
from tests.load_world import (
    BOTH,
    SCHEMA,
    SQL_OPERATIONS,
    TABLE,
    count_marked,
    ended_well,
    make_environment,
    make_plan,
)
from tests.waiting import eventually

pytestmark = pytest.mark.alone

PLAN = make_plan()


@pytest.fixture
def run(tmp_path: Path, conn: Connection) -> Run:
    """A run, with the small world in the test's database."""
    conn.execute(SCHEMA)
    return Run.create(tmp_path, "local", "small")


def test_reconciliation_in_the_middle_of_running_load_is_clean(database: Database, conn: Connection, run: Run) -> None:
    """Five times in a row, in source and twin, with every action acknowledged; writes end while rows are read."""
    conn.execute("create view public.slow as select * from public.posts where (select true from pg_sleep(0.2))")
    relations = {TABLE: [("public", "slow"), *BOTH[TABLE]]}
    with LoadProcess(make_environment(database), PLAN, run, "steady") as load:
        eventually(lambda: count_marked(conn) > 40)
        for _ in range(5):
            got = reconcile(conn, PLAN, ledger_folder(run), relations, run.name)
            assert got.is_clean, got.to_dict()
        load.mark("later")
        eventually(lambda: count_marked(conn) > 80)
        summary = load.stop()

    got = reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name)
    assert got.is_clean
    assert got.short_of(5, PLAN) == ()
    assert got.unknown == got.failed == 0
    assert all(sum(relation.verified.values()) > 20 for relation in got.relations)
    assert got.relations[0].rows == got.relations[1].rows == count_marked(conn)
    assert ended_well(summary), summary.reasons
    assert summary.writes.ok == sum(got.acknowledged[TABLE].values())
    assert {"", "later"} <= set(summary.phases)
    assert summary.reads.ok > 0


def test_stall_of_the_server_shows_in_the_latencies(database: Database, conn: Connection, run: Run) -> None:
    """Open loop: operations that were due while a lock was held count from when they were due."""
    with LoadProcess(make_environment(database), PLAN, run, "frozen") as load:
        eventually(lambda: count_marked(conn) > 10)
        load.mark("freeze")
        with connect(database) as other, other.transaction():
            other.execute("lock table public.posts in access exclusive mode")
            other.execute("select pg_sleep(1.5)")
        load.mark("after")
        eventually(lambda: load.is_alive() and count_marked(conn) > 60)
        summary = load.stop()

    assert summary.writes.max_ms > 1_000
    assert summary.writes.p99_ms > 1_000
    assert 1_300 < summary.stall_ms < 3_000
    assert 1_000 < summary.phases["freeze"].stall_ms < 3_000
    late = sum(1 for line in (load.latency_path or Path()).read_text().splitlines() if '"t": "second"' in line)
    assert late > 0
    assert summary.writes.offered > 100, "the load went on arriving during the stall"
    whole = summarize(ledger_folder(run))
    assert whole.writes == summary.writes
    quiet = summarize(ledger_folder(run), segment="none")
    assert not quiet.honest


def test_killed_generator_leaves_unknown_writes_and_nothing_lost(
    database: Database, conn: Connection, run: Run
) -> None:
    """Killed by -9 while writes wait for a lock; then a second generator goes on with the rows of the first."""
    env = make_environment(database)
    with LoadProcess(env, PLAN, run, "first") as load:
        eventually(lambda: count_marked(conn) > 20)
        with connect(database) as other, other.transaction():
            other.execute("lock table public.posts_partitioned in access exclusive mode")
            eventually(lambda: _waiting(other) >= 2)
            os.kill(load.pid or 0, signal.SIGKILL)
            eventually(lambda: not load.is_alive())
            summary = load.stop()
    got = reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name)
    assert not summary.honest
    assert any("did not come to its end" in reason for reason in summary.reasons)
    assert got.is_clean, got.to_dict()
    text = (load.ledger_path or Path()).read_text()
    assert text.count('"t": "intent"') > text.count('"t": "outcome"')

    with LoadProcess(env, PLAN, run, "second") as load:
        count = count_marked(conn)
        eventually(lambda: count_marked(conn) > count + 20)
        load.stop()
    got = reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name)
    assert got.is_clean, got.to_dict()
    assert set(got.by_segment) == {"first", "second"}
    lines = [json.loads(line) for line in (load.ledger_path or Path()).read_text().splitlines()]
    assert any(line["t"] == "intent" and line["subject"] < 20_000_000 for line in lines), "it adopted rows of the first"


@pytest.mark.parametrize("committed", [True, False])
def test_connection_lost_during_commit_is_decided_by_transaction_id(
    database: Database, server: Database, conn: Connection, run: Run, *, committed: bool
) -> None:
    """The server knows whether the COMMIT that nobody answered was done."""
    conn.execute("create role writer login superuser password 'writer-pass'")
    writer = Database(database.host, database.port, database.name, "writer", "writer-pass")
    plan = make_plan([SQL_OPERATIONS[0]])
    try:
        if committed:
            _make_commits_wait(server)
        else:
            conn.execute(
                "create function public.nap() returns trigger language plpgsql as "
                "'begin perform pg_sleep(60); return null; end'"
            )
            conn.execute(
                "create constraint trigger nap after insert on public.posts deferrable initially deferred "
                "for each row execute function public.nap()"
            )
        with LoadProcess(make_environment(database, app=writer), plan, run, "cut") as load:
            event = "SyncRep" if committed else "PgSleep"
            eventually(lambda: _count(conn, f"wait_event = '{event}'") >= 4)
            assert load.ledger_path is not None
            eventually(lambda: load.ledger_path.read_text().count('"t": "commit"') >= 4 if load.ledger_path else False)
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'writer'")
            eventually(lambda: '"unknown"' in load.ledger_path.read_text() if load.ledger_path else False)
            os.kill(load.pid or 0, signal.SIGKILL)
            eventually(lambda: not load.is_alive())
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'writer'")
        eventually(lambda: _count(conn, "usename = 'writer'") == 0)
    finally:
        _let_commits_go(server)
    got = reconcile(conn, plan, ledger_folder(run), BOTH, run.name)

    assert got.is_clean, got.to_dict()
    assert got.reconciled >= 4
    assert got.unknown == 0
    assert (count_marked(conn) >= 4) is committed
    if committed:
        conn.execute("delete from public.posts where body like 'lg:%' and id = (select max(id) from public.posts)")
        assert reconcile(conn, plan, ledger_folder(run), BOTH, run.name).relations[0].counts["lost_inserts"] == 1
    conn.execute("drop role writer")


def test_load_stops_when_its_parent_dies(database: Database, conn: Connection, run: Run, tmp_path: Path) -> None:
    """A killed engine leaves no load behind: the end of stdin is the end."""
    script = (
        "import sys, time\n"
        "from tests.postgres.load.test_load_sql import *\n"
        "database = Database(*json.loads(sys.stdin.readline()))\n"
        f"run = Run.open(Path({str(tmp_path)!r}), {run.name!r})\n"
        "load = LoadProcess(make_environment(database), PLAN, run, 'orphan').start()\n"
        "print(load.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        words = [database.host, database.port, database.name, database.user, database.password]
        parent.stdin.write(json.dumps(words) + "\n")
        parent.stdin.flush()
        child = int(parent.stdout.readline())
        eventually(lambda: count_marked(conn) > 10)
        commands = Path(f"/proc/{child}/cmdline").read_bytes() + Path(f"/proc/{child}/environ").read_bytes()
        assert database.password.encode() not in commands
        parent.kill()
    try:
        eventually(lambda: _count(conn, "application_name = 'pg-rehearsal load'") == 0)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise

    assert reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name).is_clean
    assert ended_well(summarize(ledger_folder(run))), "it came to its end in good order"
    secret = database.password.encode()
    assert not any(secret in path.read_bytes() for path in run.folder.rglob("*") if path.is_file())


def test_wrong_password_is_a_clear_error(database: Database, run: Run) -> None:
    """The generator says why it does not start, without the password."""
    wrong = Database(database.host, database.port, database.name, database.user, "not-the-password")

    with pytest.raises(StepFailed, match="password authentication failed") as caught:
        LoadProcess(make_environment(database, app=wrong), PLAN, run, "wrong").start()

    assert "not-the-password" not in str(caught.value)


def test_refused_statement_is_failed_with_its_sqlstate(database: Database, conn: Connection, run: Run) -> None:
    """An error of the server before COMMIT changes nothing, and the next operation goes on."""
    conn.execute("alter table public.posts_partitioned add check (body not like '%%0')")
    with LoadProcess(make_environment(database), PLAN, run, "refused") as load:
        conn.execute("alter table public.posts add constraint never check (body not like 'lg:%:2') not valid")
        eventually(lambda: count_marked(conn) > 30)
        os.kill(load.pid or 0, signal.SIGTERM)
        eventually(lambda: not load.is_alive())
        summary = load.stop()
    assert ended_well(summary), "SIGTERM is an end in good order"
    got = reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name)

    assert summary.writes.errors.get(psycopg.errors.CheckViolation.sqlstate or "", 0) > 0
    assert summary.writes.error_rate > 0
    assert got.failed > 0
    assert got.is_clean, got.to_dict()


def test_full_disk_ends_the_load_with_its_reason(
    database: Database, conn: Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written down is not sent; the summary says why the load ended."""
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "sys.argv[0:1] = ['load']; runpy.run_module('rehearsal.load', run_name='__main__')"
    )
    program = run.folder / "python"
    program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c {json.dumps(limited)} "$@"\n')
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(program))
        load = LoadProcess(make_environment(database), PLAN, run, "full").start()
    eventually(lambda: not load.is_alive())
    summary = load.stop()

    assert not summary.honest
    assert any("File too large" in reason or "only a part of a line" in reason for reason in summary.reasons), (
        summary.reasons
    )
    assert reconcile(conn, PLAN, ledger_folder(run), BOTH, run.name).is_clean


def _waiting(conn: Connection) -> int:
    return _count(conn, "wait_event_type = 'Lock'")


def _count(conn: Connection, condition: str) -> int:
    query = f"select count(*) from pg_stat_activity where datname = current_database() and {condition}"
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _make_commits_wait(server: Database) -> None:
    """Let the commits of `writer` alone wait for a standby that never comes."""
    with connect(server) as conn:
        conn.execute("alter role writer set synchronous_commit = 'on'")
        conn.execute("alter system set synchronous_commit = 'local'")
        conn.execute("select pg_reload_conf()")
        eventually(lambda: _setting(server, "synchronous_commit") == "local")
        conn.execute("alter system set synchronous_standby_names = 'nobody'")
        conn.execute("select pg_reload_conf()")
        eventually(lambda: _setting(server, "synchronous_standby_names") == "nobody")


def _let_commits_go(server: Database) -> None:
    with connect(server) as conn:
        conn.execute("set synchronous_commit = 'local'")
        conn.execute("alter system reset synchronous_standby_names")
        conn.execute("alter system reset synchronous_commit")
        conn.execute("select pg_reload_conf()")
        eventually(lambda: _setting(server, "synchronous_standby_names") == "")


def _setting(server: Database, name: str) -> str:
    with connect_as_application(server) as conn:
        row = conn.execute("select current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])
