"""Foreign keys that point at the table: replaced at the swap as the plan says, restored by the way back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.dryrun import plan_acts
from rehearsal.switchover.target.references import count_orphans, read_references
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
from tests.waiting import eventually

CHILDREN = f"""
create table public."Kept ""by"" none" (
    n int primary key, "event id" bigint not null,
    constraint "kept ""fk" foreign key ("event id") references {EV} (id)
);
create table public.gone (n int primary key, event bigint references {EV} (id) on delete cascade on update cascade);
create table public.emptied (
    n int primary key, event bigint references {EV} (id) on delete set null on update set null
);
create table public.fallen (
    n int primary key, event bigint default 1 references {EV} (id) on delete set default on update set default
);
create table public.late (n int primary key, event bigint references {EV} (id) deferrable initially deferred);
alter table {EV} add column parent bigint constraint own_parent references {EV} (id);
insert into public."Kept ""by"" none" values (1, 10);
insert into public.gone values (1, 20), (2, 21);
insert into public.emptied values (1, 30), (2, 31);
insert into public.fallen values (1, 40), (2, 41);
insert into public.late values (1, 50), (2, null);
update {EV} set parent = 60 where id = 61;
"""
NAMES = ['kept "fk', "gone_event_fkey", "emptied_event_fkey", "fallen_event_fkey", "late_event_fkey", "own_parent"]
WAITS = "select exists (select from pg_locks where pid = %s and not granted)"


def plan_with(decisions: dict[str, str] | None = None, strategy: str = "swap") -> Plan:
    """Return a plan with decisions for the foreign keys."""
    chosen = dict.fromkeys(NAMES, "loose") if decisions is None else decisions
    return plan_of(chosen, strategy)


@pytest.fixture
def referred(conn: Connection, events: Name) -> Name:
    """The events table with foreign keys of every action that point at it, one of them its own."""
    conn.execute(as_query(CHILDREN))
    return events


def blockers(conn: Connection, files: SqlFiles, plan: Plan) -> list[Finding]:
    """Return what preflight refuses."""
    return [finding for finding in run_preflight(conn, files, plan) if finding.severity == "blocker"]


def keys_of(conn: Connection) -> list[tuple[str, str, bool]]:
    """Return every foreign key of the database that stands on no leaf, in full."""
    query = (
        "select conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid), convalidated from pg_constraint "
        "where contype = 'f' and conparentid = 0 and connamespace = 'public'::regnamespace order by 1"
    )
    return [tuple(row) for row in conn.execute(query.encode())]


def leftovers(conn: Connection) -> list[str]:
    """Return functions and triggers of loosened foreign keys."""
    query = (
        "select proname from pg_proc where proname like 'loose%' union all "
        "select tgname from pg_trigger where tgname like 'loose%'"
    )
    return [row[0] for row in conn.execute(query.encode())]


def use(conn: Connection) -> None:
    """Do what each foreign key allows and try what it forbids; ends as it began."""
    with conn.transaction(force_rollback=True):
        for statement in (
            'insert into public."Kept ""by"" none" values (9, -1)',
            'update public."Kept ""by"" none" set "event id" = -1',
            f"delete from {EV} where id = 10",
            f"update {EV} set id = -10 where id = 10",
            f"update {EV} set parent = -1 where id = 70",
            f"delete from {EV} where id = 60",
        ):
            with pytest.raises(Violation, match="violates foreign key"), conn.transaction():
                say(conn, statement)
        say(conn, f"update {EV} set \"Created At\" = '2026-03-09' where id in (10, 20, 30, 40, 60)")
        say(conn, f"delete from {EV} where id in (20, 30, 40)")
        say(conn, f"update {EV} set id = -id where id in (21, 31, 41)")
        say(conn, f"delete from {EV} where id in (60, 61)")
        seen = "select n, event from public.{} order by n"
        got = {table: conn.execute(seen.format(table).encode()).fetchall() for table in ("gone", "emptied", "fallen")}
        assert got == {"gone": [(2, -21)], "emptied": [(1, None), (2, None)], "fallen": [(1, 1), (2, 1)]}
    with conn.transaction(force_rollback=True):
        say(conn, "insert into public.late values (9, -5)")
        say(conn, f'insert into {EV} (id, "Created At", "unit id", amount) values (-5, \'2026-02-02\', 1, 1)')
        say(conn, f"delete from {EV} where id = 50")
        say(conn, f'insert into {EV} (id, "Created At", "unit id", amount) values (50, \'2026-02-07\', 1, 1)')
        say(conn, "set constraints all immediate")
    for wrong in ("insert into public.late values (9, -5)", f"delete from {EV} where id = 50"):
        conn.execute("begin")
        say(conn, wrong)
        with pytest.raises(Violation, match="late_event_fkey"):
            conn.execute("commit")


def test_loose_keys_do_what_foreign_keys_did_and_come_back_exactly(
    database: Database, conn: Connection, sql_files: SqlFiles, referred: Name, run: Run
) -> None:
    """The same uses before, after the swap, after the way back, after the next swap, under writers; nothing is left."""
    plan, names = plan_with(), names_of(referred)
    deploy(conn, sql_files, plan)
    before = keys_of(conn)
    use(conn)
    work = make_switchover(database, sql_files, plan, run)
    catalog = Catalog(conn, sql_files)
    with writing(database, referred, writers=2) as writers:
        work.prepare()
        for turn, other in ((work.switch, names.retired), (work.roll_back, names.target), (work.switch, names.retired)):
            assert turn()
            assert not turn()
            assert read_references(conn, sql_files, catalog.read(other).oid) == ()
            use(conn)
            if other == names.target:
                assert keys_of(conn) == before
                assert leftovers(conn) == []
    assert writers.lost(conn, referred) == []
    assert set(keys_of(conn)) < set(before)
    work.follow()
    assert difference(conn, referred, names.retired) == (0, 0)
    found = state.read_migration(conn, referred).detail.references
    assert len(found) == len(NAMES)
    assert {count_orphans(conn, sql_files, finding, referred)[0] for finding in found} == {0}


def test_delete_and_reference_at_the_same_time_end_in_one_order(
    database: Database, conn: Connection, sql_files: SqlFiles, referred: Name, prepared: Prepared
) -> None:
    """Whoever is second waits for the first and sees what it did, in both orders."""
    work = prepared(plan_with())
    work.switch()
    insert = 'insert into public."Kept ""by"" none" values ({}, {})'
    for first, second in ((insert.format(70, 100), 100), (101, insert.format(71, 101))):
        statements = [act if isinstance(act, str) else f"delete from {EV} where id = {act}" for act in (first, second)]
        with (
            ThreadPoolExecutor(1) as pool,
            connect(database, autocommit=False) as early,
            connect(database, role="second") as other,
        ):
            early.execute(statements[0].encode())
            late = pool.submit(other.execute, statements[1].encode())
            its_lock = partial(scalar, conn, WAITS, [other.info.backend_pid])
            eventually(its_lock, 60, unless=late.done)
            early.commit()
            with pytest.raises(Violation, match='violates foreign key "kept ""fk"'):
                late.result(60)
    for one_reference in state.read_migration(conn, referred).detail.references:
        assert count_orphans(conn, sql_files, one_reference, referred) == (0, [])


def test_orphans_are_found_and_named_by_the_way_back(
    conn: Connection, sql_files: SqlFiles, referred: Name, prepared: Prepared
) -> None:
    """What triggers cannot see is counted; the way back restores the key and says that it does not hold."""
    work = prepared(plan_with())
    work.switch()
    with as_replica(conn):
        conn.execute("insert into public.gone values (7, -77)")
    found = {reference.name: reference for reference in state.read_migration(conn, referred).detail.references}
    assert count_orphans(conn, sql_files, found["gone_event_fkey"], referred) == (1, ["-77"])

    with pytest.raises(StepFailed, match="gone_event_fkey"):
        work.roll_back()
    assert Catalog(conn, sql_files).read(referred).kind == "r"
    conn.execute("delete from public.gone where event = -77")
    assert work.roll_back()
    assert all(validated for _, _, validated in keys_of(conn))


def test_undecided_and_unknown_keys_are_refused_in_preflight_and_at_the_swap(
    conn: Connection, sql_files: SqlFiles, referred: Name, prepared: Prepared
) -> None:
    """Each is named with its remedies; one that is made after preflight stops the swap and changes nothing."""
    found = blockers(conn, sql_files, plan_with({"own_parent": "loose", "no such": "loose"}))
    assert len([finding for finding in found if finding.id == "referenced"]) == len(NAMES) - 1
    assert all('"loose"' in finding.remedy for finding in found if finding.id == "referenced")
    assert [finding.condition for finding in found if finding.id == "reference-unknown"] == ["references names no such"]

    plan = plan_with()
    assert blockers(conn, sql_files, plan) == []
    work = prepared(plan)
    before = keys_of(conn)
    conn.execute(f"create table public.new_one (event bigint constraint new_fk references {EV} (id))".encode())
    with pytest.raises(PreconditionError, match=r"foreign key new_fk of public\.new_one"):
        work.switch()
    conn.execute("drop table public.new_one")
    assert keys_of(conn) == before
    assert state.read_migration(conn, referred).state == state.FOLLOWING


@pytest.mark.usefixtures("referred")
def test_dual_write_leaves_keys_where_they_are(conn: Connection, sql_files: SqlFiles) -> None:
    """What points at the source stays right; the table's own key has no place on the twin; no mirror cascades."""
    found = run_preflight(conn, sql_files, plan_with(strategy="dual-write"))

    assert {finding.id for finding in found if finding.severity == "blocker"} == {"own-reference", "stays-reference"}
    stays = [finding for finding in found if finding.id == "stays-reference"]
    assert len(stays) == len(NAMES) - 1
    assert {finding.severity == "blocker" for finding in stays if "ON DELETE" in finding.condition} == {True}
    assert {finding.severity for finding in stays if "ON DELETE" not in finding.condition} == {"warning"}


@pytest.mark.usefixtures("referred")
def test_dry_run_prints_what_replaces_a_key(conn: Connection, sql_files: SqlFiles) -> None:
    """Triggers, their functions and the locks of the referencing tables."""
    acts = plan_acts(conn, sql_files, plan_with(), NOW)
    text = "\n".join(act.sql for act in acts if act.step == "swap")

    for part in ('lock table "public"."gone"', 'drop constraint "gone_event_fkey"', "raise foreign_key_violation"):
        assert part in text, part
