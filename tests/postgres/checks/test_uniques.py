"""Unique indexes without the key: decided in the plan, built as decided, and duplicates are looked for."""

from __future__ import annotations

import psycopg
import pytest

from rehearsal.catalog.findings import Finding
from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.duplicates import Duplicates, find_duplicates, leaf_statements
from rehearsal.checks.inspection import inspect
from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.fix_tables import EVENTS, Prepared, deploy, difference, make_plan, make_switchover, names_of, writing

KEY = "Created At"
UNIQUES = """
alter table public."We""ird Events" add column "ref no" text, add column seq int;
update public."We""ird Events" set "ref no" = 'r' || id, seq = id;
alter table public."We""ird Events" add constraint "ref ""no" unique ("ref no") include (note);
create unique index "lower ref" on public."We""ird Events" (lower("ref no") desc, "unit id") where amount > 3;
create unique index seqs on public."We""ird Events" (seq);
"""
DECISIONS = {'ref "no': "add-key", "lower ref": "add-key", "seqs": "per-partition"}


def plan_with(strategy: str = "swap", uniques: dict[str, str] | None = None) -> Plan:
    """Return a plan with decisions for the unique indexes."""
    decisions = DECISIONS if uniques is None else uniques
    table = {"name": EVENTS, "key": KEY, "default_partition": True, "marker": "note", "uniques": decisions}
    return make_plan(strategy, tables=[table])


@pytest.fixture
def unique_events(conn: Connection, events: Name) -> Name:
    """The events table with three unique indexes that lack the key."""
    conn.execute(as_query(UNIQUES))
    return events


def blockers(conn: Connection, files: SqlFiles, plan: Plan) -> list[Finding]:
    """Return what preflight refuses."""
    return [finding for finding in run_preflight(conn, files, plan) if finding.severity == "blocker"]


def indexes_of(conn: Connection, files: SqlFiles, table: Name) -> dict[str, str]:
    """Return the unique indexes of a table but its primary key, from the access method on."""
    found = Catalog(conn, files).read(table).indexes
    return {
        finding.name: finding.definition.partition(" USING ")[2]
        for finding in found
        if finding.is_unique and not finding.is_primary
    }


def probe(conn: Connection, files: SqlFiles, source: Name, target: Name) -> dict[str, Duplicates]:
    """Look for duplicates on the target."""
    catalog = Catalog(conn, files)
    found = find_duplicates(conn, files, catalog.read(source), catalog.read(target), KEY)
    return {finding.name: finding for finding in found}


@pytest.mark.usefixtures("unique_events")
def test_undecided_and_unknown_names_are_refused(conn: Connection, sql_files: SqlFiles) -> None:
    """Each index without a decision is named with both ways out; a decision for nothing is an error too."""
    found = blockers(conn, sql_files, plan_with(uniques={"seqs": "add-key", "no such": "add-key"}))

    assert {finding.id: finding.condition for finding in found if finding.id == "unique-unknown"} == {
        "unique-unknown": "uniques names no such"
    }
    undecided = [finding for finding in found if finding.id == "unique-without-key"]
    assert sorted(finding.subject.partition(EVENTS)[2] for finding in undecided) == [" lower ref", ' ref "no']
    assert all('"add-key"' in finding.remedy and '"per-partition"' in finding.remedy for finding in undecided)
    assert blockers(conn, sql_files, plan_with()) == []


@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_decided_indexes_are_built_and_come_back_as_they_were(
    database: Database, conn: Connection, sql_files: SqlFiles, unique_events: Name, run: Run, strategy: str
) -> None:
    """add-key: unique with the key on the parent; per-partition: as it is, on each leaf; the source's never change."""
    plan, names = plan_with(strategy), names_of(unique_events)
    deploy(conn, sql_files, plan)
    before = Catalog(conn, sql_files).read(unique_events).indexes
    work = make_switchover(database, sql_files, plan, run)
    with writing(database, unique_events, writers=2) as writers:
        work.prepare()
        work.switch()
    assert writers.lost(conn, unique_events) == []
    swapped = strategy == "swap"
    source, target = (names.retired, unique_events) if swapped else (unique_events, names.target)
    parts = {name.removesuffix("_partitioned"): text for name, text in indexes_of(conn, sql_files, target).items()}
    assert parts == {
        'ref "no': 'btree ("ref no", "Created At") INCLUDE (note)',
        "lower ref": 'btree (lower("ref no") DESC, "unit id", "Created At") WHERE (amount > (3)::numeric)',
    }
    catalog = Catalog(conn, sql_files)
    for leaf in catalog.read(target).partitions:
        assert "btree (seq)" in indexes_of(conn, sql_files, leaf.name).values()
    found = inspect(conn, sql_files, plan.tables[0], catalog.read(source), catalog.read(target))
    assert [finding.problems for finding in found if finding.check == "indexes"] == [()]
    if swapped:
        work.roll_back()
        assert Catalog(conn, sql_files).read(unique_events).indexes == before
        work.switch()
        work.follow()
    assert difference(conn, source, target) == (0, 0)
    assert all(repeated.sets == 0 for repeated in probe(conn, sql_files, source, target).values())


def test_structure_misses_an_index_of_a_single_leaf(
    database: Database, conn: Connection, sql_files: SqlFiles, unique_events: Name, run: Run
) -> None:
    """The witness of the check above: one leaf without its unique index is a problem."""
    plan, names = plan_with("dual-write"), names_of(unique_events)
    deploy(conn, sql_files, plan)
    make_switchover(database, sql_files, plan, run).prepare()
    catalog = Catalog(conn, sql_files)
    leaf = catalog.read(names.target).partitions[0].name
    name = next(index for index, text in indexes_of(conn, sql_files, leaf).items() if text == "btree (seq)")
    conn.execute(f'drop index public."{name.replace(chr(34), chr(34) * 2)}"'.encode())

    found = inspect(conn, sql_files, plan.tables[0], catalog.read(unique_events), catalog.read(names.target))
    problems = [problem for finding in found for problem in finding.problems if "index" in finding.check]
    assert len(problems) == 1
    assert "nothing valid like seqs (unique btree (seq))" in problems[0]


def test_duplicates_over_partitions_are_found_and_block_the_way_back_by_name(
    conn: Connection, sql_files: SqlFiles, unique_events: Name, prepared: Prepared
) -> None:
    """Every unique of the source is probed, its old primary key too; predicates and nulls count as they did there."""
    plan, names = plan_with(), names_of(unique_events)
    work = prepared(plan)
    work.switch()
    clean = probe(conn, sql_files, names.retired, unique_events)
    assert {name.removesuffix("_old"): repeated.sets for name, repeated in clean.items()} == {
        'We"ird Events_pkey': 0, 'ref "no': 0, "lower ref": 0, "seqs": 0,
    }  # fmt: skip

    columns = '(id, "Created At", "unit id", amount, "ref no", seq)'
    table = 'public."We""ird Events"'
    assert scalar(conn, f"select seq from {table} where id = 50".encode()) == 50
    # Under the predicate of "lower ref", or nulls: no duplicates there.
    conn.execute(f"insert into {table} {columns} values (50, '2026-03-01', 1, 2, 'R50', 50)".encode())
    conn.execute(f"insert into {table} {columns} values (9001, '2026-03-01', 1, 9, null, null)".encode())
    conn.execute(f"insert into {table} {columns} values (9002, '2026-01-03', 1, 9, null, null)".encode())
    found = {
        name.removesuffix("_old"): repeated
        for name, repeated in probe(conn, sql_files, names.retired, unique_events).items()
    }
    assert {name: repeated.sets for name, repeated in found.items()} == {
        'We"ird Events_pkey': 1, 'ref "no': 0, "lower ref": 0, "seqs": 1,
    }  # fmt: skip
    assert found["seqs"].examples == ("(50)",)
    conn.execute(f"insert into {table} {columns} select 9003, '2026-03-02', \"unit id\", 9, upper(\"ref no\"), 9003 "
                 f"from {table} where id = 60 and \"Created At\" < '2026-02-01'".encode())  # fmt: skip
    conn.execute(f"update {table} set amount = 9 where id in (60, 9003)".encode())
    found = {
        name.removesuffix("_old"): repeated
        for name, repeated in probe(conn, sql_files, names.retired, unique_events).items()
    }
    assert {name: repeated.sets for name, repeated in found.items()} == {
        'We"ird Events_pkey': 1, 'ref "no': 0, "lower ref": 1, "seqs": 1,
    }  # fmt: skip
    with pytest.raises(StepFailed, match="duplicate key"):
        work.roll_back()
    conn.execute(f"delete from {table} where id = 9003 or (id = 50 and seq = 50 and \"ref no\" = 'R50')".encode())
    assert work.roll_back()
    assert difference(conn, unique_events, names.target) == (0, 0)


def test_a_later_leaf_gets_the_unique_index_too(
    database: Database, conn: Connection, sql_files: SqlFiles, unique_events: Name, run: Run
) -> None:
    """No parent hands it down, so whoever makes a leaf asks for its statements."""
    plan = plan_with()
    deploy(conn, sql_files, plan)
    work = make_switchover(database, sql_files, plan, run)
    source, shape = Catalog(conn, sql_files).read(unique_events), work.shape(conn)
    leaf = ("public", "later leaf")
    conn.execute('create table public."later leaf" (like public."We""ird Events")')
    for statement in leaf_statements(source, shape, leaf):
        conn.execute(as_query(statement))

    assert list(indexes_of(conn, sql_files, leaf).values()) == ["btree (seq)"]
    conn.execute('insert into public."later leaf" select * from public."We""ird Events" limit 5')
    with pytest.raises(psycopg.errors.UniqueViolation, match=r"\(seq\)="):
        conn.execute('insert into public."later leaf" select * from public."We""ird Events" limit 5')


@pytest.mark.usefixtures("unique_events")
def test_an_undecided_index_stops_the_build_too(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run
) -> None:
    """Made after preflight, it is refused when indexes are planned, with the plan's word for it."""
    plan = plan_with(uniques={"seqs": "add-key", "lower ref": "add-key"})
    deploy(conn, sql_files, plan)
    with pytest.raises(PreconditionError, match="decide for it in the plan"):
        make_switchover(database, sql_files, plan, run).prepare()
