"""The table of the histories, small enough for a hundred of them a minute, and an engine that does not wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.locks import with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import snapshot_fence as fence
from rehearsal.switchover.names import Names
from tests.fix_postgres import ROOT
from tests.fix_tables import deploy

ITEMS: Name = ("public", "items")
FILES = SqlFiles(ROOT / "sql")
# Two rows a block, so that a few rows are several chunks.
TABLE = """
create table public.items (
    id bigint not null, k timestamptz not null, v text not null, pad text not null default repeat('x', 900),
    primary key ({primary})
) with (fillfactor = 25, autovacuum_enabled = off);
create index on public.items (v);
create table public.others (id int);
insert into public.items (id, k, v)
select n, '2026-01-05'::timestamptz + n * interval '6 days', 'first' from generate_series(1, 14) as n;
analyze public.items;
"""


def plan_of(strategy: str) -> Plan:
    """Return a plan with chunks of two rows and locks that are asked for often and briefly."""
    table = {"name": "public.items", "key": "k", "default_partition": True, "premake": 0, "marker": "v"}
    locks = {"timeout_ms": 10, "max_timeout_ms": 30, "attempts": 60, "hold_ms": 20_000, "budget_s": 30}
    plan = Plan.model_validate({"name": "items", "strategy": strategy, "tables": [table], "locks": locks})
    copying = plan.copying.model_copy(
        update={"chunk_rows": 4, "workers": 1, "drain_batch": 3, "drain_until": 2}
    )  # smaller than a plan may ask for
    return plan.model_copy(update={"copying": copying})


def target_of() -> Name:
    """Return the partitioned twin's name."""
    return Names(ITEMS).target


def hurry() -> None:
    """Take the pauses out of the engine: in a history time does not pass, statements do."""
    fence.POLL_S = 0.0
    assert with_lock.__kwdefaults__ is not None
    with_lock.__kwdefaults__["pause"] = lambda _seconds: None


def make_template(server: Database, strategy: str, with_pairs: bool, mutate: Callable[[Connection], None]) -> str:
    """Make a database that histories are cloned from; the application's role decides deadlocks quickly."""
    name = f"items_{strategy.replace('-', '_')}_{'pairs' if with_pairs else 'ids'}"
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with connect(dataclasses.replace(server, name=name)) as conn:
        conn.execute(FILES.query("registry.sql"))
        conn.execute(as_query(TABLE.format(primary="id, k" if with_pairs else "id")))
        deploy(conn, FILES, plan_of(strategy))
        mutate(conn)
    return name


@contextmanager
def cloned(server: Database, template: str, number: int) -> Iterator[Database]:
    """Give a history a database of its own."""
    name = f"history_{number}"
    with connect(server) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
        conn.execute(sql.SQL("alter database {} set deadlock_timeout = '20ms'").format(sql.Identifier(name)))
    database = dataclasses.replace(server, name=name)
    yield database
    _drop_prepared(database)
    with connect(server) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _drop_prepared(database: Database) -> None:
    """Roll back what a history that got stuck left prepared; its database could not be dropped."""
    with connect(database) as conn:
        for (gid,) in conn.execute("select gid from pg_catalog.pg_prepared_xacts where database = current_database()"):
            conn.execute(sql.SQL("rollback prepared {}").format(gid))
