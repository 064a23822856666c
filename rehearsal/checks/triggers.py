"""Trigger tests: does the mirror that is installed do what it must, class by class?

Owns the PASS/FAIL lines of `trigger_test_results.txt`. The SQL that was deployed is rendered once more around a copy
of the table's structure in a scratch schema, within one transaction that is rolled back: the live tables are only
read (20 sample rows), and nothing stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.checks.trigger_bench import SAMPLE, Bench, copy_row, make_bench
from rehearsal.errors import CannotSee
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.played import play, read_defaults
from rehearsal.postgres.sqlfiles import SqlFiles


@dataclass(frozen=True, slots=True)
class TriggerTest:
    """Result of one class; `passed` is None when the test could not be made."""

    name: str
    table: str
    passed: bool | None
    observed: str

    def line(self) -> str:
        """Return the line of the results file."""
        word = {True: "PASS", False: "FAIL", None: "NOT RUN"}[self.passed]
        return f"{word}  {self.table}  {self.name}: {self.observed}"


class _Failed(Exception):
    """A mirror did not do what it must."""


def _require(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise _Failed(message)


def run_trigger_tests(
    conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, source: Name, *, application: str | None = None
) -> list[TriggerTest]:
    """Run all classes for one table; `source` is its name as an unpartitioned table now.

    They write with the defaults of the role `application`, as the application does: a default that switches the mirror
    off is found here.

    Locks: ACCESS SHARE on the source. The transaction is rolled back whatever happens.

    Raises:
        CannotSee: the scratch pair cannot be made.
    """
    results: list[TriggerTest] = []
    try:
        with conn.transaction(force_rollback=True):
            bench = make_bench(conn, files, plan, spec, source)
            defaults = read_defaults(conn, application) if application else []
            for name, test in _tests(bench):
                results.append(_run_one(bench, name, test, defaults))
    except psycopg.Error as exc:
        message = f"trigger tests of {spec.name}: the scratch pair cannot be made: {exc}"
        raise CannotSee(message) from exc
    return results


def _run_one(bench: Bench, name: str, test: Callable[[Bench], str], defaults: list[tuple[str, str]]) -> TriggerTest:
    try:
        with bench.conn.transaction(force_rollback=True):
            play(bench.conn, defaults)
            observed = test(bench)
    except _Failed as exc:
        return TriggerTest(name, bench.spec.name, passed=False, observed=str(exc))
    except psycopg.errors.InsufficientPrivilege as exc:
        return TriggerTest(
            name, bench.spec.name, passed=None, observed=f"no right to test it: {exc.diag.message_primary}"
        )
    except psycopg.Error as exc:
        return TriggerTest(name, bench.spec.name, passed=False, observed=f"{exc.sqlstate}: {exc.diag.message_primary}")
    return TriggerTest(name, bench.spec.name, passed=True, observed=observed)


def _equal(bench: Bench, what: str, touched: int) -> str:
    """Require that something happened and that both tables are equal now."""
    bench.converge()
    _require(touched > 0, f"{what} touched no row, so it proves nothing")
    differing = bench.difference()
    _require(differing == 0, f"{what} of {touched} rows: {differing} rows differ between source and target")
    return f"{touched} rows, both tables equal"


NEWEST = "(select {pk} from {t} order by {pk} desc limit 1)"


def _insert(bench: Bench) -> str:
    return _equal(bench, "insert", copy_row(bench, 1))


def _bulk(bench: Bench) -> str:
    touched = copy_row(bench, SAMPLE // 2)
    return _equal(bench, "bulk insert and update", touched + bench.run("update {t} set {change} = {change}"))


def _update(bench: Bench) -> str:
    touched = bench.run("update {t} set {change} = %s where {pk} = " + NEWEST, "changed")
    return _equal(bench, "update", touched)


def _null(bench: Bench) -> str:
    free = bench.nullable
    query = sql.SQL("update {t} set {c}").format(
        t=bench.source, c=sql.SQL(", ").join(sql.SQL("{} = null").format(sql.Identifier(column)) for column in free)
    )
    return _equal(bench, f"null in {', '.join(free)}", bench.conn.execute(query).rowcount)


def _move(bench: Bench) -> str:
    touched = bench.run("update {t} set {key} = {moved} where {pk} = " + NEWEST)
    return _equal(bench, "key move to another partition", touched)


def _delete(bench: Bench) -> str:
    return _equal(bench, "delete", bench.run("delete from {t} where {pk} = " + NEWEST))


def _upsert(bench: Bench) -> str:
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in bench.shape.columns)
    primary = sql.SQL(", ").join(sql.Identifier(column) for column in bench.shape.primary)
    query = sql.SQL(
        "insert into {t} ({c}) overriding system value select {c} from {t} on conflict ({p}) do "
        "update set {change} = %s"
    ).format(t=bench.source, c=columns, p=primary, change=sql.Identifier(bench.change))
    return _equal(bench, "upsert", bench.conn.execute(query, ["upserted"]).rowcount)


def _out_of_range(bench: Bench) -> str:
    move = "update {t} set {key} = {beyond} where {pk} = " + NEWEST
    if bench.has_default:
        return _equal(bench, "key out of range, to the default partition", bench.run(move))
    try:
        with bench.conn.transaction():
            bench.run(move)
            bench.converge()
    except psycopg.errors.CheckViolation as exc:
        return f"refused, as no partition takes it: {exc.diag.message_primary}"
    message = "a key out of range was accepted although no partition takes it"
    raise _Failed(message)


def _savepoint(bench: Bench) -> str:
    before = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    with bench.conn.transaction(force_rollback=True):
        touched = copy_row(bench, 3)
        bench.converge()
        during = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    _require(during == before + touched, "the write was not mirrored before its savepoint was rolled back")
    after = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    _require(after == before, f"{after - before} rows stayed in the target after ROLLBACK TO SAVEPOINT")
    return _equal(bench, "write after a rolled-back savepoint", copy_row(bench, 1))


def _truncate(bench: Bench) -> str:
    try:
        with bench.conn.transaction():
            bench.run("truncate {t}")
    except psycopg.errors.ObjectInUse as exc:
        return f"refused: {exc.diag.message_primary}"
    message = "TRUNCATE was accepted, and row triggers do not see it"
    raise _Failed(message)


def _disabled(bench: Bench) -> str:
    """Prove that these tests see a trigger that is off: the write must be missing from the target."""
    trigger = sql.Identifier(_mirror_trigger(bench))
    bench.conn.execute(sql.SQL("alter table {} disable trigger {}").format(bench.source, trigger))
    touched = copy_row(bench, 2)
    bench.converge()
    differing = bench.difference()
    _require(differing == touched, f"with the trigger off {differing} rows differ, and {touched} should")
    return f"with the trigger off {differing} of {touched} writes are seen to be missing"


def _replica_role(bench: Bench) -> str:
    try:
        with bench.conn.transaction():
            bench.conn.execute("set local session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege as exc:
        return _fires_always(bench, str(exc.diag.message_primary))
    return _equal(bench, "write of a replica-role session", copy_row(bench, 2))


ENABLED = "select max(tgenabled::text) from pg_catalog.pg_trigger where tgrelid = %s::regclass and tgname = %s"


def _fires_always(bench: Bench, reason: str) -> str:
    """Read what a role that may not be a replica cannot try: the server fires for it what is ENABLE ALWAYS."""
    name = _mirror_trigger(bench)
    found = scalar(bench.conn, ENABLED, [bench.source.as_string(bench.conn), name])
    _require(found == "A", f"trigger {name} is {found or 'missing'}, not A (always): a replica's write passes it by")
    return f"trigger {name} is enabled always; read, not tried: {reason}"


def _mirror_trigger(bench: Bench) -> str:
    names = bench.shape.names
    return names.sync_trigger if bench.plan.traits.mirrors else names.capture_trigger


def _reverse(bench: Bench) -> str:
    touched = copy_row(bench, 3, bench.target)
    newest = NEWEST
    touched += bench.run("update {t} set {change} = %s where {pk} = " + newest, "back", table=bench.target)
    if bench.moved:
        touched += bench.run("update {t} set {key} = {moved} where {pk} = " + newest, table=bench.target)
    oldest = "(select {pk} from {t} order by {pk} limit 1)"
    touched += bench.run("delete from {t} where {pk} = " + oldest, table=bench.target)
    return _equal(bench, "insert, update, key move and delete on the target", touched)


def _tests(bench: Bench) -> list[tuple[str, Callable[[Bench], str]]]:
    tests: list[tuple[str, Callable[[Bench], str]]] = [
        ("insert", _insert),
        ("update", _update),
        ("key move", _move),
        ("delete", _delete),
        ("upsert", _upsert),
        ("bulk", _bulk),
        ("null", _null),
        ("out of range", _out_of_range),
        ("savepoint rollback", _savepoint),
        ("truncate", _truncate),
        ("disabled trigger", _disabled),
        ("replica role", _replica_role),
    ]
    # Every column NOT NULL, one value of a list, no end of a hash: there is no such write to mirror.
    there = {"null": bool(bench.nullable), "key move": bool(bench.moved), "out of range": bool(bench.beyond)}
    tests = [test for test in tests if there.get(test[0], True)]
    if bench.plan.traits.mirrors:
        tests.append(("reverse direction", _reverse))
    return tests


def results_text(results: list[TriggerTest]) -> str:
    """Return the text of `trigger_test_results.txt`, a PASS or FAIL line a test."""
    passed = sum(result.passed is True for result in results)
    failed = sum(result.passed is False for result in results)
    lines = [result.line() for result in results]
    return "\n".join([*lines, f"{passed} passed, {failed} failed, {len(results) - passed - failed} not run", ""])
