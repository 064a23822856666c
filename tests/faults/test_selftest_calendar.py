"""The self-test of parity on every date: days that are complete, months that just began or end, leap days.

The rows are those that the shipped plans make on that date, few of them; the partitioned tables are as the plans want
them, with their unique constraints, which once left no day of a month to move a row to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import rehearsal.switchover.parity
from rehearsal.catalog.tables import Catalog, Name, split_name
from rehearsal.environment import Database
from rehearsal.plan.file import load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.parity import compare
from rehearsal.switchover.parity.pair import Pair
from rehearsal.synthetic.rows import make_data

ROOT = Path(__file__).resolve().parents[2]
FIRST, LAST = date(2026, 11, 1), date(2028, 12, 31)
DATES = [FIRST + timedelta(days=day) for day in range((LAST - FIRST).days + 1)]
MONTHS = sorted({(date.year, date.month) for date in DATES})
# Months of each length, last days and first days, and those on which a comparison once could not prove itself.
SAMPLE = [
    date(2026, 11, 27), date(2026, 11, 30), date(2026, 12, 31), date(2027, 1, 1), date(2027, 2, 27), date(2027, 2, 28),
    date(2027, 5, 30), date(2028, 2, 28), date(2028, 2, 29), date(2028, 3, 1), date(2028, 12, 31),
]  # fmt: skip
# The application's second table of each kind would say the same again.
PLANS = {
    "hospitality": ("public.revenues", "public.daily_cash_balances"),
    "sensor_readings": ("public.sensor_readings",),
}
SCALE = {"hospitality": 0.004, "sensor_readings": 0.0005}
PARTITIONED = """
create table {target} (like {source} including defaults including generated including constraints)
    partition by range ({key});
alter table {target} add primary key (id, {key});
{more}
do $do$
begin
    for n in 0..50 loop
        execute format('create table {target}_%s partition of {target} for values from (%L) to (%L)', n,
            '2025-08-01'::date + n * interval '1 month', '2025-08-01'::date + (n + 1) * interval '1 month');
    end loop;
end $do$;
"""
DAYS = "alter table {target} add unique (property_id, balance_date);"


@dataclass(frozen=True)
class World:
    """A database with the tables of both plans, each beside a partitioned one."""

    database: Database
    files: SqlFiles
    conn: Connection
    plans: dict[str, Plan]

    def judge(self, today: date) -> None:
        """Make the rows of a date, compare, and demand that corruption would have been seen."""
        for name, plan in self.plans.items():
            tables = [split_name(text) for text in PLANS[name]]
            for table in (*tables, *map(target, tables)):
                self.conn.execute(sql.SQL("delete from {}").format(sql.Identifier(*table)))
            make_data(self.conn, plan, scale=SCALE[name], anchor=today)
            for table in tables:
                self._judge(plan, table, today)

    def _judge(self, plan: Plan, table: Name, today: date) -> None:
        names = [sql.Identifier(*name) for name in (target(table), table)]
        copied = self.conn.execute(sql.SQL("insert into {} select * from {}").format(*names)).rowcount
        assert copied >= 400
        source, other = (Catalog(self.conn, self.files).read(name) for name in (table, target(table)))
        key = next(spec.key for spec in plan.tables if split_name(spec.name) == table)
        report = compare(self.database, self.files, source, other, key)
        assert report.is_equal, f"{today}: {report.text()}"
        assert report.self_test is True, f"{today}: self-test: {report.self_test_note}"
        assert "moved" in report.self_test_note


def target(table: Name) -> Name:
    """Return the name of the partitioned table."""
    return table[0], f"{table[1]}_p"


@pytest.fixture(scope="module")
def world(server: Database, template: str, sql_files: SqlFiles) -> Iterator[World]:
    """The tables, empty."""
    name = sql.Identifier("selftest_calendar")
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(name, sql.Identifier(template)))
    database = replace(server, name="selftest_calendar")
    with connect(database) as conn:
        plans = {
            plan_name: _small(load_plan(ROOT / "plans" / f"{plan_name}.toml"), PLANS[plan_name]) for plan_name in PLANS
        }
        for plan_name, plan in plans.items():
            conn.execute(sql_files.query(f"migrations/{plan_name}/001_schema.sql"))
            for spec in plan.tables:
                if spec.name in PLANS[plan_name]:
                    more = DAYS.format(target=f"{spec.name}_p") if "daily" in spec.name else ""
                    conn.execute(
                        as_query(PARTITIONED.format(source=spec.name, target=f"{spec.name}_p", key=spec.key, more=more))
                    )
        yield World(database, sql_files, conn, plans)
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(name))


def _small(plan: Plan, tables: tuple[str, ...]) -> Plan:
    """Return the plan without the data of other scaled tables."""
    kept = [table for table in plan.data.tables if not table.scaled or table.name in tables]
    return plan.model_copy(update={"data": plan.data.model_copy(update={"tables": kept})})


@pytest.mark.fault("v10")
@pytest.mark.parametrize("today", SAMPLE, ids=str)
def test_the_self_test_is_possible_on_a_month_s_last_days(world: World, today: date) -> None:
    """On dates that are unlike others: ends of months, leap days, the day after."""
    world.judge(today)


@pytest.mark.hours
@pytest.mark.parametrize("month", MONTHS, ids=lambda month: f"{month[0]}-{month[1]:02}")
def test_the_self_test_is_possible_on_every_date(world: World, month: tuple[int, int]) -> None:
    """Each day to the end of 2028."""
    days = [date for date in DATES if (date.year, date.month) == month]
    for today in days:
        world.judge(today)
    print(f"{len(days)} dates of {month[0]}-{month[1]:02}")  # noqa: T201 -- the figure of the long run


MOVE = """
update public.daily_cash_balances_p_6 as x set balance_date = date '2026-02-01' + %s
where ctid = (select min(ctid) from public.daily_cash_balances_p_6) and balance_date <> date '2026-02-01' + %s
"""


def move_in_place(database: Database, _: SqlFiles, pair: Pair, *__: object) -> tuple[bool | None, str]:
    """Do what the self-test did: move a row of the smallest partition itself to another of its days, and roll back."""
    if pair.key != "balance_date":
        return True, "corruption was seen: moved"
    with connect(database, autocommit=False, role="parity self-test") as conn:
        for step in range(28):
            with contextlib.suppress(psycopg.IntegrityError), conn.transaction(force_rollback=True):
                if conn.execute(MOVE, [step, step]).rowcount:
                    return True, "corruption was seen: moved"
    return None, "no row of daily_cash_balances_p_6 could be moved"


@pytest.mark.fault("v10", mutant=True)
def test_a_row_of_the_table_itself_has_no_day_to_be_moved_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a month whose days are all taken, a table's own rows cannot be moved."""
    monkeypatch.setattr(rehearsal.switchover.parity, "run_self_test", move_in_place)

    with pytest.raises(AssertionError, match="could be moved"):
        world.judge(date(2026, 11, 27))
