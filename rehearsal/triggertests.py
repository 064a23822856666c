"""Trigger tests: does the mirror that is installed do what it must, class by class?

Owns the PASS/FAIL lines of `trigger_test_results.txt`. The SQL that was deployed is rendered once more around a copy
of the table's structure in a scratch schema, within one transaction that is rolled back: the live tables are only
read (20 sample rows), and nothing stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from rehearsal.catalog import Catalog, Name, Table
from rehearsal.drain import EVERYTHING, Drain
from rehearsal.errors import CannotSee
from rehearsal.names import Names
from rehearsal.plan import Plan, TableSpec
from rehearsal.postgres import Connection, scalar
from rehearsal.sqlfiles import SqlFiles, as_query
from rehearsal.twin import Shape, mirror_values_of

SAMPLE = 20
SCRATCH = "rehearsal_trigger_test"


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


@dataclass(slots=True)
class Bench:
    """The scratch pair of tables under test."""

    conn: Connection
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    shape: Shape
    columns: tuple[str, ...]
    nullable: tuple[str, ...]
    change: str
    has_default: bool

    @property
    def source(self) -> sql.Identifier:
        """The scratch source."""
        return sql.Identifier(*self.shape.names.source)

    @property
    def target(self) -> sql.Identifier:
        """The scratch twin."""
        return sql.Identifier(*self.shape.names.target)

    def run(self, text: str, *values: Any, table: sql.Identifier | None = None) -> int:
        """Run a statement in which {t}, {key}, {pk}, {change} stand for names; return the rows it touched."""
        query = as_query(text).format(
            t=table or self.source,
            key=sql.Identifier(self.shape.key),
            pk=sql.Identifier(self.shape.primary[0]),
            change=sql.Identifier(self.change),
        )
        return self.conn.execute(query, values or None).rowcount

    def settle(self) -> None:
        """Let the twin follow, where the mirror is a key log."""
        if self.plan.strategy == "swap":
            names = self.shape.names
            Drain(self.files, self.shape, names.forward_log, names.source, names.target).batch(self.conn, EVERYTHING)

    def difference(self) -> int:
        """Return how many rows only one of the two has."""
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(one)) for one in self.columns)
        query = sql.SQL(
            "select count(*) from ((select {c} from {a} except all select {c} from {b}) "
            "union all (select {c} from {b} except all select {c} from {a})) as d"
        ).format(c=columns, a=self.source, b=self.target)
        return int(scalar(self.conn, query))


class _Failed(Exception):
    """A mirror did not do what it must."""


def _require(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise _Failed(message)


def run_trigger_tests(
    conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, source: Name
) -> list[TriggerTest]:
    """Run all classes for one table; `source` is its name as an unpartitioned table now.

    Locks: ACCESS SHARE on the source. The transaction is rolled back whatever happens.

    Raises:
        CannotSee: the scratch pair cannot be made.
    """
    results: list[TriggerTest] = []
    try:
        with conn.transaction(force_rollback=True):
            bench = _make_bench(conn, files, plan, spec, source)
            for name, test in _tests(bench):
                results.append(_run_one(bench, name, test))
    except psycopg.Error as exc:
        message = f"trigger tests of {spec.name}: the scratch pair cannot be made: {exc}"
        raise CannotSee(message) from exc
    return results


def _run_one(bench: Bench, name: str, test: Callable[[Bench], str]) -> TriggerTest:
    try:
        with bench.conn.transaction(force_rollback=True):
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


def _make_bench(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, source: Name) -> Bench:
    catalog = Catalog(conn, files)
    live = catalog.read(source)
    names = Names((SCRATCH, source[1]))
    shape = Shape.of(live, spec.key, names)
    conn.execute(sql.SQL("create schema {}").format(sql.Identifier(SCRATCH)))
    pair = {"s": sql.Identifier(*names.source), "t": sql.Identifier(*names.target), "live": sql.Identifier(*source)}
    conn.execute(sql.SQL("create table {s} (like {live} including all excluding indexes)").format(**pair))
    # No index but the primary key: copies of sample rows would violate the unique ones.
    primary = sql.SQL(", ").join(sql.Identifier(one) for one in shape.primary)
    conn.execute(sql.SQL("alter table {s} add primary key ({p})").format(p=primary, **pair))
    # Leaves a year apart around the sample, so that a key can move from leaf to leaf and also fall out of range.
    key = sql.Identifier(spec.key)
    row = conn.execute(
        sql.SQL("select date_trunc('year', max({k})::timestamp) from {live}").format(k=key, **pair)
    ).fetchone()
    if not row or row[0] is None:
        message = f"trigger tests of {spec.name}: the table is empty, there is no sample row to test with"
        raise CannotSee(message)
    conn.execute(
        sql.SQL("create table {t} (like {s} including defaults including generated) partition by range ({k})").format(
            k=key, **pair
        )
    )
    for years in (-1, 0, 1):
        leaf = sql.Identifier(*names.leaf(f"y{row[0].year + years}"))
        low, high = (row[0].replace(year=row[0].year + years + more) for more in (0, 1))
        conn.execute(
            sql.SQL("create table {leaf} partition of {t} for values from ({low}) to ({high})").format(
                leaf=leaf, low=sql.Literal(f"{low:%Y-%m-%d}"), high=sql.Literal(f"{high:%Y-%m-%d}"), **pair
            )
        )
    if spec.default_partition:
        conn.execute(
            sql.SQL("create table {d} partition of {t} default").format(d=sql.Identifier(*names.default_leaf), **pair)
        )
    identity = sql.SQL(", ").join(sql.Identifier(one) for one in shape.identity)
    conn.execute(sql.SQL("alter table {t} add primary key ({i})").format(i=identity, **pair))
    conn.execute(as_query(files.render("steps/mirror.sql.j2", **mirror_values_of(shape, plan.strategy))))
    if plan.strategy == "dual-write":
        conn.execute(as_query(files.render("steps/sync_on.sql.j2", **mirror_values_of(shape, plan.strategy))))
    columns = tuple(column.name for column in live.columns)
    nullable = tuple(column.name for column in live.columns if not column.not_null and not column.generated)
    change = _changeable(live, spec)
    bench = Bench(conn, files, plan, spec, shape, columns, nullable, change, spec.default_partition)
    stored = sql.SQL(", ").join(sql.Identifier(one) for one in shape.columns)
    conn.execute(
        sql.SQL(
            "insert into {s} ({c}) overriding system value select {c} from {live} where {k} >= %s "
            "order by {k} desc limit %s"
        ).format(c=stored, k=key, **pair),
        [row[0], SAMPLE],
    )
    bench.settle()
    return bench


def _changeable(table: Table, spec: TableSpec) -> str:
    """Return a column that an update may change: the marker, or one that holds text."""
    if spec.marker:
        return spec.marker
    fixed = {*table.primary_key, spec.key}
    for column in table.columns:
        if column.type_name in ("text", "varchar") and not column.generated and column.name not in fixed:
            return column.name
    message = f"trigger tests of {spec.name}: no column may be changed freely; name a `marker` in the plan"
    raise CannotSee(message)


def _equal(bench: Bench, what: str, touched: int) -> str:
    """Require that something happened and that both tables are equal now."""
    bench.settle()
    _require(touched > 0, f"{what} touched no row, so it proves nothing")
    differing = bench.difference()
    _require(differing == 0, f"{what} of {touched} rows: {differing} rows differ between source and twin")
    return f"{touched} rows, both tables equal"


NEWEST = "(select {pk} from {t} order by {pk} desc limit 1)"


def _copy_row(bench: Bench, count: int, table: sql.Identifier | None = None) -> int:
    """Insert copies of sample rows under new primary keys."""
    first = sql.Identifier(bench.shape.primary[0])
    others = [one for one in bench.shape.columns if one != bench.shape.primary[0]]
    query = sql.SQL(
        "insert into {t} ({pk}, {o}) overriding system value "
        "select (select max({pk}) from {t}) + row_number() over (), {o} from {t} order by {pk} limit %s"
    ).format(t=table or bench.source, pk=first, o=sql.SQL(", ").join(sql.Identifier(one) for one in others))
    return bench.conn.execute(query, [count]).rowcount


def _insert(bench: Bench) -> str:
    return _equal(bench, "insert", _copy_row(bench, 1))


def _bulk(bench: Bench) -> str:
    touched = _copy_row(bench, SAMPLE // 2)
    return _equal(bench, "bulk insert and update", touched + bench.run("update {t} set {change} = {change}"))


def _update(bench: Bench) -> str:
    touched = bench.run("update {t} set {change} = %s where {pk} = " + NEWEST, "changed")
    return _equal(bench, "update", touched)


def _null(bench: Bench) -> str:
    free = bench.nullable
    query = sql.SQL("update {t} set {c}").format(
        t=bench.source, c=sql.SQL(", ").join(sql.SQL("{} = null").format(sql.Identifier(one)) for one in free)
    )
    return _equal(bench, f"null in {', '.join(free)}", bench.conn.execute(query).rowcount)


def _move(bench: Bench) -> str:
    touched = bench.run("update {t} set {key} = {key} - interval '1 year' where {pk} = " + NEWEST)
    return _equal(bench, "key move to another partition", touched)


def _delete(bench: Bench) -> str:
    return _equal(bench, "delete", bench.run("delete from {t} where {pk} = " + NEWEST))


def _upsert(bench: Bench) -> str:
    columns = sql.SQL(", ").join(sql.Identifier(one) for one in bench.shape.columns)
    primary = sql.SQL(", ").join(sql.Identifier(one) for one in bench.shape.primary)
    query = sql.SQL(
        "insert into {t} ({c}) overriding system value select {c} from {t} on conflict ({p}) do "
        "update set {change} = %s"
    ).format(t=bench.source, c=columns, p=primary, change=sql.Identifier(bench.change))
    return _equal(bench, "upsert", bench.conn.execute(query, ["upserted"]).rowcount)


def _out_of_range(bench: Bench) -> str:
    move = "update {t} set {key} = {key} + interval '200 years' where {pk} = " + NEWEST
    if bench.has_default:
        return _equal(bench, "key out of range, to the default partition", bench.run(move))
    try:
        with bench.conn.transaction():
            bench.run(move)
            bench.settle()
    except psycopg.errors.CheckViolation as exc:
        return f"refused, as no partition takes it: {exc.diag.message_primary}"
    message = "a key out of range was accepted although no partition takes it"
    raise _Failed(message)


def _savepoint(bench: Bench) -> str:
    before = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    with bench.conn.transaction(force_rollback=True):
        touched = _copy_row(bench, 3)
        bench.settle()
        during = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    _require(during == before + touched, "the write was not mirrored before its savepoint was rolled back")
    after = scalar(bench.conn, sql.SQL("select count(*) from {}").format(bench.target))
    _require(after == before, f"{after - before} rows stayed in the twin after ROLLBACK TO SAVEPOINT")
    return _equal(bench, "write after a rolled-back savepoint", _copy_row(bench, 1))


def _truncate(bench: Bench) -> str:
    try:
        with bench.conn.transaction():
            bench.run("truncate {t}")
    except psycopg.errors.ObjectInUse as exc:
        return f"refused: {exc.diag.message_primary}"
    message = "TRUNCATE was accepted, and row triggers do not see it"
    raise _Failed(message)


def _disabled(bench: Bench) -> str:
    """Prove that these tests see a trigger that is off: the write must be missing from the twin."""
    names = bench.shape.names
    trigger = names.sync_trigger if bench.plan.strategy == "dual-write" else names.capture_trigger
    bench.conn.execute(sql.SQL("alter table {} disable trigger {}").format(bench.source, sql.Identifier(trigger)))
    touched = _copy_row(bench, 2)
    bench.settle()
    differing = bench.difference()
    _require(differing == touched, f"with the trigger off {differing} rows differ, and {touched} should")
    return f"with the trigger off {differing} of {touched} writes are seen to be missing"


def _replica_role(bench: Bench) -> str:
    bench.conn.execute("set local session_replication_role = replica")
    return _equal(bench, "write of a replica-role session", _copy_row(bench, 2))


def _reverse(bench: Bench) -> str:
    touched = _copy_row(bench, 3, bench.target)
    newest = NEWEST
    touched += bench.run("update {t} set {change} = %s where {pk} = " + newest, "back", table=bench.target)
    touched += bench.run("update {t} set {key} = {key} - interval '1 year' where {pk} = " + newest, table=bench.target)
    touched += bench.run("delete from {t} where {pk} = (select min({pk}) from {t})", table=bench.target)
    return _equal(bench, "insert, update, key move and delete on the twin", touched)


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
    if not bench.nullable:
        # Every column is NOT NULL: there is no such write to mirror.
        tests = [one for one in tests if one[0] != "null"]
    if bench.plan.strategy == "dual-write":
        tests.append(("reverse direction", _reverse))
    return tests


def results_text(results: list[TriggerTest]) -> str:
    """Return the text of `trigger_test_results.txt`, a PASS or FAIL line a test."""
    passed = sum(one.passed is True for one in results)
    failed = sum(one.passed is False for one in results)
    lines = [one.line() for one in results]
    return "\n".join([*lines, f"{passed} passed, {failed} failed, {len(results) - passed - failed} not run", ""])
