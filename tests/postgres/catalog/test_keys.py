"""Every kind of partition key and of primary key, switched over under writers: forward, back, forward again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rehearsal.catalog.tables import Catalog
from rehearsal.checks.inspection import inspect
from rehearsal.checks.preflight import run_preflight
from rehearsal.checks.triggers import run_trigger_tests
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.parity import compare, parity_text
from rehearsal.switchover.table import Switchover
from tests.fix_keys import METHODS, PRIMARY_KEYS, SPECIMENS, TABLE, Specimen, deploy_now, writing_keys
from tests.fix_tables import make_switchover

STRATEGIES = ("swap", "dual-write")
# A quarter of a minute each and more: CI switches every partition key once, by the strategies in turns, and the primary
# keys that compare in a way of their own; `./inv test --long` switches all. The trigger tests below try all of them by
# both strategies.
CASES = [
    pytest.param(method, strategy, marks=[pytest.mark.hours] if (number + turn) % 2 else [])
    for number, method in enumerate(METHODS)
    for turn, strategy in enumerate(STRATEGIES)
]
ALIKE = {"array", "bytea", "domain", "interval and float"}


@pytest.fixture
def specimen(conn: Connection, request: pytest.FixtureRequest) -> Specimen:
    """The table, made and filled."""
    found = SPECIMENS[request.param]
    with conn.transaction():
        conn.execute("set local search_path = public, pg_catalog")
        conn.execute(as_query(found.setup))
    return found


def verify(database: Database, conn: Connection, work: Switchover) -> None:
    """Both tables are equal, each row in its leaf, the comparison has proved that it sees, nothing is missing."""
    names, catalog = work.names, Catalog(conn, work.files)
    swapped = state.read_migration(conn, names.source).state == state.SWAPPED
    source = catalog.read(names.retired if swapped else names.source)
    target = catalog.read(names.source if swapped else names.target)
    report = compare(database, work.files, source, target, work.spec.key)
    assert report.is_equal, parity_text([report])
    assert report.self_test, report.self_test_note
    assert sum(leaf.source_count for leaf in report.leaves) > 0
    problems = [finding for finding in inspect(conn, work.files, work.spec, source, target) if not finding.passed]
    assert problems == []


@pytest.mark.parametrize(("specimen", "strategy"), CASES, indirect=["specimen"])
def test_each_method_and_type_of_key_is_switched_exactly(
    database: Database, conn: Connection, sql_files: SqlFiles, specimen: Specimen, run: Run, strategy: str
) -> None:
    """Nothing to object before; applied twice; under writers there, back and there again; nothing is lost."""
    plan = specimen.plan(strategy)
    assert [finding for finding in run_preflight(conn, sql_files, plan) if finding.severity == "blocker"] == []
    deployed = deploy_now(conn, sql_files, plan)
    assert deployed == [change.body for change in render_changes(conn, sql_files, plan, datetime.now(UTC))]
    there_and_back(database, conn, make_switchover(database, sql_files, plan, run), specimen)


@pytest.mark.parametrize(
    "specimen",
    [pytest.param(kind, marks=[pytest.mark.hours] if kind in ALIKE else []) for kind in PRIMARY_KEYS],
    indirect=True,
)
def test_each_type_of_primary_key_is_switched_exactly(
    database: Database, conn: Connection, sql_files: SqlFiles, specimen: Specimen, run: Run
) -> None:
    """Logs, replay and parity tell rows apart as the primary key does."""
    plan = specimen.plan("swap")
    deploy_now(conn, sql_files, plan)
    there_and_back(database, conn, make_switchover(database, sql_files, plan, run), specimen)


def there_and_back(database: Database, conn: Connection, work: Switchover, specimen: Specimen) -> None:
    """Go forward, back and forward again under writers, and verify at each rest."""
    with writing_keys(database, specimen) as writers:
        assert work.prepare()
        assert not work.prepare()
        assert work.switch()
        assert not work.switch()
    assert writers.did_everything, writers.failed
    assert set(writers.failed) <= {"40001", "40P01"}
    work.follow()
    verify(database, conn, work)
    with writing_keys(database, specimen, first=20_000) as later:
        work.roll_back()
    assert later.acknowledged
    work.follow()
    verify(database, conn, work)
    if work.plan.strategy == "dual-write":
        with writing_keys(database, specimen, work.names.target, first=60_000) as on_target:
            work.follow()
        assert on_target.acknowledged
    work.switch()
    work.follow()
    verify(database, conn, work)
    assert writers.lost(conn, TABLE) == [] == later.lost(conn, TABLE)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("specimen", SPECIMENS, indirect=True)
def test_trigger_tests_try_each_kind_of_key(
    conn: Connection, sql_files: SqlFiles, specimen: Specimen, strategy: str
) -> None:
    """Every class that there is for the key is tried, and passes; no type makes the tests themselves fail."""
    plan = specimen.plan(strategy)
    if specimen.primary in ("place", "path"):
        with pytest.raises(CannotSee, match="no new primary key can be made"):
            run_trigger_tests(conn, sql_files, plan, plan.tables[0], TABLE)
        return
    results = {result.name: result for result in run_trigger_tests(conn, sql_files, plan, plan.tables[0], TABLE)}
    assert {name: result.observed for name, result in results.items() if not result.passed} == {}
    assert {"insert", "update", "key move", "delete", "disabled trigger"} <= set(results)
    assert ("out of range" in results) == (plan.tables[0].method == "range" and "smallint" not in specimen.columns)
