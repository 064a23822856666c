"""Ways into the same final state: monthly partitions, primary key, three more indexes, two foreign keys, analyzed.

The floor is one session: `INSERT … SELECT`, then indexes, then foreign keys, then ANALYZE. What a way needs before it
begins (an empty twin, triggers) is made by `setup` and not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rehearsal.catalog.tables import Catalog
from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.chunks import Limits
from rehearsal.switchover.copy.copier import Copier, plan_chunks
from rehearsal.switchover.names import Names
from rehearsal.switchover.target.foreign_keys import foreign_key_sql
from rehearsal.switchover.target.indexes import IndexBuilder, index_statements
from rehearsal.switchover.target.target import Shape, clear_target_sql
from tests.bench.world import TABLE, World, execute_all, make_plan

Work = Callable[[World, Database], object]
TWIN = "public.readings_partitioned"


@dataclass(frozen=True, slots=True)
class Way:
    """One way: `setup` is not counted, `run` is; a `slow` one is left out above `--peers-up-to` rows."""

    name: str
    setup: Work
    run: Work
    slow: bool = False


def make_target(world: World, database: Database) -> None:
    """Make the empty twin, without triggers and indexes."""
    world.deploy(database, make_plan())
    with connect(database) as conn:
        conn.execute("alter table public.readings disable trigger user")
        conn.execute(as_query(clear_target_sql(world.files, Catalog(conn, world.files).read(Names(TABLE).target))))


def finish(world: World, conn: Connection) -> tuple[list[str], list[str]]:
    """Return the statements of the twin's indexes and of its foreign keys, on the parent."""
    catalog = Catalog(conn, world.files)
    source, target = catalog.read(TABLE), catalog.read(Names(TABLE).target)
    indexes = [parent for _, parent in index_statements(source, target, Shape.of(source, "recorded_at"))]
    return indexes, foreign_key_sql(source, target)[2]


def floor(world: World, database: Database) -> None:
    """One session: rows, then indexes, then foreign keys, then ANALYZE."""
    with connect(database) as conn:
        indexes, keys = finish(world, conn)
        execute_all(conn, [f"insert into {TWIN} select * from public.readings", *indexes, *keys, f"analyze {TWIN}"])


def make_loop(world: World, database: Database) -> None:
    """Make the twin with everything on it, as the playbooks do."""
    make_target(world, database)
    with connect(database) as conn:
        indexes, keys = finish(world, conn)
        execute_all(conn, [*indexes, *keys])


def loop(world: World, database: Database, *, batch: int) -> None:
    """The playbooks' way: batches by id, in a loop of one session."""
    query = (
        "with batch as (select * from public.readings where id > %s order by id limit %s), "
        f"done as (insert into {TWIN} select * from batch) select max(id) from batch"
    )
    with connect(database) as conn:
        last = 0
        while row := conn.execute(as_query(query), [last, batch]).fetchone():
            if row[0] is None:
                break
            last = row[0]
        conn.execute(as_query(f"analyze {TWIN}"))
    assert world.rows


def make_partman(world: World, database: Database) -> None:
    """Make a parent with everything on it, and its partitions by pg_partman."""
    make_target(world, database)
    with connect(database) as conn:
        indexes, keys = finish(world, conn)
        execute_all(conn, [f"drop table {TWIN}", (f"create table {TWIN} (like public.readings including defaults) "
                           "partition by range (recorded_at)"), *indexes, *keys])  # fmt: skip
        execute_all(conn, ["create schema partman", "create extension pg_partman schema partman"])
        conn.execute(
            "select partman.create_parent(p_parent_table := %s, p_control := 'recorded_at', p_type := 'native', "
            "p_interval := 'monthly', p_start_partition := '2025-01-01', p_premake := 4)",
            [TWIN],
        )


def partman(world: World, database: Database) -> None:
    """pg_partman's own procedure, a month a batch, without its default wait of a second after each."""
    with connect(database) as conn:
        text = "call partman.partition_data_proc(%s, p_wait := 0, p_source_table := 'public.readings', p_quiet := true)"
        conn.execute(text, [TWIN])
        conn.execute(as_query(f"analyze {TWIN}"))
    assert world.rows


def make_ours(world: World, database: Database, *, strategy: str = "swap") -> None:
    """Make twin and triggers."""
    world.deploy(database, make_plan(strategy))


def parts(world: World, database: Database) -> None:
    """Copy, indexes and foreign keys alone, as our steps do them: no capture, replay, vacuum or swap."""
    plan = make_plan()
    with connect(database) as conn:
        catalog = Catalog(conn, world.files)
        source, target = catalog.read(TABLE), catalog.read(Names(TABLE).target)
        shape, found = Shape.of(source, "recorded_at"), state.read_migration(conn, TABLE)
        limits = Limits.of(plan.copying)
        plan_chunks(conn, found.id, source, limits)
        Copier(database, world.files, shape, found.id, 2, lambda _: None, limits).run()
        IndexBuilder(database, world.files, shape, 2, lambda *_: None).run()
        weak, validate, adopt = foreign_key_sql(source, target)
        execute_all(conn, [*weak, *validate, *adopt])


def ours(world: World, database: Database, *, strategy: str = "swap", pace: str = "gentle") -> None:
    """The whole migration: capture, copy, indexes, replay, vacuum and analyze, switch, foreign keys."""
    work = world.switchover(database, make_plan(strategy, pace))
    work.prepare()
    work.switch()


def ours_at_full_pace(world: World, database: Database) -> None:
    """The whole migration with `pace.mode = "full"`, and what each of its steps took."""
    ours(world, database, pace="full")
    with connect(database) as conn:
        rows = conn.execute("select name, duration_ms from rehearsal.step order by done_at").fetchall()
    print("   steps, ms:", ", ".join(f"{name} {ms:.0f}" for name, ms in rows))


FLOOR = Way("floor: one INSERT … SELECT, indexes, foreign keys, ANALYZE", make_target, floor)
WAYS: dict[str, list[Way]] = {
    "whole": [
        Way("whole migration, no throttle", make_ours, ours_at_full_pace),
        Way("whole migration, default throttle", make_ours, ours),
    ],
    "copy": [Way("copy, indexes and foreign keys alone", make_target, parts)],
    "attach": [
        Way("attach, no row moved", partial(make_ours, strategy="attach"), partial(ours, strategy="attach")),
    ],
    "loops": [
        Way("the playbooks' loop of 10,000 rows", make_loop, partial(loop, batch=10_000), slow=True),
        Way("the playbooks' loop of 1,000 rows", make_loop, partial(loop, batch=1_000), slow=True),
    ],
    "partman": [Way("pg_partman `partition_data_proc`, no wait", make_partman, partman, slow=True)],
}
