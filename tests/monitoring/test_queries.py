"""What the exporter asks, asked as the role that monitors: by bounds of every type, with our state and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from rehearsal.environment import Database
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.policy import Wish, write_policy
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.monitoring.conftest import watched_database
from tests.monitoring.watched import MONITOR, queries, run_sql

UTC = "(now() at time zone 'utc')"
V7 = "rpad(lpad(to_hex(((extract(epoch from now()) + {} * 86400) * 1000)::bigint), 12, '0'), 32, '0')::uuid"


def ask(database: Database, name: str) -> list[dict[str, Any]]:
    """Return the rows of a query, as the role that monitors gets them; nothing may be waited for."""
    place = replace(database, user="monitor", password="m@n")
    with psycopg.connect(**place.conninfo(), autocommit=True, row_factory=dict_row) as conn:
        conn.execute("set lock_timeout = '50ms'")
        return conn.execute(as_query(queries()[name])).fetchall()


@pytest.fixture(autouse=True)
def monitor(database: Database) -> None:
    """The role that monitors."""
    run_sql(database, MONITOR)


@pytest.fixture
def bare(server: Database) -> Iterator[Database]:
    """A database in which nothing of ours is."""
    with watched_database(server, "template0") as database:
        yield database


def test_a_database_of_somebody_else_is_seen_and_no_query_fails(bare: Database) -> None:
    run_sql(
        bare,
        "create table t (id int) partition by hash (id)",
        "create table t_0 partition of t for values with (modulus 1, remainder 0)",
    )
    found = {name: ask(bare, name) for name in queries()}
    assert [(row["parent"], row["leaves"], row["runway_days"]) for row in found["pg_rehearsal_partitions"]] == [
        ("public.t", 1, None)
    ]
    assert found["pg_rehearsal_waits"] == [{"datname": bare.name, "sessions": 0, "longest_s": 0}]
    assert found["pg_rehearsal_lifecycle"] == found["pg_rehearsal_change_log"] == found["pg_rehearsal_sequences"] == []


def test_a_registry_that_may_not_be_read_is_left_out(conn: Connection, database: Database, sql_files: SqlFiles) -> None:
    """Installed by an earlier version, or a grant was taken back: no error, no row."""
    install_code(conn, sql_files)
    conn.execute("revoke usage on schema rehearsal from pg_monitor")
    assert all(ask(database, name) == [] for name in ("pg_rehearsal_lifecycle", "pg_rehearsal_sequences"))


@pytest.mark.parametrize(
    ("key", "bounds", "days"),
    [
        ("timestamptz", ["now() - interval '1 day'", "now() + interval '9 days 1 hour'"], 9),
        ("timestamp", [f"{UTC} - interval '1 day'", f"{UTC} + interval '9 days 1 hour'"], 9),
        ("date", ["date '2020-01-01'", f"{UTC}::date + 10"], 9),
        ("uuid", [V7.format(-1), V7.format(9.1)], 9),
        ("uuid", ["rpad('4', 32, '0')::uuid", "rpad('8', 32, '0')::uuid"], None),
        ("bigint", ["1", "1000"], None),
        ("timestamptz", ["now() - interval '9 days'", "now() - interval '1 day'"], 0),
        ("timestamptz", ["now() + interval '1 day'", "now() + interval '9 days'"], 0),
    ],
)  # fmt: skip
def test_the_runway_is_told_by_real_bounds(database: Database, key: str, bounds: list[str], days: int | None) -> None:
    """Whatever the style of dates and the zone of the session that asks are; a name says nothing."""
    run_sql(
        database,
        f'create table "T ä" (k {key}) partition by range (k)',
        "do $$ begin execute format('create table t_y1999 partition of \"T ä\" for values from (%L) to (%L)', "
        f"{bounds[0]}, {bounds[1]}); end $$",
        "alter role monitor set datestyle = 'SQL, DMY'",
        "alter role monitor set timezone = 'Asia/Kathmandu'",
    )
    try:
        (row,) = ask(database, "pg_rehearsal_partitions")
    finally:
        run_sql(database, "alter role monitor reset datestyle", "alter role monitor reset timezone")
    assert row["parent"] == 'public."T ä"'
    assert (row["runway_days"] if row["runway_days"] is None else int(row["runway_days"])) == days


def test_bounds_without_a_limit(database: Database) -> None:
    run_sql(
        database,
        "create table t (k timestamptz) partition by range (k)",
        "create table t_a partition of t for values from (minvalue) to ('2026-01-01')",
        "create table t_b partition of t for values from ('2026-01-01') to (maxvalue)",
        "create table u (k date) partition by range (k)",
        "create table u_a partition of u for values from ('2026-01-01') to ('infinity')",
    )
    assert [row["runway_days"] for row in ask(database, "pg_rehearsal_partitions")] == [float("inf")] * 2


def test_partitions_of_all_levels_count_for_the_table(database: Database) -> None:
    """Rows, bytes, TOAST, and what is in a DEFAULT partition below another level."""
    run_sql(
        database,
        "create table t (k date, body text) partition by range (k)",
        "alter table t alter body set storage external",
        "create table t_a partition of t for values from ('2026-01-01') to ('2027-01-01') partition by list (body)",
        "create table t_a_x partition of t_a for values in ('x')",
        "create table t_a_rest partition of t_a default",
        "create index on t (k)",
        "insert into t select '2026-05-05', repeat('y', 9000) from generate_series(1, 20)",
        "insert into t values ('2026-05-05', 'x')",
    )
    run_sql(database, "vacuum analyze t")
    (row,) = ask(database, "pg_rehearsal_partitions")
    assert (row["leaves"], row["rows"], row["default_rows"]) == (2, 21, 20)
    assert row["bytes"] > row["toast_bytes"] > 180_000 > row["default_bytes"] > 0


def test_no_lock_is_waited_for(conn: Connection, database: Database, sql_files: SqlFiles) -> None:
    """Somebody holds everything of a table exclusively: every query answers all the same."""
    run_sql(database, "create table t (id int generated always as identity, k timestamptz) partition by range (k)")
    run_sql(database, "create table t_a partition of t for values from ('2026-01-01') to ('2026-02-01')")
    install_code(conn, sql_files)
    write_policy(conn, "watched", Wish(("public", "t"), "1 month", 3, "1 month"))
    with conn.transaction():
        conn.execute("lock table public.t in access exclusive mode")
        found = {name: ask(database, name) for name in queries()}
    assert [row["parent"] for row in found["pg_rehearsal_lifecycle"]] == ["public.t"]
    assert found["pg_rehearsal_partitions"][0]["leaves"] == 1


def test_keys_that_count_are_judged_by_what_is_filled(
    conn: Connection, database: Database, sql_files: SqlFiles
) -> None:
    """Whoever monitors reads no row: leaves behind the last one with rows are ahead."""
    run_sql(database, "create table t (k bigint) partition by range (k)")
    for start in (0, 100, 200, 300):
        run_sql(database, f"create table t_{start} partition of t for values from ({start}) to ({start + 100})")
    install_code(conn, sql_files)
    write_policy(conn, "watched", Wish(("public", "t"), "100", 2, "1000"))
    run_sql(database, "insert into t values (150)")
    (row,) = ask(database, "pg_rehearsal_lifecycle")
    assert (row["ahead"], row["wanted"], row["runway_days"], row["lag_days"], row["unclear"]) == (2, 2, None, None, 0)


def test_an_epoch_is_a_time_where_the_policy_says_so(conn: Connection, database: Database, sql_files: SqlFiles) -> None:
    run_sql(database, "create table t (k bigint) partition by range (k)")
    run_sql(
        database,
        """
        do $$ declare day bigint := (extract(epoch from now()))::bigint / 86400; begin
            for i in -3..2 loop
                execute format('create table t_%s partition of t for values from (%s) to (%s)',
                               i + 3, (day + i) * 86400, (day + i + 1) * 86400);
            end loop;
        end $$
        """,
    )
    install_code(conn, sql_files)
    write_policy(conn, "watched", Wish(("public", "t"), "1 day", 2, "1 day", epoch="s"))
    (row,) = ask(database, "pg_rehearsal_lifecycle")
    assert (row["ahead"], int(row["runway_days"]), int(row["lag_days"])) == (2, 2, 1)


def test_only_percentages_of_adopted_tables_are_told_of_sequences(
    conn: Connection, database: Database, sql_files: SqlFiles
) -> None:
    """The one function with its owner's rights can be called by those who monitor, and by nobody else."""
    run_sql(database, "create table t (id int generated always as identity, k date) partition by range (k)")
    run_sql(database, "create table t_a partition of t for values from ('2026-01-01') to ('2026-02-01')")
    run_sql(database, "create table other (id int generated always as identity, k date) partition by range (k)")
    run_sql(database, "select setval('t_id_seq', 1073741824), setval('other_id_seq', 7)")
    install_code(conn, sql_files)
    write_policy(conn, "watched", Wish(("public", "t"), "1 month", 2))
    (row,) = ask(database, "pg_rehearsal_sequences")
    assert (row["parent"], row["sequence"], round(row["used_percent"])) == ("public.t", "public.t_id_seq", 50)
    allowed = "select has_function_privilege(%s, 'rehearsal.lifecycle_sequences()', 'execute')"
    assert [scalar(conn, allowed, [role]) for role in ("monitor", "pg_read_all_data")] == [True, False]
