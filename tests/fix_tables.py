"""Tables under test, plans for them, and writers that never rest."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from rehearsal.catalog.tables import Name, split_name
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.names import Names
from rehearsal.switchover.table import Switchover
from tests.writing import ACTIONS, Writers, at_work

NOW = datetime(2026, 3, 15, tzinfo=UTC)

SETUP = """
create table public."Unit" (id int primary key, name text not null);
insert into public."Unit" select n, 'unit ' || n from generate_series(1, 5) as n;
create table public."We""ird Events" (
    id bigserial primary key,
    "Created At" timestamptz not null,
    "unit id" int not null references public."Unit" (id),
    amount numeric(10, 2) not null check (amount >= 0),
    doubled numeric generated always as (amount * 2) stored,
    note text default 'none',
    extra jsonb
);
comment on table public."We""ird Events" is 'Events; mixed case and a quote, so that a missing quote cannot pass';
create index "events by unit" on public."We""ird Events" ("unit id", "Created At" desc) where amount > 0;
create index on public."We""ird Events" using gin (extra);
insert into public."We""ird Events" ("Created At", "unit id", amount, note, extra)
select '2026-01-01'::timestamptz + n * interval '20 minutes', 1 + n % 5, n % 97, 'note ' || n,
       jsonb_build_object('n', n)
from generate_series(1, 4000) as n;
analyze public."We""ird Events";
"""
EVENTS = 'public.We"ird Events'
WRITES = {
    "insert": 'insert into {} ("Created At", "unit id", amount, note) values (%(key)s, 1, 5, %(note)s) returning id',
    "update": "update {} set note = %(note)s where id = %(row)s returning id",
    "move": 'update {} set note = %(note)s, "Created At" = %(key)s where id = %(row)s returning id',
    "delete": "delete from {} where id = %(row)s returning id",
}


def make_plan(strategy: str, **values: Any) -> Plan:
    """Return a plan for the events table, with small chunks so that there are many."""
    table = {"name": EVENTS, "key": "Created At", "default_partition": True, "marker": "note"}
    return Plan.model_validate(
        {
            "name": "events",
            "strategy": strategy,
            "tables": [table],
            "copy": {"chunk_rows": 300, "drain_batch": 50},
            **values,
        }
    )


@pytest.fixture
def events(conn: Connection) -> Name:
    """The events table, filled."""
    conn.execute(as_query(SETUP))
    return split_name(EVENTS)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of its own."""
    return Run.create(tmp_path, "local", "test")


def deploy(conn: Connection, files: SqlFiles, plan: Plan) -> None:
    """Apply the rendered changes as the registry would."""
    for change in render_changes(conn, files, plan, NOW):
        with conn.transaction():
            conn.execute(as_query(change.body))
            conn.execute(
                "insert into rehearsal.change (name, checksum, body) values (%s, 'test', %s) on conflict do nothing",
                [change.name, change.body],
            )


def make_switchover(database: Database, files: SqlFiles, plan: Plan, run: Run) -> Switchover:
    """Return the switchover of the plan's only table."""
    return Switchover(database, files, plan, plan.tables[0], run)


Prepared = Callable[[Plan], Switchover]


@pytest.fixture
def prepared(database: Database, conn: Connection, sql_files: SqlFiles, run: Run) -> Prepared:
    """Deploys a plan and brings its table to where the switch is due."""

    def prepare(plan: Plan) -> Switchover:
        deploy(conn, sql_files, plan)
        work = make_switchover(database, sql_files, plan, run)
        work.prepare()
        return work

    return prepare


@contextmanager
def as_replica(conn: Connection) -> Iterator[None]:
    """Let no trigger fire for the block: what is changed in it is changed behind everybody's back."""
    conn.execute("set session_replication_role = replica")
    yield
    conn.execute("reset session_replication_role")


def difference(conn: Connection, left: Name, right: Name) -> tuple[int, int]:
    """Return how many rows only the left and only the right table has, in one snapshot."""
    query = sql.SQL(
        "select (select count(*) from (select {c} from {l} except all select {c} from {r}) as a), "
        "(select count(*) from (select {c} from {r} except all select {c} from {l}) as b)"
    )
    columns = sql.SQL(", ").join(
        sql.Identifier(column) for column in ("id", "Created At", "unit id", "amount", "doubled", "note", "extra")
    )
    row = conn.execute(query.format(c=columns, l=sql.Identifier(*left), r=sql.Identifier(*right))).fetchone()
    assert row is not None
    return row[0], row[1]


@dataclass(frozen=True)
class EventPen:
    """Writes the events table, from a key on."""

    table: Name
    first: datetime
    chance: random.Random

    def actions(self) -> Sequence[str]:
        """Return what may come next."""
        return ACTIONS

    def write(self, conn: Connection, action: str, row: int, note: str) -> int:
        """Write a row; the server has made the id of a new one."""
        key = self.first + timedelta(minutes=self.chance.randrange(0, 100_000))
        text = sql.SQL(WRITES[action]).format(sql.Identifier(*self.table))
        found = conn.execute(text, {"key": key, "note": note, "row": row}).fetchone()
        assert found is not None, f"{action} of row {row} found nothing"
        return int(found[0])


@contextmanager
def writing(
    database: Database,
    table: Name,
    writers: int = 3,
    isolation: psycopg.IsolationLevel = psycopg.IsolationLevel.READ_COMMITTED,
    first: datetime = datetime(2026, 1, 2, tzinfo=UTC),
) -> Iterator[Writers]:
    """Keep writers at work for the block; `first` is the earliest key that they write."""
    state = Writers(database, lambda seed: EventPen(table, first, random.Random(f"keys {seed}")), isolation)
    with at_work(*state.jobs(writers)):
        yield state


def names_of(name: Name) -> Names:
    """Return the names around a table."""
    return Names(name)
