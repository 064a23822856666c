"""The defects: each one real, put into the database, the project's files, the tools or the application."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from rehearsal.load.driver import ledger_folder
from rehearsal.load.ledger import Ledger, Write
from tests.mutants.worlds import World
from tests.writing import at_work

Defect = Callable[[World], AbstractContextManager[None]]
READINGS, RETIRED = "public.sensor_readings", "public.sensor_readings_old"
REVENUES = "public.revenues"


def statements(*texts: str) -> Defect:
    """Run statements before the phase."""

    @contextmanager
    def put_in(world: World) -> Iterator[None]:
        world.execute(*texts)
        yield

    return put_in


def behind_the_triggers(table: str, *texts: str) -> Defect:
    """Change a table before the phase as nobody may: with its triggers, which stay as they are, passed over."""
    guard = (
        "create temporary table was as select tgrelid, tgname, tgenabled from pg_trigger "
        f"where tgrelid in (select relid from pg_partition_tree('{table}') union select '{table}'::regclass)"
    )
    off = "update pg_trigger as t set tgenabled = 'D' from was where t.tgrelid = was.tgrelid and t.tgname = was.tgname"
    on = (
        "update pg_trigger as t set tgenabled = was.tgenabled from was "
        "where t.tgrelid = was.tgrelid and t.tgname = was.tgname"
    )
    return statements("begin", guard, off, *texts, on, "commit")


@contextmanager
def nothing_else(_: World) -> Iterator[None]:
    """Put nothing in: the edits of the plan are the defect."""
    yield


def last_writes(world: World, action: str) -> list[Write]:
    """Return the acknowledged writes of that kind that were the last of their row."""
    ledger = Ledger(ledger_folder(world.context.run)).read()
    certain = ledger.certain()
    found = [writes[-1] for writes in ledger.by_subject().values()]
    return [write for write in found if write.uid in certain and write.action == action and write.table == READINGS]


@contextmanager
def deletes_undone(world: World) -> Iterator[None]:
    """Bring rows back that the load deleted."""
    gone = last_writes(world, "delete")[:3]
    assert gone, "the load deleted nothing"
    prefix = f"lg:{world.context.run.name}:{gone[0].segment}"
    rows = [f"(1, 1, 4, '{row.key}Z', '{prefix}:{row.subject}:{row.version - 1}')" for row in gone]
    text = f"insert into {READINGS} (unit_id, device_id, temperature, recorded_at, source) values {', '.join(rows)}"
    with behind_the_triggers(READINGS, text)(world):
        yield


@contextmanager
def locked_for_a_while(world: World) -> Iterator[None]:
    """Lock the table for 2 s as soon as writers are at work."""
    waiting = f"select count(*) from {READINGS} where source like 'lg:%-load:%'"

    def work(stop: threading.Event) -> None:
        with world.session() as conn:
            while not stop.is_set() and not conn.execute(waiting.encode()).fetchone() > (0,):  # type: ignore[operator]
                stop.wait(0.02)
            with conn.transaction():
                conn.execute(f"lock table {READINGS} in exclusive mode".encode())
                conn.execute("select pg_sleep(2)")

    with at_work(work):
        yield


@contextmanager
def catalog_changes(world: World) -> Iterator[None]:
    """Make tables while the dry run looks."""
    began = threading.Event()

    def work(stop: threading.Event) -> None:
        with world.session() as conn:
            number = 0
            while not stop.is_set():
                number += 1
                conn.execute(f"create table public.made_{number} (id int)".encode())
                began.set()

    with at_work(work):
        assert began.wait(60), "no table was made"
        yield


@contextmanager
def held_by_a_sleeper(world: World) -> Iterator[None]:
    """Leave a transaction open that wrote the table."""
    with world.session() as conn, conn.transaction(force_rollback=True):
        conn.execute(f"delete from {READINGS} where id = 1".encode())
        yield


@contextmanager
def server_is_gone(world: World) -> Iterator[None]:
    """End the app server."""
    assert world.app is not None
    world.app.process.kill()
    world.app.process.wait()
    yield


@contextmanager
def flags_differ(world: World) -> Iterator[None]:
    """Write flags into the file that the process does not run with; it cannot be restarted either."""
    path = world.folder / "app1.env"
    path.write_text(path.read_text().replace("true", "false"))
    yield


@contextmanager
def file_edited(world: World) -> Iterator[None]:
    """Edit an SQL file of the project after the run began."""
    path = world.root / "sql" / "switchover" / "strategies" / "swap" / "swap.sql.j2"
    path.write_text(path.read_text() + "-- edited\n")
    yield


def edited(name: str, old: str, new: str) -> Defect:
    """Edit an SQL text of the project, all places of it."""

    @contextmanager
    def put_in(world: World) -> Iterator[None]:
        path = world.root / "sql" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        yield

    return put_in


def both(first: Defect, other: Defect) -> Defect:
    """Put two halves of a defect in."""

    @contextmanager
    def put_in(world: World) -> Iterator[None]:
        with first(world), other(world):
            yield

    return put_in


def tool(name: str, script: str) -> Defect:
    """Put another program in the place of a client program; `{real}` is the real one."""

    @contextmanager
    def put_in(world: World) -> Iterator[None]:
        env = world.context.env
        assert env.client_bin is not None
        folder = world.folder / "bin"
        folder.mkdir()
        for program in ("psql", "pg_dump", "pg_restore"):
            if program != name:
                (folder / program).symlink_to(env.client_bin / program)
        if script:
            (folder / name).write_text(f"#!/bin/sh\n{script.format(real=env.client_bin / name)}\n")
            (folder / name).chmod(0o755)
        world.context = replace(world.context, env=replace(env, client_bin=folder))
        yield

    return put_in


@contextmanager
def leaf_without_index(world: World) -> Iterator[None]:
    """Make an index of the partitioned table anew, on all leaves but one."""
    with world.session() as conn, conn.transaction():
        leaves = [
            row[0]
            for row in conn.execute(
                f"select relid::regclass::text from pg_partition_tree('{READINGS}') where isleaf order by 1".encode()
            )
        ]
        conn.execute("drop index public.sensor_readings_device")
        conn.execute(f"create index sensor_readings_device on only {READINGS} (device_id)".encode())
        for number, leaf in enumerate(leaves[1:]):
            conn.execute(f"create index device_{number} on {leaf} (device_id)".encode())
            conn.execute(f"alter index public.sensor_readings_device attach partition public.device_{number}".encode())
    yield


@contextmanager
def error_in_the_log(world: World) -> Iterator[None]:
    """Let an app server log an error a while after the phase began."""
    yield from said_later(Path(world.context.env.app_servers[0].log or ""), "ERROR something came apart")


@contextmanager
def fatal_in_the_log(world: World) -> Iterator[None]:
    """Let the database server log that it ended a session a while after the phase began."""
    yield from said_later(Path(world.context.env.settings["db_log"]), "FATAL:  out of shared memory")


def said_later(log: Path, text: str) -> Iterator[None]:
    """Let a log have one more line, a while from now."""

    def say() -> None:
        with log.open("a") as file:
            file.write(f"{text}\n")

    later = threading.Timer(5, say)
    later.start()
    try:
        yield
    finally:
        later.cancel()


SWALLOW = """
create function public.swallow() returns trigger language plpgsql as
    'begin if tg_op = ''DELETE'' then return null; end if; return old; end'
"""
REFUSE = """
create function public.refuse() returns trigger language plpgsql as 'begin raise exception ''refused''; end'
"""
# What a rollback would leave: the end of its script, when names are those of before.
BACK = ("switchover/strategies/swap/swap_back.sql.j2", "{% for statement in after %}")
# Comparisons that count rows but do not look at their values, or do not say which rows they are.
VALUES = 'pg_catalog.hash_record_extended({{ row(%s, "x") | raw }}, 0)'
BLIND = edited("switchover/parity/digest.sql.j2", VALUES % "pair.columns", "0")
BLIND_TO_ITSELF = edited("checks/untouched.sql.j2", VALUES % "columns", "0")
DIM = edited(
    "switchover/parity/drill.sql.j2", "          or {{ row(pair.columns,", "          or false and {{ row(pair.columns,"
)
FORGETS_DELETES = edited("switchover/target/mirror.sql.j2", "if tg_op <> 'INSERT' then", "if tg_op = 'UPDATE' then")
SLOW = """
create function public.slow() returns event_trigger language plpgsql as $$
begin
    if coalesce(current_setting('slow.done', true), '') = '' then
        perform set_config('slow.done', 'yes', true), pg_sleep(0.9);
    end if;
end $$
"""

GAP = edited(
    "lifecycle/premake.sql",
    "lower := rehearsal.lifecycle_bound(k.base, k.epoch, start);",
    "lower := rehearsal.lifecycle_bound(k.base, k.epoch, start + 86400000000);",
)
GREEDY = edited(
    "lifecycle/retain.sql",
    "l.upper_at <= rehearsal.lifecycle_cutoff(of_table, moment)",
    "l.upper_at <= rehearsal.lifecycle_cutoff(of_table, moment) + 31::bigint * 86400000000",
)
# Only the newest leaf has it, and the next one would not.
OWN_INDEX = f"""
do $$ begin execute (select format('create index on %s (device_id, id)', relid::regclass)
    from pg_partition_tree('{READINGS}') join pg_class as c on c.oid = relid
    where isleaf and pg_get_expr(relpartbound, relid) <> 'DEFAULT'
    order by pg_get_expr(relpartbound, relid) desc limit 1);
end $$
"""
UNLIKE_ITS_SIBLING = both(
    statements(OWN_INDEX), edited("lifecycle/premake.sql", "where x.indrelid = sibling and x.indisvalid", "where false")
)
