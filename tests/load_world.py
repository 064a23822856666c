"""A small world for the load: one table, its partitioned twin kept by a trigger, a plan and an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehearsal.environment import AppServer, Database, Environment
from rehearsal.load.summary import LoadSummary
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection

TABLE = "public.posts"
SOURCE = ("public", "posts")
TWIN = ("public", "posts_partitioned")
BOTH = {TABLE: [SOURCE, TWIN]}

SCHEMA = """
create table public.posts (
    id bigint generated always as identity, at timestamptz not null, body text, primary key (id)
);
create table public.posts_partitioned (
    id bigint not null, at timestamptz not null, body text, primary key (id, at)
) partition by range (at);
create function public.copy_over() returns trigger language plpgsql as $$
begin
    if tg_op in ('UPDATE', 'DELETE') then
        delete from public.posts_partitioned where id = old.id and at = old.at;
    end if;
    if tg_op in ('UPDATE', 'INSERT') then
        insert into public.posts_partitioned values (new.id, new.at, new.body);
    end if;
    return null;
end $$;
create trigger copy_over after insert or update or delete on public.posts
for each row execute function public.copy_over();
do $$
declare
    month timestamptz := date_trunc('month', now()) - interval '4 months';
begin
    for number in 0..5 loop
        execute format('create table public.posts_%s partition of public.posts_partitioned '
                       'for values from (%L) to (%L)', number, month, month + interval '1 month');
        month := month + interval '1 month';
    end loop;
end $$;
insert into public.posts (at) select date_trunc('month', now()) - interval '3 months' + n * interval '1 day'
from generate_series(0, 59) as n;
"""

OPERATIONS: list[dict[str, Any]] = [
    {
        "name": "write",
        "action": "insert",
        "sql": "insert into public.posts (at, body) values (%(key)s, %(marker)s) returning id",
        "rate": 60.0,
    },
    {
        "name": "edit",
        "action": "update",
        "sql": "update public.posts set body = %(marker)s where id = %(id)s and at = %(key)s",
        "rate": 40.0,
    },
    {
        "name": "redate",
        "action": "move",
        "sql": "update public.posts set at = %(key)s, body = %(marker)s where id = %(id)s and at = %(old_key)s",
        "rate": 20.0,
    },
    {"name": "drop", "action": "delete", "sql": "delete from public.posts where id = %(id)s", "rate": 15.0},
    {"name": "look", "action": "read", "sql": "select body from public.posts where id = %(id)s", "rate": 10.0},
]
SQL_OPERATIONS = [{**operation, "via": "sql", "table": TABLE} for operation in OPERATIONS]


def make_plan(operations: list[dict[str, Any]] | None = None, connections: int = 4) -> Plan:
    """Return a plan for the small world."""
    return Plan.model_validate(
        {
            "name": "small",
            "strategy": "dual-write",
            "tables": [{"name": TABLE, "key": "at", "marker": "body"}],
            "load": {"connections": connections, "operations": SQL_OPERATIONS if operations is None else operations},
        }
    )


def make_environment(database: Database, *servers: AppServer, app: Database | None = None) -> Environment:
    """Return an environment around the test's database."""
    return Environment(
        name="local",
        kind="local",
        inventory=Path("inventories/local.py"),
        database=database,
        app_database=app or database,
        database_host="local",
        app_servers=servers,
        backup_folder=Path("/nonexistent"),
        admin_email="dba@example.org",
    )


def ended_well(summary: LoadSummary) -> bool:
    """Return whether the generator has nothing to confess but the lateness of a busy test machine."""
    return all("workers were free" in reason for reason in summary.reasons)


def count_marked(conn: Connection) -> int:
    """Return how many rows the load has written."""
    row = conn.execute("select count(*) from public.posts where body like 'lg:%'").fetchone()
    assert row is not None
    return int(row[0])
