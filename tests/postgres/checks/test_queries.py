"""Query comparison on a real server: pruning, indexes and speed are judged, and each defect is caught."""

from __future__ import annotations

import random

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.queries.compare import QueryResult, compare_queries, intervals, performance_results_text
from rehearsal.environment import Database
from rehearsal.errors import CannotSee, PlanError
from rehearsal.plan.model import Query
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

pytestmark = pytest.mark.alone

SCHEMA = """
create table public.readings (
    id bigint primary key, unit int not null, "At" timestamptz not null, value double precision
);
create index readings_at on public.readings (unit, "At");
create table public.units (id int primary key, name text);
insert into public.units select n, 'unit ' || n from generate_series(0, 19) as n;
create table public."readings %" (like public.readings, primary key (id, "At")) partition by range ("At");
create table public.readings_1 partition of public."readings %" for values from ('2026-01-01Z') to ('2026-02-01Z');
create table public.readings_2 partition of public."readings %" for values from ('2026-02-01Z') to ('2026-03-01Z');
create table public.readings_3 partition of public."readings %" for values from ('2026-03-01Z') to ('2026-04-01Z');
create table public.readings_4 partition of public."readings %" for values from ('2026-04-01Z') to ('2026-05-01Z');
create table public.readings_x partition of public."readings %" default;
insert into public.readings select n, n % 20, timestamptz '2026-01-01Z' + n * interval '500 seconds', n
from generate_series(0, 19999) as n;
insert into public."readings %" select * from public.readings;
create index readings_p_at on public."readings %" (unit, "At");
"""
RANGE = '"At" >= %(lower)s and "At" < %(upper)s'
WINDOW = Query(
    name="week",
    table="public.readings",
    sql=f"select r.*, u.name from {{readings}} as r join units as u on u.id = r.unit where unit = 7 and {RANGE}",
    window="7 days",
    index=True,
    max_slowdown=20,
)


@pytest.fixture
def readings(conn: Connection) -> Connection:
    """A database with a plain table and its partitioned twin, analysed."""
    conn.execute(SCHEMA)
    conn.execute("vacuum analyze")
    return conn


def one(database: Database, conn: Connection, files: SqlFiles, query: Query, runs: int = 15) -> QueryResult:
    """Compare one query."""
    catalog = Catalog(conn, files)
    tables = {"public.readings": (catalog.read(("public", "readings")), catalog.read(("public", "readings %")))}
    return compare_queries(database, files, [query], tables, runs=runs)[0]


def test_window_is_pruned_to_the_leaves_that_the_bounds_expect(
    database: Database, readings: Connection, sql_files: SqlFiles
) -> None:
    """Seven days before the newest key, 2026-04-26, are in one leaf, found by its index."""
    got = one(database, readings, sql_files, WINDOW)

    assert got.expected == got.after.executed == got.after.planned == {"readings_4"}
    assert (got.pruning_ok, got.index_ok, got.speed_ok) == (True, True, True)
    assert got.after.indexes == ("readings_4_unit_At_idx",)
    assert got.before.indexes == ("readings_at",)
    assert (got.leaves, got.runs) == (5, 15)
    assert 2 <= got.locked <= 6  # parent and one leaf with two indexes each: no other leaf
    assert got.speedup.low <= got.speedup.value <= got.speedup.high
    assert "1 of 5 partitions expected, 1 planned" in performance_results_text([got])


def test_month_is_counted_back_from_the_newest_one(
    database: Database, readings: Connection, sql_files: SqlFiles
) -> None:
    """A whole month is exactly its own leaf; the bound of the next one is not part of it."""
    sql = f"select count(*), sum(value) from {{readings}} where {RANGE}"
    got = one(database, readings, sql_files, Query(name="m", table="public.readings", sql=sql, month=2))

    assert (got.lower, got.upper) == ("2026-02-01 00:00:00+00", "2026-03-01 00:00:00+00")
    assert got.after.executed == got.expected == {"readings_2"}
    assert got.pruning_ok is True


def test_limit_may_stop_before_an_expected_leaf(database: Database, readings: Connection, sql_files: SqlFiles) -> None:
    """Never executed is not unpruned; and without a lower limit the default partition is expected too."""
    sql = 'select * from {readings} where "At" >= %(lower)s limit 3'
    query = Query(name="first", table="public.readings", sql=sql, window="40 days", max_slowdown=20)
    got = one(database, readings, sql_files, query)

    assert got.expected == {"readings_3", "readings_4", "readings_x"}
    assert got.after.skipped
    assert got.pruning_ok is True


def test_key_inside_a_function_is_not_pruned(database: Database, readings: Connection, sql_files: SqlFiles) -> None:
    """Mutant: the planner cannot see through date_trunc."""
    wrapped = WINDOW.sql.replace('"At" >=', "date_trunc('day', \"At\") >=").replace(
        '"At" <', "date_trunc('day', \"At\") <"
    )
    got = one(database, readings, sql_files, WINDOW.model_copy(update={"sql": wrapped}))

    assert got.pruning_ok is False
    assert len(got.after.executed) == 5
    unjudged = one(database, readings, sql_files, WINDOW.model_copy(update={"sql": wrapped, "pruned": False}))
    assert unjudged.pruning_ok is None


def test_dropped_index_is_noticed(database: Database, readings: Connection, sql_files: SqlFiles) -> None:
    """Mutant: the target lost its index; the other table's index does not count."""
    readings.execute("drop index public.readings_p_at")

    assert one(database, readings, sql_files, WINDOW).index_ok is False


def test_slow_target_is_noticed(database: Database, readings: Connection, sql_files: SqlFiles) -> None:
    """Mutant: reading the partitioned table costs milliseconds more a row."""
    readings.execute(
        "create function public.slow() returns boolean volatile language plpgsql as "
        "'begin perform pg_sleep(0.01); return true; end'"
    )
    readings.execute("create role plain login password 'secret'")
    readings.execute("grant select on all tables in schema public to plain")
    readings.execute('alter table public."readings %" enable row level security')
    readings.execute('create policy slow on public."readings %" using (public.slow())')
    plain = Database(database.host, database.port, database.name, "plain", "secret")
    sql = 'select * from {readings} where id = 19000 and "At" >= %(lower)s and "At" < %(upper)s'
    query = Query(name="one", table="public.readings", sql=sql, window="30 days")

    got = one(plain, readings, sql_files, query)

    assert got.speed_ok is False
    assert got.slower_ms.low > 5
    readings.execute("drop owned by plain; drop role plain")


def test_speed_is_judged_on_the_worse_end_of_the_interval() -> None:
    """A median that is twice as fast on few, noisy runs is no proof; on steady runs it is."""
    dice = random.Random(1)
    steady, _ = intervals([10.0] * 15, [4.0] * 15, dice)
    noisy, slower = intervals([10.0, 4, 10, 4, 10] * 3, [4.0, 10, 4, 10, 4] * 3, dice)

    assert (steady.low, steady.value, steady.high) == (0.6, 0.6, 0.6)
    assert noisy.value == 0.6
    assert noisy.low < 0 < noisy.high
    assert slower.low < 0 < slower.high


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from {revenues}", r"\{revenues\} is not a planned table"),
        ("select nothing from {readings}", "cannot be run as it is written"),
        ("with gone as (delete from {readings} returning 1) select * from gone", "writes"),
    ],
)
def test_bad_query_is_named(
    database: Database, readings: Connection, sql_files: SqlFiles, sql: str, message: str
) -> None:
    """The plan is wrong, and the message names the query."""
    with pytest.raises(PlanError, match=f"query bad.*{message}"):
        one(database, readings, sql_files, Query(name="bad", table="public.readings", sql=sql))


def test_empty_source_cannot_be_judged(database: Database, readings: Connection, sql_files: SqlFiles) -> None:
    """No rows, no range, no verdict."""
    readings.execute("truncate public.readings")

    with pytest.raises(CannotSee, match="is empty"):
        one(database, readings, sql_files, WINDOW)
