"""Preflight of the partition key: does the method fit its type, and has every key that is there a place?

Reads only: one scan of the key at most, a second one where something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql

from rehearsal.catalog.findings import Facts, Finding
from rehearsal.catalog.keys import FINITE, WRITABLE, Key, objection, plan_bounds, read_key, read_key_range, spell_values
from rehearsal.catalog.keytypes import place_of
from rehearsal.catalog.tables import Column, Table
from rehearsal.checks.preflight.catalogue import finding
from rehearsal.errors import PlanError, PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

# More than these, and most of them empty: an outlier has drawn the range out.
MANY_LEAVES = 240
PARTS = 100
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=3653)


def check_key_column(conn: Connection, files: SqlFiles, facts: Facts, *, values: bool = True) -> Iterator[Finding]:
    """Look at the key of a table: its column, the operators of the new primary key and, with `values`, its rows."""
    column = next((candidate for candidate in facts.table.columns if candidate.name == facts.spec.key), None)
    if column is None:
        subject = f"{facts.spec.name}.{facts.spec.key}"
        yield finding("key-missing", subject, columns=", ".join(candidate.name for candidate in facts.table.columns))
        return
    yield from check_operators(conn, files, facts.spec, facts.table)
    key = read_key(conn, files, facts.table, facts.spec)
    findings = list(check_key(key, column))
    yield from findings
    if not findings and values:
        yield from check_key_values(conn, files, key, facts.table)


def check_operators(conn: Connection, files: SqlFiles, spec: TableSpec, table: Table) -> Iterator[Finding]:
    """Look at how the primary key and the partition key compare: our functions and sessions see pg_catalog only.

    Where a type's own equality lies elsewhere, theirs is another one (citext: that of text) or none at all (ltree).
    Attach compares no rows by key and needs none, until its history is split.
    """
    values = {"oid": table.oid, "key": spec.key}
    for column, kind, operator in conn.execute(files.query("checks/preflight/operators.sql"), values).fetchall():
        yield finding("key-operator", f"{spec.name}.{column}", type=kind, operator=operator)


def check_key(key: Key, column: Column) -> Iterator[Finding]:
    """Return what is wrong with the key as the catalog has it."""
    subject = f"{key.spec.name}.{key.name}"
    if column.generated:
        yield finding("key-generated", subject)
    elif wrong := objection(key):
        yield finding("key-type", subject, objection=wrong[0], remedy=wrong[1])


def check_key_values(conn: Connection, files: SqlFiles, key: Key, table: Table) -> Iterator[Finding]:
    """Look for keys that have no place, or a strange one."""
    values = Values(conn, key, table)
    strange = [*_nulls(values, table), *_strange(values)]
    yield from strange
    if key.spec.method == "range" and not strange:
        yield from _spread(values, files)


def _strange(values: Values) -> Iterator[Finding]:
    key = values.key
    if key.spec.method == "list":
        yield from _unlisted(values)
    elif key.spec.method == "hash":
        return
    elif key.is_time:
        yield from _infinite(values)
    elif key.tells_time and key.clock.misfit:
        yield from _misfits(values)
    elif key.spec.epoch:
        yield from _wrong_epoch(values)


@dataclass(frozen=True, slots=True)
class Values:
    """The keys of one table, to be counted."""

    conn: Connection
    key: Key
    table: Table

    @property
    def subject(self) -> str:
        """The column, for people."""
        return f"{self.key.spec.name}.{self.key.name}"

    @property
    def column(self) -> sql.Identifier:
        """The column, for PostgreSQL."""
        return sql.Identifier(self.key.name)

    def count(self, condition: sql.Composable) -> int:
        """Return how many rows meet a condition."""
        query = sql.SQL("select count(*) from {} where {}")
        return int(scalar(self.conn, query.format(sql.Identifier(*self.table.name), condition)))

    def ends(self) -> tuple[object, object]:
        """Return the least and the greatest key."""
        return read_key_range(self.conn, self.table.name, self.key.name, is_time=self.key.is_time)


def _nulls(values: Values, table: Table) -> Iterator[Finding]:
    if table.column(values.key.name).not_null:
        return
    if nulls := values.count(sql.SQL("{} is null").format(values.column)):
        yield finding("key-null", values.subject, rows=nulls)
    else:
        yield finding("key-nullable", values.subject)


def _infinite(values: Values) -> Iterator[Finding]:
    finite = sql.SQL(FINITE).format(key=values.column)
    if infinite := values.count(sql.SQL("not ({})").format(finite)):
        yield finding("key-infinite", values.subject, rows=infinite)
    writable = sql.SQL(WRITABLE).format(key=values.column)
    if strange := values.count(sql.SQL("{} and not ({})").format(finite, writable)):
        yield finding("key-outlier", values.subject, rows=strange)


def _misfits(values: Values) -> Iterator[Finding]:
    """Look for keys that tell no time, else for those whose time is out of all reason."""
    clock, now = values.key.clock, datetime.now(UTC)
    if others := values.count(as_query(clock.misfit).format(values.column)):
        yield finding("key-not-v7", values.subject, rows=others)
        return
    lower, upper = clock.text(EARLIEST), clock.text(now + AHEAD)
    strange = sql.SQL("({0} < {1}::{3} or {0} >= {2}::{3})").format(
        values.column, lower, upper, as_query(values.key.type)
    )
    if count := values.count(strange):
        yield finding("key-outlier", values.subject, "identifier", rows=count)


def _wrong_epoch(values: Values) -> Iterator[Finding]:
    _, newest = values.ends()
    if not isinstance(newest, int):
        return
    unit = values.key.spec.epoch
    try:
        instant = values.key.clock.instant(newest)
        shown, sane = f"{instant:%Y-%m-%d}", EARLIEST <= instant <= datetime.now(UTC) + AHEAD
    except PreconditionError:
        shown, sane = "beyond the year 9999", False
    if not sane:
        yield finding("key-epoch", values.subject, newest=newest, shown=shown, unit=unit)


def _unlisted(values: Values) -> Iterator[Finding]:
    try:
        listed = [value for group in spell_values(values.conn, values.key).values() for value in group]
    except PlanError as exc:
        yield finding("key-values", values.subject, wrong=exc)
        return
    if values.key.spec.default_partition:
        return
    known = sql.SQL(", ").join(sql.SQL("{}::{}").format(value, as_query(values.key.type)) for value in listed)
    query = sql.SQL(
        "select {0}::text, count(*) from {1} where {0} is not null and {0} not in ({2}) "
        "group by {0} order by 2 desc, 1 limit 6"
    ).format(values.column, sql.Identifier(*values.table.name), known)
    found = values.conn.execute(query).fetchall()
    if found:
        shown = ", ".join(f"{value} ({count} rows)" for value, count in found[:5]) + (", …" if len(found) > 5 else "")
        yield finding("key-unlisted", values.subject, values=shown)


def _spread(values: Values, files: SqlFiles) -> Iterator[Finding]:
    """Look at the leaves that the range makes: too many are refused, many and mostly empty ones are said."""
    key, table = values.key, values.table
    try:
        bounds = plan_bounds(values.conn, files, key.spec, table, datetime.now(UTC))
    except PreconditionError as exc:
        yield finding("key-spread", values.subject, problem=f"{exc}{_outside(values)}")
        return
    if len(bounds) > MANY_LEAVES:
        yield finding("key-spread", values.subject, "many", partitions=len(bounds), outside=_outside(values))


def _outside(values: Values) -> str:
    """Say how many rows lie apart from the bulk of the keys; '' where they are spread evenly."""
    counts = _histogram(values)
    if not counts:
        return ""
    densest = max(range(len(counts)), key=lambda part: counts[part])
    first = last = densest
    while first > 0 and counts[first - 1]:
        first -= 1
    while last < len(counts) - 1 and counts[last + 1]:
        last += 1
    apart = sum(counts[:first]) + sum(counts[last + 1 :])
    if not apart:
        return ""
    lowest, highest = values.ends()
    return f"; {apart} rows lie far from the other {sum(counts) - apart} (keys reach from {lowest} to {highest})"


def _histogram(values: Values) -> Sequence[int]:
    """Count the keys in equal parts of their range."""
    place = as_query(place_of(values.key.base)).format(values.column)
    query = sql.SQL(
        "with p as (select {place} as at from {table}), e as (select min(at) as low, max(at) as high from p) "
        "select least(pg_catalog.width_bucket(at, low, high, {parts}), {parts}), count(*) "
        "from p, e where at is not null and low < high group by 1"
    ).format(place=place, table=sql.Identifier(*values.table.name), parts=PARTS)
    counts = [0] * PARTS
    rows = values.conn.execute(query).fetchall()
    for part, count in rows:
        counts[part - 1] = count
    return counts if rows else ()
