"""What the application feels while partitions are made and dropped: `lifecycle.premake` and `lifecycle.retain`."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

from psycopg import sql

from rehearsal.environment import Database
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.policy import Policy, Wish, read_policies, write_policy
from rehearsal.lifecycle.reading import LeafAct, read_to_make, read_to_retire
from rehearsal.lifecycle.work import Done, LeafWorker
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.locks import LockPolicy
from rehearsal.postgres.sqlfiles import as_query
from tests.bench.felt import RATE, SETTLE_S, TURNS, Figure
from tests.bench.world import NOW, TABLE, World
from tests.bench.writers import Samples, clients, percentile

# Others partitioned it: twelve months, with the indexes that the table has.
PARTED = """
alter table public.readings rename to plain;
create table public.readings (
    id bigint not null default nextval('public.readings_id_seq'), unit_id int not null, device_id int not null,
    temperature numeric(5, 2), battery int, recorded_at timestamptz not null, source text, primary key (id, recorded_at)
) partition by range (recorded_at);
insert into public.readings select * from public.plain;
create index on public.readings (unit_id, recorded_at);
create index on public.readings (device_id);
create index on public.readings (recorded_at);
vacuum (freeze, analyze) public.readings
"""
DOOR = """
create or replace function rehearsal.lifecycle_now() returns timestamptz
language sql volatile set search_path = pg_catalog, pg_temp as $$ select timestamptz '{}' $$
"""
Spans = dict[str, list[tuple[float, float]]]


def lifecycle(world: World) -> list[Figure]:
    """Return the longest that a client waited while a leaf was made, detached and dropped, five times each."""
    database = world.clone()
    _prepare(world, database)
    spans: Spans = {"premake": [], "detach": [], "drop": []}
    held: list[float] = []
    with clients(database, RATE, world.rows) as samples, connect(database, role="lifecycle") as conn:
        started = time.monotonic()
        for turn in range(TURNS):
            time.sleep(SETTLE_S)  # the clients' usual latency before each act is part of what is measured
            policy = _adopt(conn, premake=turn + 1, months=10 - turn)
            for name, decide in _acts(conn, policy).items():
                began = time.monotonic()
                held += _do(conn, policy, decide(), makes=name == "premake")
                spans[name].append((began, time.monotonic()))
    calm = samples.between(started, spans["premake"][0][0])
    return [
        Figure(f"client at {RATE:.0f} statements/s, before the first act, p50 and p100",
               f"{percentile(calm, 0.5):.1f} and {percentile(calm, 1):.1f} ms"),
        *(Figure(f"longest wait of a client, {TURNS} times {name}", _worst(samples, spans[name]), "each < 100")
          for name in spans),
        Figure("locks of these acts, longest hold", f"{max(held):.0f} ms"),
    ]  # fmt: skip


def _worst(samples: Samples, spans: list[tuple[float, float]]) -> str:
    worst = [percentile(samples.between(began - 0.5, ended + 0.5), 1) for began, ended in spans]
    return ", ".join(f"{figure:.0f}" for figure in worst) + " ms"


def _prepare(world: World, database: Database) -> None:
    with connect(database) as conn:
        for statement in PARTED.split(";\n"):
            conn.execute(as_query(statement))
            if "partition by" in statement:
                _make_months(conn)
        with conn.transaction():
            install_code(conn, world.files)
        conn.execute(as_query(DOOR.format(NOW.isoformat())))


def _make_months(conn: Connection) -> None:
    leaf = sql.SQL("create table {} partition of public.readings for values from ({}) to ({})")
    starts = [NOW.replace(month=number, day=1) for number in range(1, 13)] + [NOW.replace(year=2026, month=1, day=1)]
    for number, (lower, upper) in enumerate(pairwise(starts), 1):
        name = sql.Identifier("public", f"m{number}")
        conn.execute(leaf.format(name, sql.Literal(lower.isoformat()), sql.Literal(upper.isoformat())))


def _adopt(conn: Connection, *, premake: int, months: int) -> Policy:
    wish = Wish(TABLE, "1 month", premake, f"{months} months", "0 days", most=1)
    with conn.transaction():
        write_policy(conn, "bench", wish)
    return read_policies(conn, "bench")[0]


def _acts(conn: Connection, policy: Policy) -> dict[str, Callable[[], list[LeafAct]]]:
    """Return how each act is decided; the leaf that is detached first is dropped by the next retention."""
    return {
        "premake": lambda: read_to_make(conn, policy.oid),
        "detach": lambda: read_to_retire(conn, policy.oid, NOW),
        "drop": lambda: read_to_retire(conn, policy.oid, NOW),
    }


def _do(conn: Connection, policy: Policy, acts: list[LeafAct], *, makes: bool) -> list[float]:
    """Do the acts; return how long their locks were held, in milliseconds."""
    done: list[Done] = []
    worker = LeafWorker(conn, policy, LockPolicy(), done.append)
    if not acts or not (worker.make if makes else worker.retire)(acts):
        message = f"nothing was done: {[ended.failure for ended in done]}"
        raise RuntimeError(message)
    return [ended.report.held_ms for ended in done if ended.report]
