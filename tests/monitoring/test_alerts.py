"""Every alert is made to fire by its real cause and to clear: from the database to whoever Alertmanager tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from rehearsal.application.monitoring import ask_prometheus
from rehearsal.application.rules import SHIPPED
from rehearsal.lifecycle.policy import Wish, write_policy
from rehearsal.postgres.connection import connect
from tests.monitoring.watched import RULES, Watched, rule_names, run_sql
from tests.waiting import eventually

pytestmark = [pytest.mark.slow]

TABLE = """
create table {0} (id integer generated always as identity, at timestamptz not null, body text)
partition by range (at)
"""


def month(number: int) -> str:
    """Return the start of a month, so many from now, as SQL."""
    return f"date_trunc('month', now() at time zone 'utc') at time zone 'utc' + interval '{number} months'"


def make(world: Watched, name: str, months: range, *more: str) -> None:
    """Make a table with leaves for months around now."""
    leaves = [
        f"do $$ begin execute format('create table public.{name}_m{number - months.start} partition of public.{name} "
        f"for values from (%L) to (%L)', {month(number)}, {month(number + 1)}); end $$"
        for number in months
    ]
    run_sql(world.database, "set timezone = 'UTC'", TABLE.format(f"public.{name}"), *leaves, *more)


def adopt(world: Watched, name: str, retention: str | None = None) -> None:
    """Let lifecycle look after it: monthly, three ahead."""
    with connect(world.database) as conn, conn.transaction():
        write_policy(conn, "watched", Wish(("public", name), "1 month", 3, retention))


def forget(world: Watched, name: str) -> None:
    """Drop a table and forget it."""
    run_sql(
        world.database,
        f"delete from rehearsal.lifecycle_policy where parent = to_regclass('public.{name}')",
        f"drop table public.{name}",
    )


@contextmanager
def adopted(world: Watched, name: str, months: range, *more: str, retention: str | None = None) -> Iterator[str]:
    """A table that lifecycle looks after, for the block; yield its name as alerts say it."""
    make(world, name, months, *more)
    adopt(world, name, retention)
    try:
        yield f"public.{name}"
    finally:
        forget(world, name)


def run_lifecycle(world: Watched, *parts: str) -> None:
    """Do as the clock without Python does; what other tables have to complain of is none of ours."""
    for part in parts:
        with suppress(psycopg.errors.RaiseException):
            run_sql(world.database, f"call rehearsal.lifecycle_run('{part}', now())")


def test_every_shipped_alert_is_made_to_fire_here() -> None:
    """Completeness: an alert needs its cause below, and the gate asks for it."""
    here = Path(__file__).read_text(encoding="utf-8")
    caused = {name for name in rule_names() if f'"{name}"' in here}
    assert caused == set(rule_names()) == set(SHIPPED)


def test_rows_in_the_default_partition(watched: Watched) -> None:
    make(watched, "filled", range(-1, 3), "create table public.filled_rest partition of public.filled default")
    run_sql(watched.database, "insert into public.filled (at) values ('2090-01-01')")
    watched.wait_for("DefaultPartitionHasRows", "firing", parent="public.filled", datname=watched.database.name)
    run_sql(watched.database, "delete from public.filled")
    watched.wait_for("DefaultPartitionHasRows", "resolved", parent="public.filled")
    run_sql(watched.database, "drop table public.filled")


def test_no_partition_ahead_of_an_adopted_table(watched: Watched) -> None:
    """Both alerts of partitions ahead; premake takes both away."""
    with adopted(watched, "short", range(-2, 1)) as parent:
        watched.wait_for("NoPartitionForTheFuture", "firing", parent=parent)
        watched.wait_for("FewerPartitionsAheadThanWanted", "firing", parent=parent)
        run_lifecycle(watched, "premake")
        watched.wait_for("NoPartitionForTheFuture", "resolved", parent=parent)
        watched.wait_for("FewerPartitionsAheadThanWanted", "resolved", parent=parent)


def test_no_partition_ahead_of_a_table_that_is_not_adopted(watched: Watched) -> None:
    """A gap right after now counts, whatever lies behind it."""
    make(watched, "alone", range(-1, 3))
    run_sql(watched.database, "alter table public.alone detach partition public.alone_m1")
    watched.wait_for("NoPartitionForTheFuture", "firing", parent="public.alone")
    run_sql(
        watched.database,
        f"do $$ begin execute format('alter table public.alone attach partition public.alone_m1 for values from (%L) "
        f"to (%L)', {month(0)}, {month(1)}); end $$",
    )
    watched.wait_for("NoPartitionForTheFuture", "resolved", parent="public.alone")
    run_sql(watched.database, "drop table public.alone")


def test_a_partition_past_its_retention(watched: Watched) -> None:
    """Retention takes it away."""
    more = (
        "create table public.late_rest partition of public.late default",
        "insert into public.late (at) values (now())",
    )
    with adopted(watched, "late", range(-6, 5), *more, retention="2 months") as parent:
        watched.wait_for("RetentionLags", "firing", parent=parent)
        for _night in (1, 2):  # at most three partitions go in one
            run_lifecycle(watched, "retain", "finish")
        assert not watched.ask(f'pg_rehearsal_lifecycle_unclear{{parent="{parent}"}} > 0')
        watched.wait_for("RetentionLags", "resolved", parent=parent)


def test_a_detachment_that_was_interrupted(watched: Watched, session: psycopg.Connection) -> None:
    make(watched, "pending", range(-2, 4))
    with session.transaction():
        session.execute("select count(*) from public.pending")
        with pytest.raises(psycopg.errors.QueryCanceled):
            run_sql(
                watched.database,
                "set statement_timeout = '500ms'",
                "alter table public.pending detach partition public.pending_m0 concurrently",
            )
        watched.wait_for("DetachIsPending", "firing", parent="public.pending")
    run_sql(watched.database, "alter table public.pending detach partition public.pending_m0 finalize")
    watched.wait_for("DetachIsPending", "resolved", parent="public.pending")
    run_sql(watched.database, "drop table public.pending, public.pending_m0")


def test_a_change_log_that_nobody_replays(watched: Watched) -> None:
    """A session of ours at work takes it away as well as an empty log."""
    log = "rehearsal.log_forward_public_x"
    run_sql(watched.database, f"create table {log} (id bigint)", f"insert into {log} select generate_series(1, 100001)")
    watched.wait_for("ChangeLogGrows", "firing", log=log)
    with connect(watched.database, role="replay"):
        watched.wait_for("ChangeLogGrows", "resolved", log=log)
    watched.wait_for("ChangeLogGrows", "firing", log=log)
    run_sql(watched.database, f"delete from {log}")
    watched.wait_for("ChangeLogGrows", "resolved", log=log)
    run_sql(watched.database, f"drop table {log}")


@pytest.mark.parametrize(
    ("alert", "act", "parts"),
    [("PremakeDoesNotSucceed", "premake", ("premake",)), ("RetainDoesNotSucceed", "retain", ("retain", "finish"))],
)
def test_a_job_that_did_not_end_well_for_days(watched: Watched, alert: str, act: str, parts: tuple[str, ...]) -> None:
    """A run that has nothing to do takes it away, one that fails does not."""
    more = ("insert into public.idle (at) values (now())",)
    with adopted(watched, "idle", range(-1, 5), *more, retention="9 months") as parent:
        run_sql(watched.database, "update rehearsal.lifecycle_policy set adopted_at = now() - interval '3 days'")
        watched.wait_for(alert, "firing", parent=parent)
        run_sql(watched.database, f"select rehearsal.lifecycle_ended('{parent}', '{act}', false)")
        assert watched.ask(f'ALERTS{{alertname="{alert}",parent="{parent}"}}')
        run_lifecycle(watched, *parts)
        watched.wait_for(alert, "resolved", parent=parent)


def test_a_table_that_was_dropped_under_its_policy(watched: Watched) -> None:
    """It cannot be judged; forgetting it takes the alert away, and the others are still seen meanwhile."""
    with adopted(watched, "seen", range(-1, 5)):
        make(watched, "gone", range(-1, 5))
        adopt(watched, "gone")
        run_sql(watched.database, "drop table public.gone")
        watched.wait_for("AdoptedTableUnclear", "firing")
        assert watched.ask('pg_rehearsal_lifecycle_ahead{parent="public.seen"} >= 0')
        run_sql(
            watched.database,
            "delete from rehearsal.lifecycle_policy where parent::oid not in (select oid from pg_class)",
        )
        watched.wait_for("AdoptedTableUnclear", "resolved")


def test_sessions_that_wait_for_a_lock(watched: Watched, session: psycopg.Connection) -> None:
    """And while an exclusive lock is held, every query of the exporter still answers."""
    make(watched, "held", range(-1, 4))
    with session.transaction():
        session.execute("lock table public.held in access exclusive mode")
        waiter = threading.Thread(target=run_sql, args=(watched.database, "select count(*) from public.held"))
        waiter.start()
        watched.wait_for("SessionsWaitForLocks", "firing", datname=watched.database.name)
        assert watched.ask('pg_rehearsal_partitions_leaves{parent="public.held"} == 5')
        assert watched.ask("pg_exporter_last_scrape_error == 0")
    waiter.join(30)
    watched.wait_for("SessionsWaitForLocks", "resolved")
    run_sql(watched.database, "drop table public.held")


def test_a_sequence_that_ends_soon(watched: Watched) -> None:
    """Of an integer column, read by a role that may not read the sequence."""
    with adopted(watched, "counted", range(-1, 5)) as parent:
        run_sql(watched.database, "select setval('public.counted_id_seq', 2000000000)")
        watched.wait_for("SequenceNearItsEnd", "firing", parent=parent, sequence="public.counted_id_seq")
        run_sql(watched.database, "select setval('public.counted_id_seq', 1)")
        watched.wait_for("SequenceNearItsEnd", "resolved", parent=parent)


def test_the_gate_is_content_with_the_rules_as_they_are_shipped(watched: Watched) -> None:
    """A real Prometheus with their own waits."""
    with shipped_rules(watched, RULES.read_text("utf-8")):
        eventually(lambda: ask_prometheus(watched.url), 60, that=lambda found: found.passed is True)


@pytest.mark.parametrize(
    ("said", "old", "new"),
    [
        ("DefaultPartitionHasRows is not as shipped", "default_rows > 0", "default_rows > 1000000"),
        ("DetachIsPending is not as shipped", "for: 10m", "for: 10d"),
        ("RetentionLags is missing", "alert: RetentionLags", "alert: Renamed"),
        ("TargetDown is err", "expr: up == 0", "expr: up * on (nothing) group_left up == 0"),
    ],
)
def test_the_gate_finds_a_rule_that_is_missing_altered_or_broken(
    watched: Watched, said: str, old: str, new: str
) -> None:
    """The mutants; one that the inventory calls altered is let pass."""
    text = RULES.read_text("utf-8")
    assert old in text
    with shipped_rules(watched, text.replace(old, new)):
        found = eventually(lambda: ask_prometheus(watched.url), 60, that=lambda found: said in found.observed)
        assert found.passed is False
        if "not as shipped" in said:
            name = said.partition(" ")[0]
            eventually(lambda: ask_prometheus(watched.url, altered=(name,)).passed, 60)


def test_the_gate_finds_that_nobody_is_told(watched: Watched) -> None:
    """Alertmanager is down: a target that is down, and no alert arrives anywhere."""
    watched.stop("alertmanager")
    try:
        found = eventually(lambda: ask_prometheus(watched.url), 60, that=lambda found: "alertmanager" in found.observed)
        assert found.passed is False
    finally:
        watched.start_alertmanager()


@contextmanager
def shipped_rules(world: Watched, text: str) -> Iterator[None]:
    """Let Prometheus have these rules for the block, with their own waits."""
    world.stop("prometheus")
    world.start_prometheus(rules=text)
    try:
        yield
    finally:
        world.stop("prometheus")
        world.start_prometheus()


def test_an_exporter_that_is_down(watched: Watched) -> None:
    watched.stop("exporter")
    try:
        watched.wait_for("TargetDown", "firing", job="database")
    finally:
        watched.start_exporter()
    watched.wait_for("TargetDown", "resolved", job="database")


def test_a_database_that_refuses_the_exporter(watched: Watched) -> None:
    """The exporter tries for a second before it says so, and must have the time."""
    watched.stop("prometheus")
    watched.start_prometheus("4s")
    run_sql(
        watched.database,
        "alter role monitor nologin",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'monitor'",
    )
    try:
        watched.wait_for("DatabaseDown", "firing")
    finally:
        run_sql(watched.database, "alter role monitor login")
    watched.wait_for("DatabaseDown", "resolved")
    watched.stop("prometheus")
    watched.start_prometheus()


def test_a_query_that_fails(watched: Watched) -> None:
    """Somebody takes a grant back: what is not seen is told."""
    run_sql(watched.database, "revoke select on rehearsal.lifecycle_policy from pg_monitor")
    try:
        watched.wait_for("ExporterCannotQuery", "firing")
    finally:
        run_sql(watched.database, "grant select on rehearsal.lifecycle_policy to pg_monitor")
    watched.wait_for("ExporterCannotQuery", "resolved")
