"""Composite foreign keys: the referencing table carries the partition key, a real foreign key stays at every turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.dryrun import plan_acts
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.composite import Composites
from rehearsal.switchover.target.references import count_orphans
from tests.fix_tables import (
    NOW,
    Prepared,
    as_replica,
    deploy,
    difference,
    make_switchover,
    names_of,
    writing,
)
from tests.postgres.switchover.referring import EV, Violation, plan_of, say
from tests.writing import at_work

CHILDREN = f"""
create table public."Line ""items"" all" (
    n bigserial primary key, "event id" bigint not null, touched int not null default 0,
    constraint "line ""fk" foreign key ("event id") references {EV} (id)
);
create table public.gone (n int primary key, event bigint references {EV} (id) on delete cascade);
create table public.emptied (n int primary key, event bigint references {EV} (id) on delete set null);
insert into public."Line ""items"" all" ("event id") select 1 + n % 3000 from generate_series(1, 9000) as n;
insert into public.gone values (1, 3100), (2, 3101), (3, null);
insert into public.emptied values (1, 3200), (2, 3201);
create function public.touch() returns trigger language plpgsql as
    'begin new.touched := old.touched + 1; return new; end';
create trigger touch before update on public."Line ""items"" all" for each row execute function public.touch();
"""
NAMES = ['line "fk', "gone_event_fkey", "emptied_event_fkey"]
COLUMN = '"event id_Created At"'
WRONG = f"""
select count(*) from public."Line ""items"" all" as c left join {EV} as p on p.id = c."event id"
where p."Created At" is distinct from c.{COLUMN}
"""


def plan_with(**decisions: str) -> Plan:
    """Return a plan that makes every foreign key composite."""
    chosen = dict.fromkeys(NAMES, "composite") | decisions
    return plan_of(chosen)


@pytest.fixture
def referred(conn: Connection, events: Name) -> Name:
    """The events table with three tables that refer to it."""
    if conn.info.server_version < 150000:
        pytest.skip("composite needs PostgreSQL 15")
    conn.execute(as_query(CHILDREN))
    return events


def keys_of(conn: Connection) -> list[tuple[str, str, bool]]:
    """Return the foreign keys of the referencing tables, in full."""
    query = (
        "select conname, pg_get_constraintdef(oid), convalidated from pg_constraint where contype = 'f' and "
        "conparentid = 0 and conrelid in ('public.gone'::regclass, 'public.emptied'::regclass, "
        '\'public."Line ""items"" all"\'::regclass) order by 1'
    )
    return [tuple(row) for row in conn.execute(query.encode())]


def use(conn: Connection) -> None:
    """Do what each foreign key allows and try what it forbids; ends as it began."""
    with conn.transaction(force_rollback=True):
        for statement in (
            'insert into public."Line ""items"" all" ("event id") values (-1)',
            'update public."Line ""items"" all" set "event id" = -1 where n = 1',
            f"delete from {EV} where id = 10",
        ):
            with pytest.raises(Violation, match="violates foreign key"), conn.transaction():
                say(conn, statement)
        say(conn, f'update {EV} set "Created At" = "Created At" + interval \'40 days\' where id between 10 and 30')
        say(conn, 'insert into public."Line ""items"" all" ("event id") select n from generate_series(10, 40) as n')
        say(conn, f"delete from {EV} where id in (3100, 3200)")
        say(conn, "set constraints all immediate")
        assert [row[0] for row in conn.execute("select n from public.gone order by n")] == [2, 3]
        assert conn.execute("select n, event from public.emptied order by n").fetchall() == [(1, None), (2, 3201)]


@contextmanager
def referring(database: Database) -> Iterator[list[int]]:
    """Refer to rows and move them all the while; each writer only to rows that nobody deletes."""
    done = [0]

    def work(stop: threading.Event) -> None:
        with connect(database, role="referring") as conn:
            number = 0
            while not stop.is_set():
                number += 1
                row = 1 + number % 3000
                try:
                    say(conn, f'insert into public."Line ""items"" all" ("event id") values ({row})')
                    say(conn, f'update {EV} set "Created At" = "Created At" + interval \'1 day\' where id = {row}')
                    done[0] += 1
                except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                    continue

    with at_work(work):
        yield done


def test_a_real_foreign_key_stays_at_every_turn(
    database: Database, conn: Connection, sql_files: SqlFiles, referred: Name, run: Run
) -> None:
    """Under writers that refer and move: valid composite keys after each swap, the original ones after the way back."""
    plan, names = plan_with(), names_of(referred)
    deploy(conn, sql_files, plan)
    before = keys_of(conn)
    work = make_switchover(database, sql_files, plan, run)
    with writing(database, referred, writers=1) as writers, referring(database) as done:
        work.prepare()
        for turn in (work.switch, work.roll_back, work.switch):
            assert turn()
            assert not turn()
            assert all(validated for _, _, validated in keys_of(conn))
            assert (keys_of(conn) == before) == (Catalog(conn, sql_files).read(referred).kind == "r")
    assert done[0] > 0
    assert writers.lost(conn, referred) == []
    assert scalar(conn, WRONG.encode()) == 0
    assert keys_of(conn)[-1][1] == (
        f'FOREIGN KEY ("event id", {COLUMN}) REFERENCES {EV}(id, "Created At") ON UPDATE CASCADE'
    )
    use(conn)
    work.follow()
    assert difference(conn, referred, names.retired) == (0, 0)
    found = state.read_migration(conn, referred).detail.references
    assert [count_orphans(conn, sql_files, finding, referred)[0] for finding in found] == [0, 0, 0]


@pytest.mark.usefixtures("referred")
def test_preparation_may_be_repeated_and_mends_what_is_wrong(conn: Connection, prepared: Prepared) -> None:
    """A killed fill goes on; a key that slipped past the triggers is corrected before it is validated."""
    work = prepared(plan_with())
    assert scalar(conn, WRONG.encode()) == 0
    assert scalar(conn, 'select max(touched) from public."Line ""items"" all"') == 0, "an updated_at would have changed"
    use(conn)
    assert again(work, conn) == 0
    with as_replica(conn):
        say(conn, f'update public."Line ""items"" all" set {COLUMN} = null where n < 5')
    assert again(work, conn) == 4

    with as_replica(conn):
        say(conn, f'update public."Line ""items"" all" set {COLUMN} = \'2020-01-01\' where n < 7')
    work.switch()
    assert scalar(conn, WRONG.encode()) == 0
    assert all(validated for _, _, validated in keys_of(conn))


def again(work: Switchover, conn: Connection) -> int:
    """Run the preparation once more."""
    return Composites(work.files, work.plan, work.spec).prepare(conn, lambda _: None)


def test_what_cannot_be_composite_is_refused(
    conn: Connection, sql_files: SqlFiles, referred: Name, prepared: Prepared
) -> None:
    """Deferrable and own keys; and one that was made after the copy stops the swap."""
    say(conn, f"create table public.late (event bigint constraint late_fk references {EV} (id) deferrable)")
    say(conn, f"alter table {EV} add column parent bigint constraint own_fk references {EV} (id)")
    found = run_preflight(conn, sql_files, plan_with(late_fk="composite", own_fk="composite"))
    assert [finding.remedy for finding in found if finding.severity == "blocker"] == ["make it loose"] * 2
    say(conn, "drop table public.late")
    say(conn, f"alter table {EV} drop column parent")

    work = prepared(plan_with(new_fk="composite"))
    say(conn, f"create table public.new_one (event bigint constraint new_fk references {EV} (id))")
    with pytest.raises(PreconditionError, match="made since the copy"):
        work.switch()
    assert state.read_migration(conn, referred).state == state.FOLLOWING


@pytest.mark.usefixtures("referred")
def test_dry_run_prints_the_preparation(conn: Connection, sql_files: SqlFiles) -> None:
    """The column, the fill and the foreign key that the swap makes."""
    acts = {act.step: act.sql for act in plan_acts(conn, sql_files, plan_with(), NOW)}

    assert "add column if not exists" in acts['partition key for foreign key line "fk of public.Line "items" all']
    assert "is distinct from" in acts["fill it, the first blocks"]
    assert "on update cascade not valid" in acts["swap"]
