"""Each finding of the catalogue appears by the SQL of its entry, and disappears by the SQL that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rehearsal.catalog.findings import Finding
from rehearsal.checks.preflight import run_preflight
from rehearsal.checks.preflight.catalogue import ENTRIES, Entry, Example
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

CASES = [
    pytest.param(entry, entry.example, id=entry.id, marks=[pytest.mark.slow] if entry.id == "wraparound" else [])
    for entry in ENTRIES
    if isinstance(entry.example, Example)
]


def say(conn: Connection, text: str) -> None:
    """Run statements one by one, as psql does: some bear no transaction around them."""
    for statement in text.rstrip(";\n").split(";\n"):
        if statement:
            conn.execute(as_query(statement))


@contextmanager
def roles_taken_back(conn: Connection, example: Example) -> Iterator[None]:
    """A role belongs to the cluster, not to the test's database: where one is made, nothing is committed."""
    if "create role" in example.table:
        with conn.transaction(force_rollback=True):
            yield
    else:
        yield


def look(conn: Connection, files: SqlFiles, entry: Entry, plan: Plan) -> dict[str, Finding]:
    """Return what is found, by id; what is tried is tried only where it is meant."""
    return {finding.id: finding for finding in run_preflight(conn, files, plan, trial=entry.id.startswith("trial"))}


@pytest.mark.parametrize(("entry", "example"), CASES)
def test_each_finding_appears_and_disappears_by_its_sql(
    conn: Connection, sql_files: SqlFiles, entry: Entry, example: Example
) -> None:
    """It is the only one that comes and goes; after the remedy nothing is refused, though one may be warned."""
    version = conn.info.server_version // 10_000
    if not example.since <= version <= example.until:
        pytest.skip(f"is seen on PostgreSQL {example.since} to {example.until}")
    with roles_taken_back(conn, example):
        say(conn, example.table)
        say(conn, example.bad_sql)
        bad = look(conn, sql_files, entry, Plan.model_validate(example.plan()))
        say(conn, example.good_sql)
        good = look(conn, sql_files, entry, Plan.model_validate(example.plan(is_mended=True)))

    assert set(bad) - set(good) == {entry.id, *example.along}, (bad, good)
    assert [finding for finding in good.values() if finding.severity == "blocker"] == []
    assert bad[entry.id].severity in entry.severities


def test_most_findings_can_be_seen() -> None:
    """The witness that the list above is not an empty one."""
    assert len(CASES) > 70
