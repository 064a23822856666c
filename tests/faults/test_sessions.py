"""No setting of others decides what we mean: whatever role and database have set, acknowledged writes are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

import fleet.psql
from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.triggers import run_trigger_tests
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, RehearsalError, StepFailed
from rehearsal.evidence.run import Run
from rehearsal.postgres import locks, pinned
from rehearsal.postgres.connection import Connection, connect, connect_as_application, scalar
from rehearsal.postgres.locks import LockPolicy, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.detail import Split
from rehearsal.switchover.parity import compare
from rehearsal.switchover.strategies.attach.split import HistorySplit
from tests.fix_tables import deploy, difference, make_plan, make_switchover
from tests.writing import at_work

ISOLATION = "default_transaction_isolation"
OLD = {ISOLATION: "repeatable read"}
PATIENT = {"timeout_ms": 30_000, "max_timeout_ms": 30_000}
INSERT = 'insert into {} ("Created At", "unit id", amount, note) values (%s, 1, 5, %s)'
WAITING = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and application_name like 'pg-rehearsal%' and wait_event_type = 'Lock'
"""
ACTS = ["swap", "swap back", "synchronous", "attach back", "split"]


def set_for(conn: Connection, whose: str, settings: dict[str, str]) -> None:
    """Give the role (in this database alone) or the database defaults that hold from the next session on."""
    name, user = conn.info.dbname, conn.info.user
    place = {
        "role": sql.SQL("alter role {1} in database {0}").format(sql.Identifier(name), sql.Identifier(user)),
        "database": sql.SQL("alter database {0}").format(sql.Identifier(name)),
    }[whose]
    for setting, value in settings.items():
        conn.execute(place + sql.SQL(" set {} = {}").format(sql.Identifier(setting), sql.Literal(value)))


@contextmanager
def committed_while_waited_for(database: Database, table: Name, key: datetime, note: str) -> Iterator[None]:
    """Insert a row, and commit it once somebody of ours waits for a lock within the block."""
    writer = psycopg.connect(**database.conninfo(), autocommit=True)

    def commit_in_time(stop: threading.Event) -> None:
        with connect_as_application(database) as watch:
            while not stop.wait(0.01) and not scalar(watch, WAITING):
                pass
        writer.execute("commit")

    with writer:
        writer.execute("begin isolation level read committed read write")
        writer.execute(sql.SQL(INSERT).format(sql.Identifier(*table)), [key, note])
        with at_work(commit_in_time):
            yield


@dataclass(frozen=True)
class World:
    """One database with the events table, whose role or database has hostile defaults."""

    database: Database
    conn: Connection
    files: SqlFiles
    events: Name
    run: Run

    def act(self, what: str) -> tuple[Callable[[], object], datetime]:
        """Bring the table to where the act is due; return the act, and the key of the row that is written meanwhile."""
        strategy = {"swap": "swap", "swap back": "swap", "synchronous": "dual-write"}.get(what, "attach")
        plan = make_plan(strategy, locks=PATIENT)
        deploy(self.conn, self.files, plan)
        work = make_switchover(self.database, self.files, plan, self.run)
        work.prepare()
        if what in ("swap", "synchronous"):
            return work.switch, datetime(2026, 1, 20, tzinfo=UTC)
        work.switch()
        if what == "swap back":
            return work.roll_back, datetime(2026, 1, 20, tzinfo=UTC)
        split = Split.of_detail(state.read_migration(self.conn, self.events).detail)
        if what == "attach back":
            return work.roll_back, datetime.fromisoformat(split.until)
        history = HistorySplit(work)
        history.make_target(self.conn, split)
        history.copy()
        return history.split, datetime(2026, 1, 20, tzinfo=UTC)

    def notes(self, note: str) -> list[str]:
        """Return the tables, of all that ever had the name, that have the row."""
        live = sql.SQL("select count(*) from {} where note = %s")
        tables = [name for name in (self.events, (self.events[0], self.events[1] + "_old"),
                                    (self.events[0], self.events[1] + "_partitioned"))
                  if Catalog(self.conn, self.files).find(name)]  # fmt: skip
        return [".".join(name) for name in tables if scalar(self.conn, live.format(sql.Identifier(*name)), [note]) == 1]


@pytest.fixture
def world(database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run) -> World:
    """The events table on a database of its own."""
    return World(database, conn, sql_files, events, run)


def nothing_is_lost_at(world: World, what: str, whose: str, settings: dict[str, str]) -> None:
    """A row that is committed while the act waits for its lock is there afterwards."""
    set_for(world.conn, whose, settings)
    try:
        act, key = world.act(what)
        with committed_while_waited_for(world.database, world.events, key, "acknowledged"):
            act()
    except (RehearsalError, psycopg.Error) as exc:
        raise AssertionError(f"the {what} failed: {exc}") from exc
    assert ".".join(world.events) in world.notes("acknowledged"), f"the row was lost at the {what}"


@pytest.mark.fault("f02")
@pytest.mark.parametrize("what", ACTS)
def test_nothing_is_lost_where_the_role_has_repeatable_read(world: World, what: str) -> None:
    nothing_is_lost_at(world, what, "role", OLD)


@pytest.mark.fault("f02")
@pytest.mark.parametrize(
    ("whose", "settings"),
    [
        ("role", {ISOLATION: "serializable", "default_transaction_deferrable": "on"}),
        ("database", {ISOLATION: "repeatable read", "default_transaction_read_only": "on"}),
        ("database", {ISOLATION: "serializable"}),
    ],
)
def test_nothing_is_lost_at_a_swap_whatever_the_defaults(world: World, whose: str, settings: dict[str, str]) -> None:
    nothing_is_lost_at(world, "swap", whose, settings)


@pytest.mark.fault("f02", mutant=True)
@pytest.mark.parametrize("what", ["swap", "swap back", "attach back", "split"])
def test_a_session_with_the_roles_defaults_loses_the_row(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old behaviour: nothing but the look of values was pinned, and a lock's transaction was as the role has it."""
    kept = {
        setting: pinned.PINNED[setting] for setting in pinned.PINNED if not setting.startswith("default_transaction")
    }
    monkeypatch.setattr(pinned, "PINNED", kept)
    monkeypatch.setattr(locks, "FRESH", "set local application_name = 'pg-rehearsal mutant'")

    with pytest.raises(AssertionError, match=r"lost|failed"):
        nothing_is_lost_at(world, what, "role", OLD)


@pytest.mark.fault("f02")
def test_no_snapshot_under_a_lock_is_older_than_the_lock(world: World) -> None:
    """Not even in a session that came to another isolation level by itself."""
    world.conn.execute("set default_transaction_isolation = 'serializable'")
    world.conn.execute("set default_transaction_read_only = on")
    lock = sql.SQL("lock table {} in share mode").format(sql.Identifier(*world.events))
    count = sql.SQL("select count(*) from {} where note = 'late'").format(sql.Identifier(*world.events))

    with committed_while_waited_for(world.database, world.events, datetime(2026, 1, 20, tzinfo=UTC), "late"):
        policy = LockPolicy(timeout_ms=30_000, max_timeout_ms=30_000)
        seen, _ = with_lock(world.conn, "a look", lambda held: scalar(held, count), lock=lock, policy=policy)

    assert seen == 1


@pytest.mark.fault("f02")
def test_a_lock_within_a_transaction_is_refused(conn: Connection) -> None:
    """Its snapshot may be older than the lock."""
    with conn.transaction(), pytest.raises(StepFailed, match="within a transaction"):
        with_lock(conn, "a swap", lambda _held: None)


# ── everything else that a role or a database may have set ──────────────────────────────────────────────────────────

HOSTILE = {
    "words": {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "IntervalStyle": "sql_standard",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
        "xmloption": "document",
        "quote_all_identifiers": "on",
        "client_encoding": "LATIN1",
        "client_min_messages": "error",
    },
    "meaning": {
        "search_path": "hostile, pg_catalog",
        "standard_conforming_strings": "off",
        "escape_string_warning": "off",
        "array_nulls": "off",
        "transform_null_equals": "on",
        "gin_fuzzy_search_limit": "1",
        "check_function_bodies": "off",
        "row_security": "on",
        "session_replication_role": "replica",
        "synchronous_commit": "off",
    },
    "limits": {
        "statement_timeout": "1",
        "lock_timeout": "1",
        "idle_in_transaction_session_timeout": "1",
        "idle_session_timeout": "1",
        "role": "nobody_at_all",
        ISOLATION: "serializable",
        "default_transaction_read_only": "on",
    },
    "plans": {
        "enable_seqscan": "off",
        "enable_partition_pruning": "off",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
        "default_statistics_target": "1",
        "work_mem": "64kB",
    },
}
# Functions that would be taken instead of PostgreSQL's own, were the path another.
SHADOWS = """
create schema hostile;
create function hostile.count(x anyelement) returns bigint language sql as 'select 0::bigint';
create function hostile.format(text, text, text) returns text language sql as 'select ''x''';
create table hostile.pg_class (oid oid);
"""


def there_and_back(world: World, settings: dict[str, str]) -> None:
    """A swap and its way back leave the rows as they were, under these defaults of role and database."""
    content = sql.SQL("select md5(string_agg(t::text, '|' order by id)) from {} as t").format(
        sql.Identifier(*world.events)
    )
    before = scalar(world.conn, content)
    world.conn.execute(SHADOWS)
    late = {"transaction_timeout": "1"} if world.conn.info.server_version >= 170000 else {}
    set_for(world.conn, "database", settings)
    set_for(world.conn, "role", settings | (late if "lock_timeout" in settings else {}))
    plan = make_plan("swap")
    try:
        with connect(world.database) as own:
            deploy(own, world.files, plan)
        work = make_switchover(world.database, world.files, plan, world.run)
        work.prepare()
        work.switch()
        catalog = Catalog(world.conn, world.files)
        live, retired = (catalog.read(name) for name in (world.events, work.names.retired))
        report = compare(world.database, world.files, retired, live, "Created At", self_test=False)
        during = scalar(world.conn, content)
        work.roll_back()
    except (RehearsalError, psycopg.Error, NotImplementedError) as exc:
        raise AssertionError(f"it failed: {exc}") from exc
    assert report.is_equal
    assert before == during == scalar(world.conn, content)
    assert difference(world.conn, world.events, work.names.target) == (0, 0)


@pytest.fixture
def nobody(server: Database) -> Iterator[None]:
    """A role that may do nothing, and that a login may be told to become."""
    with connect(server) as conn:
        conn.execute("create role nobody_at_all")
    yield
    with connect(server) as conn:
        conn.execute("drop role nobody_at_all")


@pytest.mark.fault("f02")
@pytest.mark.parametrize("kind", list(HOSTILE))
@pytest.mark.usefixtures("nobody")
def test_a_swap_and_its_way_back_under_hostile_defaults(world: World, kind: str) -> None:
    there_and_back(world, HOSTILE[kind])


@pytest.mark.fault("f02", mutant=True)
@pytest.mark.parametrize("kind", ["words", "limits"])
@pytest.mark.usefixtures("nobody")
def test_what_is_not_pinned_decides(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {setting: pinned.PINNED[setting] for setting in pinned.PINNED if setting not in HOSTILE[kind]}
    monkeypatch.setattr(pinned, "PINNED", kept)
    monkeypatch.setattr(pinned, "PINNED_SINCE", {})

    with pytest.raises((AssertionError, PreconditionError)):
        there_and_back(world, HOSTILE[kind])


@pytest.mark.fault("f02")
def test_the_shells_variables_change_no_session(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent by libpq, these travel apart from `options`, and they beat it."""
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=hostile -c statement_timeout=1")

    with connect(database) as conn:
        for name, value in pinned.PINNED.items():
            # The server has its own way to write a role that is none, and a list.
            assert conn.execute("select current_setting(%s)", [name]).fetchone() == (value,), name


@pytest.mark.fault("f02")
def test_a_role_that_replicates_and_may_not_stop_is_refused_by_name(database: Database, conn: Connection) -> None:
    conn.execute("create role replica_only login password 'x'")
    try:
        conn.execute("alter role replica_only set session_replication_role = replica")
        with pytest.raises(PreconditionError, match="role replica_only has session_replication_role = replica"):
            connect(Database(database.host, database.port, database.name, "replica_only", "x"))
    finally:
        conn.execute("drop role replica_only")


def test_psql_of_the_hosts_has_the_same_settings() -> None:
    """The layers do not import each other; this is where they agree."""
    assert fleet.psql.PINNED == pinned.PINNED
    assert fleet.psql.pinned_environ() == pinned.pinned_environ()


def test_the_application_s_session_has_the_application_s_defaults(database: Database, conn: Connection) -> None:
    set_for(conn, "role", OLD | {"TimeZone": "Asia/Tokyo", "lock_timeout": "7s"})
    with connect_as_application(database) as own:
        row = own.execute(
            "select current_setting('default_transaction_isolation'), current_setting('TimeZone'), "
            "current_setting('lock_timeout'), current_setting('search_path')"
        ).fetchone()
    assert row == ("repeatable read", "Asia/Tokyo", "7s", '"$user", public')


PLAYED = {
    "array_nulls": "off",
    "TimeZone": "Asia/Tokyo",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
}


@pytest.mark.fault("f02")
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_trigger_tests_write_as_the_application_does(
    conn: Connection, sql_files: SqlFiles, events: Name, strategy: str
) -> None:
    """Harmless defaults of its role pass; one that switches the mirror off is a FAIL."""
    plan, user = make_plan(strategy), conn.info.user
    set_for(conn, "role", PLAYED)
    played = run_trigger_tests(conn, sql_files, plan, plan.tables[0], events, application=user)
    assert {result.name: result.observed for result in played if result.passed is not True} == {}
    set_for(conn, "database", {"rehearsal.applying": "on"})
    found = run_trigger_tests(conn, sql_files, plan, plan.tables[0], events, application=user)
    # A key log asks no setting of the session; only the synchronous mirrors could be switched off by one.
    assert bool([result.name for result in found if result.passed is False]) is (strategy == "dual-write")
    pinned_only = run_trigger_tests(conn, sql_files, plan, plan.tables[0], events)
    assert [result.name for result in pinned_only if result.passed is False] == []
