"""The single verbs as a role whose defaults are all others: `alter role mig set …`, and four sessions that insert."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pytest
from psycopg import sql

from rehearsal.environment import Database
from rehearsal.postgres import locks, pinned
from rehearsal.postgres.connection import Connection, connect, connect_as_application, scalar
from rehearsal.postgres.locks import with_lock
from tests.fix_verbs import Managed
from tests.writing import at_work

DEFAULTS = {
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
    "lock_timeout": "1",
    "statement_timeout": "1",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German",
    "search_path": "nowhere",
    "quote_all_identifiers": "on",
    "client_encoding": "LATIN1",
}
TABLE = """
create table public.t (id bigint primary key, at timestamptz not null, v int, größe text default 'süß');
insert into public.t
select n, '2026-01-01'::timestamptz + n * interval '2 hours', n % 97, 'größe ' || n from generate_series(1, 2000) as n;
create index "nach größe" on public.t (größe);
grant select, insert, update, delete on public.t to {app};
"""


@dataclass
class Inserting:
    """Four sessions of the application that insert; `acknowledged` has the ids that the server confirmed."""

    managed: Managed
    acknowledged: set[int] = field(default_factory=set[int])

    def work(self, first: int, stop: threading.Event) -> None:
        """Insert one row a transaction; a refusal is no acknowledgement."""
        with connect_as_application(self.managed.app) as conn:
            conn.execute("set client_encoding = 'UTF8'")
            number = first
            while not stop.wait(0.005):
                number += 4
                try:
                    conn.execute("insert into public.t values (%s, '2026-03-03', 1, 'groß')", [number])
                except psycopg.Error:
                    continue
                self.acknowledged.add(number)


@contextmanager
def inserting(managed: Managed, first: int) -> Iterator[Inserting]:
    """Keep the sessions at work for the block."""
    state = Inserting(managed)
    with at_work(*(partial(state.work, first + number) for number in range(4))):
        yield state


def in_latin1(managed: Managed, server: Database) -> None:
    """Make the environment's database anew, in LATIN1."""
    name, role = sql.Identifier(managed.mig.name), sql.Identifier(managed.mig.user)
    text = "create database {} owner {} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'"
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {}").format(name))
        conn.execute(sql.SQL(text).format(name, role))
    managed.run(f'grant create, usage on schema public to "{managed.mig.user}"', "superuser")


def every_acknowledged_row_is_there(managed: Managed, whose: str, *, verify: bool) -> None:
    """Through the switchover and its rollback; and the verbs end with 0."""
    managed.setup(sql_text=TABLE.format(app=managed.app.user))
    managed.done("provision")
    for setting in ("default_transaction_read_only", "statement_timeout"):
        managed.run(f'alter role "{managed.app.user}" set {setting} = 0', "superuser")
    for setting, value in DEFAULTS.items():
        managed.run(f"""alter {whose} "{managed.mig.name}" set {setting} = '{value}'""", "superuser")
    managed.done("migrate")
    acknowledged: set[int] = set()
    for verb, first in (("switchover", 10_000), ("rollback", 500_000)):
        with inserting(managed, first) as state:
            managed.done(verb)
        acknowledged |= state.acknowledged
        there = {row[0] for row in managed.rows("select id from public.t")}
        assert state.acknowledged
        assert acknowledged <= there, f"{len(acknowledged - there)} of {len(acknowledged)} are lost after {verb}"
        if verify:
            managed.done("verify")


@pytest.mark.fault("f02")
@pytest.mark.fault("f14")
def test_four_sessions_insert_while_verbs_run_as_a_role_with_other_defaults(managed: Managed, server: Database) -> None:
    """In a database in LATIN1, with umlauts in rows and names."""
    in_latin1(managed, server)
    every_acknowledged_row_is_there(managed, "role", verify=True)


@pytest.mark.fault("f02")
def test_four_sessions_insert_while_verbs_run_in_a_database_with_other_defaults(managed: Managed) -> None:
    every_acknowledged_row_is_there(managed, "database", verify=False)


@pytest.mark.fault("f02", mutant=True)
def test_with_the_roles_own_defaults_the_verbs_fail(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pinned, "PINNED", {setting: pinned.PINNED[setting] for setting in pinned.PINNED if setting not in DEFAULTS}
    )
    monkeypatch.setattr(locks, "FRESH", "set local application_name = 'pg-rehearsal mutant'")

    with pytest.raises(AssertionError):
        every_acknowledged_row_is_there(managed, "role", verify=False)


def it_is_planned_as_by_default_under_a_lock(conn: Connection) -> None:
    """Compiling a plan takes half a minute that no statement_timeout ends, while the application waits."""
    conn.execute("set jit = on; set jit_above_cost = 0; set enable_seqscan = off; set enable_hashjoin = off")
    seen, _ = with_lock(conn, "a lock", planned)
    assert seen == ("off", "on", "on"), f"under the lock: {seen}"
    assert planned(conn) == ("on", "off", "off")


def planned(conn: Connection) -> tuple[str, ...]:
    """Return how a session plans."""
    names = ("jit", "enable_seqscan", "enable_hashjoin")
    return tuple(str(scalar(conn, "select current_setting(%s)", [name])) for name in names)


@pytest.mark.fault("f02")
def test_what_is_asked_under_a_lock_is_planned_as_by_default(conn: Connection) -> None:
    it_is_planned_as_by_default_under_a_lock(conn)


@pytest.mark.fault("f02", mutant=True)
def test_it_was_planned_as_the_role_says(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PLANNED_UNDER_LOCK", {"application_name": "pg-rehearsal mutant"})
    with pytest.raises(AssertionError, match="under the lock"):
        it_is_planned_as_by_default_under_a_lock(conn)
