"""Generated rows, on a real server."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from rehearsal.environment import Database
from rehearsal.errors import PlanError, PreconditionError
from rehearsal.plan.file import load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.synthetic.rows import check_distribution, make_data

ROOT = Path(__file__).resolve().parents[3]
ANCHOR = date(2026, 3, 10)
SCALE = 0.02
FOREIGN_KEYS = "select conrelid::regclass::text, conname from pg_constraint where contype = 'f'"


def plan_named(name: str) -> Plan:
    return load_plan(ROOT / "plans" / f"{name}.toml")


def digest(conn: Connection, table: str) -> str:
    query = sql.SQL("select sum(hashtextextended(t::text, 0)) from {} as t").format(sql.Identifier(*table.split(".")))
    return str(scalar(conn, query))


@pytest.fixture
def readings(conn: Connection, sql_files: SqlFiles) -> Plan:
    conn.execute(sql_files.query("migrations/sensor_readings/001_schema.sql"))
    return plan_named("sensor_readings")


@pytest.mark.parametrize("name", ["hospitality", "sensor_readings"])
def test_data_fills_every_table_in_range_and_with_valid_references(
    conn: Connection, sql_files: SqlFiles, name: str
) -> None:
    """Rows end at the anchor, months are even, indexes are back, and every foreign key would validate."""
    conn.execute(sql_files.query(f"migrations/{name}/001_schema.sql"))
    plan = plan_named(name)
    indexes = "select string_agg(indexdef, ';' order by indexdef) from pg_indexes where schemaname = 'public'"
    before = scalar(conn, indexes)
    steps: list[tuple[str, int, int]] = []

    made = make_data(conn, plan, scale=SCALE, anchor=ANCHOR, on_progress=lambda *step: steps.append(step))

    assert scalar(conn, indexes) == before
    for table in plan.tables:
        relation = sql.Identifier(*table.name.split("."))
        query = sql.SQL("select min({key})::date, max({key})::date from {table}")
        row = conn.execute(query.format(key=sql.Identifier(table.key), table=relation)).fetchone()
        assert row
        assert date(2025, 3, 10) <= row[0] <= date(2025, 3, 20)
        assert date(2026, 3, 5) <= row[1] < ANCHOR
    assert {made_rows.table: made_rows.rows for made_rows in made} == {
        table.name: round(table.rows * SCALE) if table.scaled else table.rows for table in plan.data.tables
    }
    assert steps[-1] == (made[-1].table, made[-1].rows, made[-1].rows)
    for relation, constraint in conn.execute(FOREIGN_KEYS).fetchall():
        # An unvalidated constraint is looked at again, row by row.
        conn.execute("update pg_constraint set convalidated = false where conname = %s", [constraint])
        conn.execute(f"alter table {relation} validate constraint {constraint}")
    months = check_distribution(conn, plan, scale=SCALE)
    # Twelve months that begin and end in the middle of one: eleven are full.
    assert len({month.month for month in months}) == 11
    assert all(month.rows > 0 for month in months)


def test_same_seed_makes_the_same_rows_and_another_seed_others(conn: Connection, readings: Plan) -> None:
    """A value depends on seed, table, column and row number, and on nothing else."""
    make_data(conn, readings, scale=0.001, anchor=ANCHOR)
    first = digest(conn, "public.sensor_readings")
    conn.execute("truncate public.sensor_readings")
    make_data(conn, readings, scale=0.001, anchor=ANCHOR)
    again = digest(conn, "public.sensor_readings")
    conn.execute("truncate public.sensor_readings")
    other = readings.model_copy(update={"data": readings.data.model_copy(update={"seed": 2})})
    make_data(conn, other, scale=0.001, anchor=ANCHOR)

    assert first == again
    assert digest(conn, "public.sensor_readings") != first


def test_second_run_leaves_the_rows_alone_and_the_sequence_is_past_them(conn: Connection, readings: Plan) -> None:
    """Nothing is made twice; the application's next row gets a free id."""
    make_data(conn, readings, scale=0.001, anchor=ANCHOR)
    row = "insert into public.sensor_readings (unit_id, device_id, temperature, recorded_at) values (1, 1, 4, now()) "
    assert scalar(conn, row + "returning id") == 1001
    before = digest(conn, "public.sensor_readings")

    made = make_data(conn, readings, scale=0.001, anchor=ANCHOR)

    assert [made_rows.made for made_rows in made] == [0, 0, 0]
    assert digest(conn, "public.sensor_readings") == before


def test_killed_run_leaves_the_table_as_it_was(database: Database, conn: Connection, readings: Plan) -> None:
    """A session that dies in the middle leaves no rows and every index; the next run makes all of it."""
    with connect(database, role="doomed") as doomed:

        def kill(table: str, done: int, _rows: int) -> None:
            if table == "public.sensor_readings" and done:
                conn.execute("select pg_terminate_backend(%s)", [doomed.info.backend_pid])

        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            make_data(doomed, readings, scale=0.15, anchor=ANCHOR, on_progress=kill)

    assert scalar(conn, "select count(*) from public.sensor_readings") == 0
    assert scalar(conn, "select count(*) from pg_indexes where tablename = 'sensor_readings'") == 4
    assert make_data(conn, readings, scale=0.001, anchor=ANCHOR)[-1].made == 1000


def test_lopsided_month_fails_the_distribution(conn: Connection, readings: Plan) -> None:
    """The check sees a month that lost half of its rows."""
    make_data(conn, readings, scale=0.1, anchor=ANCHOR)
    assert all(month.passed for month in check_distribution(conn, readings, scale=0.1))
    conn.execute(
        "delete from public.sensor_readings "
        "where id % 2 = 0 and recorded_at >= '2025-07-01' and recorded_at < '2025-08-01'"
    )

    failed = [month.month for month in check_distribution(conn, readings, scale=0.1) if not month.passed]

    assert failed == [date(2025, 7, 1)]


@pytest.mark.parametrize("scale", [0.002, 0.01, 0.02])
def test_few_rows_may_be_spread_less_evenly(conn: Connection, readings: Plan, scale: float) -> None:
    """Chance alone fails no month of a small rehearsal; a month with twice its rows still fails."""
    make_data(conn, readings, scale=scale, anchor=ANCHOR)
    assert [month for month in check_distribution(conn, readings, scale=scale) if not month.passed] == []
    conn.execute("alter sequence public.sensor_readings_id_seq restart with 10000000")
    conn.execute(
        "insert into public.sensor_readings (unit_id, device_id, temperature, recorded_at) "
        "select unit_id, device_id, 4, recorded_at from public.sensor_readings "
        "where recorded_at >= '2025-07-01' and recorded_at < '2025-08-01'"
    )

    failed = [month.month for month in check_distribution(conn, readings, scale=scale) if not month.passed]

    assert failed == [date(2025, 7, 1)]


def test_wrong_states_are_refused(conn: Connection, readings: Plan) -> None:
    """A table with some rows of somebody, a missing column, a missing table."""
    make_data(conn, readings, scale=0.001, anchor=ANCHOR)
    with pytest.raises(PreconditionError, match="has 1000 rows, neither none nor the 2000"):
        make_data(conn, readings, scale=0.002, anchor=ANCHOR)
    conn.execute("alter table public.sensor_readings drop column battery")
    with pytest.raises(PlanError, match="no column battery"):
        make_data(conn, readings, scale=0.001, anchor=ANCHOR)
    conn.execute("drop table public.sensor_readings")
    with pytest.raises(PreconditionError, match=r"public\.sensor_readings does not exist; apply"):
        make_data(conn, readings, scale=0.001, anchor=ANCHOR)
