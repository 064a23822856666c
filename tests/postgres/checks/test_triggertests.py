"""Trigger tests pass on a good mirror, name the class on a bad one, and leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.checks.triggers import TriggerTest, results_text, run_trigger_tests
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.fix_tables import make_plan

MUTANTS = {
    "delete": (r"if tg_op <> 'INSERT' then\n.*?end if;", ""),
    "truncate": ("raise exception 'TRUNCATE", "raise notice 'TRUNCATE"),
    "replica role": ("enable always trigger", "enable trigger"),
}
SYNC_MUTANTS = {
    "update": ("do update set {{ assignments | raw }};", "do nothing;"),
    "key move": (
        "delete from {{ target | ident }} as t where",
        "delete from {{ target | ident }} as t where false and",
    ),
    "reverse direction": (
        "if tg_op <> 'DELETE' then\n        insert into {{ source | ident }}",
        "if false then\n        insert into {{ source | ident }}",
    ),
}


def _run(conn: Connection, files: SqlFiles, strategy: str, events: Name) -> dict[str, TriggerTest]:
    plan = make_plan(strategy)
    results = run_trigger_tests(conn, files, plan, plan.tables[0], events)
    return {result.name: result for result in results}


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_all_classes_pass_and_nothing_stays(conn: Connection, sql_files: SqlFiles, events: Name, strategy: str) -> None:
    """Every class has touched rows, and the scratch schema is gone."""
    results = _run(conn, sql_files, strategy, events)

    assert {name: result.observed for name, result in results.items() if result.passed is not True} == {}
    assert len(results) >= 12
    assert re.search(r"^PASS .* key move", results_text(list(results.values())), re.MULTILINE)
    assert conn.execute("select count(*) from pg_namespace where nspname like 'rehearsal_trigger%'").fetchone() == (0,)
    assert conn.execute("select count(*) from pg_proc where proname like '%rehearsal_trigger%'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [*(("swap", mutant) for mutant in MUTANTS), *(("dual-write", mutant) for mutant in SYNC_MUTANTS)],
)
def test_mutant_fails_its_class(
    conn: Connection, sql_files: SqlFiles, events: Name, tmp_path: Path, strategy: str, name: str
) -> None:
    """A defect that is put into the mirror fails the class that it breaks."""
    pattern, replacement = {**MUTANTS, **SYNC_MUTANTS}[name]
    pattern = pattern if name in MUTANTS else re.escape(pattern)
    results = _run(conn, _mutated(sql_files, tmp_path, pattern, replacement), strategy, events)

    assert results[name].passed is False, results[name]


def _mutated(sql_files: SqlFiles, folder: Path, pattern: str, replacement: str) -> SqlFiles:
    """Return the SQL files with a defect in the mirror."""
    for path in sql_files.folder.rglob("*.sql*"):
        copy = folder / path.relative_to(sql_files.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    mirror = folder / "switchover/target/mirror.sql.j2"
    text = mirror.read_text()
    mirror.write_text(re.sub(pattern, lambda _: replacement, text, flags=re.DOTALL))
    assert mirror.read_text() != text, "the mutation does not match the template any more"
    return SqlFiles(folder)


@pytest.fixture
def owner(conn: Connection, events: Name) -> Iterator[None]:
    """A session of the owner of the table, who may not be a replica: as a service hands a database out."""
    database, label = conn.info.dbname, sql.Identifier(*events).as_string(conn)
    conn.execute(as_query(OWNER.format(database=database, schema=events[0], table=label)))
    conn.execute("set session authorization replica_never")
    yield
    conn.execute("reset session authorization")
    conn.execute("drop owned by replica_never; drop role replica_never")


OWNER = """
create role replica_never;
grant create on database "{database}" to replica_never;
grant usage, create on schema {schema} to replica_never;
grant all on schema rehearsal to replica_never; grant all on all tables in schema rehearsal to replica_never;
alter table {table} owner to replica_never
"""


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
@pytest.mark.usefixtures("owner")
def test_a_role_that_may_not_be_a_replica_reads_what_it_cannot_try(
    conn: Connection, sql_files: SqlFiles, events: Name, strategy: str
) -> None:
    """The catalog says whether the trigger fires always, so nothing is left unseen."""
    results = _run(conn, sql_files, strategy, events)

    assert {name: result.observed for name, result in results.items() if result.passed is not True} == {}
    assert "is enabled always; read, not tried: permission denied" in results["replica role"].observed


@pytest.mark.usefixtures("owner")
def test_a_trigger_that_a_replica_passes_by_fails_where_it_is_only_read(
    conn: Connection, sql_files: SqlFiles, events: Name, tmp_path: Path
) -> None:
    """The same defect as where it is tried."""
    results = _run(conn, _mutated(sql_files, tmp_path, *MUTANTS["replica role"]), "swap", events)

    assert results["replica role"].passed is False
    assert "is O, not A (always)" in results["replica role"].observed
