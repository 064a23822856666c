"""Connections and locks, on a real server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.errors import LockNotAcquired, PreconditionError
from rehearsal.postgres.connection import Connection, advisory_lock, connect, scalar
from rehearsal.postgres.locks import LockPolicy, with_lock
from tests.waiting import eventually


def test_with_lock_gives_up_within_its_budget_and_names_the_blocker(database: Database, conn: Connection) -> None:
    """A reader that never ends costs the lock its budget, not an outage."""
    conn.execute("create table public.posts (id int)")
    with connect(database, autocommit=False, role="reader") as reader:
        reader.execute("select from public.posts")
        pid = reader.info.backend_pid

        with pytest.raises(LockNotAcquired) as caught:
            with_lock(
                conn,
                "lock posts",
                lambda c: c.execute("select 1"),
                lock=sql.SQL("lock table public.posts in access exclusive mode"),
                policy=LockPolicy(timeout_ms=30, max_timeout_ms=60, attempts=3),
            )

        assert any(f"pid {pid}" in blocker for blocker in caught.value.blockers)
        reader.rollback()

    _, report = with_lock(
        conn,
        "lock posts",
        lambda c: c.execute("select 1"),
        lock=sql.SQL("lock table public.posts in access exclusive mode"),
    )
    assert report.attempts == 1


def test_second_holder_of_an_advisory_lock_is_refused_by_name(database: Database, conn: Connection) -> None:
    """The message says who holds it; the lock is free again afterwards."""
    with connect(database, role="second") as second:
        with (
            advisory_lock(conn, "run"),
            pytest.raises(PreconditionError, match=f"pid {conn.info.backend_pid}"),
            advisory_lock(second, "run"),
        ):
            pass
        with advisory_lock(second, "run"):
            pass


def test_unreachable_server_is_named(database: Database) -> None:
    """The message says where and what to look at."""
    nowhere = Database("127.0.0.1", 1, database.name, "nobody")

    with pytest.raises(PreconditionError, match=r"127\.0\.0\.1:1"):
        connect(nowhere)


def test_a_blocker_is_named_though_older_transactions_are_open(database: Database, conn: Connection) -> None:
    """An older transaction that holds nothing is not in the way, and is not accused; who waited shows in the report."""
    conn.execute("create table public.posts (id int)")
    lock = sql.SQL("lock table public.posts in access exclusive mode")
    with (
        connect(database, autocommit=False, role="bystander") as bystander,
        connect(database, autocommit=False, role="reader") as reader,
    ):
        bystander.execute("select 1")
        reader.execute("select from public.posts")
        pids = [f"pid {session.info.backend_pid} " for session in (reader, bystander)]

        _, report = with_lock(
            conn,
            "lock posts",
            lambda c: c.execute("select 1"),
            lock=lock,
            policy=LockPolicy(timeout_ms=200),
            between=reader.rollback,
        )

    assert report.attempts == 2
    assert [blocker[: len(pids[0])] for blocker in report.blockers] == pids[:1]


def test_a_prepared_transaction_in_the_way_is_named(conn: Connection) -> None:
    """It has no session, so pg_stat_activity does not know it."""
    conn.execute("create table public.posts (id int)")
    conn.execute("begin; insert into public.posts values (1); prepare transaction 'left behind'")
    lock = sql.SQL("lock table public.posts in access exclusive mode")
    try:
        with pytest.raises(LockNotAcquired, match="prepared transaction"):
            with_lock(conn, "lock posts", str, lock=lock, policy=LockPolicy(timeout_ms=100, attempts=2))
    finally:
        conn.execute("rollback prepared 'left behind'")


def slow(seconds: float, statements: int, tries: list[int]) -> Callable[[Connection], None]:
    """Return work of so many statements that take so long each."""

    def work(held: Connection) -> None:
        tries.append(1)
        for _ in range(statements):
            held.execute("select pg_catalog.pg_sleep(%s)", [seconds])

    return work


@pytest.mark.parametrize(("seconds", "statements"), [(60, 1), (0.02, 3_000)], ids=["one-statement", "many"])
def test_work_that_is_too_slow_under_the_lock_is_not_tried_forever(
    conn: Connection, seconds: float, statements: int
) -> None:
    """Each try makes the application wait for `hold_ms`, however many statements: three are enough."""
    tries: list[int] = []

    with pytest.raises(LockNotAcquired, match="takes longer than hold_ms = 200 in"):
        with_lock(conn, "slow work", slow(seconds, statements, tries), policy=LockPolicy(hold_ms=200, attempts=40))

    assert len(tries) == 3
    assert scalar(conn, "select 1") == 1, "no cancel comes after the end"


def test_mutant_a_limit_for_each_statement_alone(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PostgreSQL has it: each statement is quick enough, and the application waits for all of them."""
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", lambda *_, **__: None)
    tries: list[int] = []
    with_lock(conn, "slow work", slow(0.02, 50, tries), policy=LockPolicy(hold_ms=200, attempts=40))
    assert tries == [1]


def test_a_cancel_of_somebody_else_is_not_called_slow(conn: Connection, database: Database) -> None:
    """A DBA who cancels us reads that he did."""
    cancel = "select pg_catalog.pg_cancel_backend(%s)"

    def work(held: Connection) -> None:
        with ThreadPoolExecutor() as pool, connect(database) as other:
            sleeping = pool.submit(held.execute, "select pg_catalog.pg_sleep(60)")
            # One that comes before the statement is lost.
            eventually(lambda: other.execute(cancel, [held.info.backend_pid]) and sleeping.done())
            sleeping.result()

    with pytest.raises(LockNotAcquired, match="due to user request"):
        with_lock(conn, "work", work, policy=LockPolicy(hold_ms=60_000))


@pytest.mark.slow
def test_what_with_lock_reported_survives_a_crash() -> None:
    """The commit under the lock waits for no disk; the lock function does, before it says that it is done."""
    base = Path(tempfile.mkdtemp(prefix="pgr-crash-"))
    base.chmod(0o711)
    cluster = Cluster(base)
    try:
        cluster.start(settings={"wal_writer_delay": "10s", "wal_writer_flush_after": "0"})
        server = Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())
        with connect(server) as conn:
            conn.execute("create table public.posts (id int)")
            lock = sql.SQL("lock table public.posts in access exclusive mode")
            seen: list[str] = []

            def work(held: Connection) -> None:
                held.execute("alter table public.posts rename to renamed")
                seen.append(scalar(held, "select current_setting('synchronous_commit')"))

            with_lock(conn, "rename", work, lock=lock)
            cluster.stop("immediate")
        cluster.start()
        with connect(server) as conn:
            assert scalar(conn, "select to_regclass('public.renamed') is not null")
        assert seen == ["off"]
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)
