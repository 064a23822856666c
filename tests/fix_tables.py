"""Tables under test, plans for them, and writers that never rest."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.names import Names
from rehearsal.switchover.table import Switchover

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


def difference(conn: Connection, left: Name, right: Name) -> tuple[int, int]:
    """Return how many rows only the left and only the right table has, in one snapshot."""
    query = sql.SQL(
        "select (select count(*) from (select {c} from {l} except all select {c} from {r}) as a), "
        "(select count(*) from (select {c} from {r} except all select {c} from {l}) as b)"
    )
    columns = sql.SQL(", ").join(
        sql.Identifier(one) for one in ("id", "Created At", "unit id", "amount", "doubled", "note", "extra")
    )
    row = conn.execute(query.format(c=columns, l=sql.Identifier(*left), r=sql.Identifier(*right))).fetchone()
    assert row is not None
    return row[0], row[1]


@dataclass
class Writers:
    """Sessions that insert, update, delete and move rows; `acknowledged` is what the server confirmed."""

    database: Database
    table: Name
    isolation: psycopg.IsolationLevel
    first: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    acknowledged: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    rows: dict[int, str | None] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _began: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, seed: int) -> None:
        """Write until told to stop; each writer has ids of its own, so that the last acknowledged value is known."""
        chance = random.Random(seed)
        mine: list[int] = []
        with connect(self.database, role="writer") as conn:
            conn.autocommit = False
            conn.isolation_level = self.isolation
            while not self._stop.is_set():
                action = chance.choice(["insert", "insert", "update", "update", "move", "delete"]) if mine else "insert"
                note = f"w{seed}-{chance.random()}"
                row = chance.choice(mine) if mine else 0
                try:
                    written = self._write(conn, action, row, note, chance)
                    conn.commit()
                except psycopg.Error as exc:
                    conn.rollback()
                    self._count(self.failed, exc.sqlstate or "lost")
                    continue
                self._acknowledge(action, written, note, mine)

    def _write(self, conn: Connection, action: str, row: int, note: str, chance: random.Random) -> int:
        table = sql.Identifier(*self.table)
        key = self.first + timedelta(minutes=chance.randrange(0, 100_000))
        texts = {
            "insert": 'insert into {} ("Created At", "unit id", amount, note) '
            "values (%(key)s, 1, 5, %(note)s) returning id",
            "update": "update {} set note = %(note)s where id = %(row)s returning id",
            "move": 'update {} set note = %(note)s, "Created At" = %(key)s where id = %(row)s returning id',
            "delete": "delete from {} where id = %(row)s returning id",
        }
        values = {"key": key, "note": note, "row": row}
        found = conn.execute(sql.SQL(texts[action]).format(table), values).fetchone()
        assert found is not None, f"{action} of row {row} found nothing"
        return int(found[0])

    def _acknowledge(self, action: str, row: int, note: str, mine: list[int]) -> None:
        with self._lock:
            self.acknowledged[action] = self.acknowledged.get(action, 0) + 1
            self.rows[row] = None if action == "delete" else note
        if action == "insert":
            mine.append(row)
        elif action == "delete":
            mine.remove(row)
        self._began.set()

    def until_at_work(self) -> None:
        """Wait for the first acknowledged write: what is short may be over before a writer has a connection."""
        assert self._began.wait(30), self.failed

    def _count(self, counts: dict[str, int], what: str) -> None:
        with self._lock:
            counts[what] = counts.get(what, 0) + 1

    def lost(self, conn: Connection, table: Name) -> list[int]:
        """Return ids whose row is not as it was last acknowledged; call it when the writers have stopped."""
        query = sql.SQL("select id, note from {} where id = any(%s)").format(sql.Identifier(*table))
        have: dict[int, str | None] = dict(conn.execute(query, [list(self.rows)]).fetchall())
        return [row for row, note in self.rows.items() if have.get(row) != note]


@contextmanager
def writing(
    database: Database,
    table: Name,
    writers: int = 3,
    isolation: psycopg.IsolationLevel = psycopg.IsolationLevel.READ_COMMITTED,
    **more: Any,
) -> Iterator[Writers]:
    """Keep writers at work for the block; `first` is the earliest key that they write."""
    state = Writers(database, table, isolation, **more)
    errors: list[BaseException] = []

    def guarded(seed: int) -> None:
        try:
            state.work(seed)
        except BaseException as exc:  # noqa: BLE001 -- handed to the test below
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        state._stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def names_of(name: Name) -> Names:
    """Return the names around a table."""
    return Names(name)
