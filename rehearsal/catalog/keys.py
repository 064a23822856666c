"""The partition key of a planned table: its type, its range, and the leaves that plan and rows ask for.

Owns which types a method can carry, and why not. Reads only (oldest and newest key: an index probe, or one scan at
most; ACCESS SHARE).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import errors, sql

from rehearsal.catalog.bounds import Bound, Decided, Interval, hash_bounds, list_bounds, make_bounds
from rehearsal.catalog.keytypes import INTEGERS, RANGES, TIMES, KeyType, time_type
from rehearsal.catalog.tables import Name, Table
from rehearsal.errors import PlanError, PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

FINITE = "{key} > '-infinity' and {key} < 'infinity'"
# Beyond these psycopg cannot bring an instant home, and no bound can be written.
WRITABLE = "{key} >= '0001-01-01' and {key} < '10000-01-01'"


@dataclass(frozen=True, slots=True)
class Key:
    """A partition key; `base` is the name of its type below all domains, '' where that is not one of PostgreSQL's own.

    `type` is the base type as PostgreSQL writes it, `can_list` and `can_hash` say whether it has the operators.
    """

    spec: TableSpec
    type: str
    base: str
    can_list: bool
    can_hash: bool
    is_deterministic: bool

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.spec.key

    @property
    def is_time(self) -> bool:
        """Whether the key itself is an instant or a day."""
        return self.base in TIMES

    @property
    def interval(self) -> Interval:
        """Width of a partition."""
        return Interval.parse(self.spec.interval)

    @property
    def clock(self) -> KeyType:
        """How a key of this type tells the time; a PreconditionError where it does not."""
        return time_type(self.base, self.spec.epoch)

    @property
    def tells_time(self) -> bool:
        """Whether months and days mean something for it."""
        return self.spec.method == "range" and not self.interval.values


def read_key(conn: Connection, files: SqlFiles, table: Table, spec: TableSpec) -> Key:
    """Return what the catalog says of the key.

    Raises:
        PreconditionError: the table has no such column.
    """
    table.column(spec.key)
    row = conn.execute(files.query("catalog/key.sql"), {"oid": table.oid, "key": spec.key}).fetchone()
    kind, base, can_list, can_hash, is_deterministic = row or ("", "", False, False, True)
    return Key(spec, str(kind), str(base), bool(can_list), bool(can_hash), bool(is_deterministic))


def objection(key: Key) -> tuple[str, str] | None:
    """Return why the plan's method does not fit the type of its key, and what to do; None if it fits."""
    method = key.spec.method
    if not key.is_deterministic:
        return f"{key.name} has a nondeterministic collation", "choose another key: equal values would differ as bytes"
    if method == "list":
        return None if key.can_list else (f"a list of {key.type}", "choose a key of a type that can be compared")
    if method == "hash":
        return None if key.can_hash else (f"a hash of {key.type}", "choose a key of a type that has a hash function")
    return _range_objection(key)


def _range_objection(key: Key) -> tuple[str, str] | None:
    calendar = not key.interval.values
    if key.base in INTEGERS:
        if calendar and not key.spec.epoch:
            say = 'say epoch = "s", "ms" or "us" if it counts them since 1970, else interval = "1000000"'
            return f"an interval of {key.spec.interval} over {key.type}", say
        return None
    if key.base not in RANGES:
        known = ", ".join(sorted(RANGES))
        return f"ranges over {key.type}", f'choose a key of type {known}, or method = "list" or "hash"'
    if not calendar:
        return f"an interval of {key.spec.interval} values over {key.type}", 'write the interval as "1 month"'
    if key.spec.epoch:
        return f"epoch over {key.type}", "take epoch away: the key is an instant already"
    return None


def read_key_range(conn: Connection, table: Name, key: str, *, is_time: bool = True) -> tuple[Any, Any]:
    """Return the least and the greatest key that is finite, or None where the table is empty.

    By order and limit, since there is no min(uuid) before PostgreSQL 18.
    """
    column = sql.Identifier(key)
    found = sql.SQL("{key} is not null") if not is_time else sql.SQL(FINITE + " and " + WRITABLE)
    query = sql.SQL(
        "select (select {key} from {table} where {found} order by {key} limit 1), "
        "(select {key} from {table} where {found} order by {key} desc limit 1)"
    )
    parts = {"key": column, "table": sql.Identifier(*table), "found": found.format(key=column)}
    return conn.execute(query.format(**parts)).fetchone() or (None, None)


@dataclass(frozen=True, slots=True)
class Keys:
    """The key of a planned table and the ends of what is in it; no ends where the method is not a range."""

    key: Key
    oldest: Any = None
    newest: Any = None

    @property
    def premake(self) -> int:
        """Partitions after the current one; one at least where keys tell the time, since midnight is never far."""
        return max(1, self.key.spec.premake) if self.key.tells_time else self.key.spec.premake

    def decided(self, now: datetime) -> Decided | None:
        """Return on what leaves are decided at this moment; None where the calendar has no say."""
        if not self.key.tells_time:
            return None
        ends = (None if end is None else self.key.clock.instant(end) for end in (self.oldest, self.newest))
        return Decided(now, *ends)

    def bounds(self, now: datetime, premake: int | None = None) -> tuple[Bound, ...]:
        """Return the leaves of a range.

        Raises:
            PreconditionError: the keys that are there would make too many partitions, or are no instants.
        """
        key, ahead = self.key, self.premake if premake is None else premake
        ends = self.oldest, self.newest
        try:
            return make_bounds(key.interval, key.base, *ends, now=now, premake=ahead, epoch=key.spec.epoch)
        except PreconditionError as exc:
            message = f"table {key.spec.name}: {exc}"
            raise PreconditionError(message) from exc


def read_keys(conn: Connection, files: SqlFiles, spec: TableSpec, table: Table) -> Keys:
    """Read the key of a table and its ends.

    Raises:
        PlanError: the plan's method does not fit the key; says what does.
    """
    key = read_key(conn, files, table, spec)
    if wrong := objection(key):
        message = f"table {spec.name}: {wrong[0]}: bounds cannot be made; {wrong[1]}"
        raise PlanError(message)
    if spec.method != "range":
        return Keys(key)
    return Keys(key, *read_key_range(conn, table.name, spec.key, is_time=key.is_time))


def plan_bounds(
    conn: Connection, files: SqlFiles, spec: TableSpec, table: Table, now: datetime, *, premake: int | None = None
) -> tuple[Bound, ...]:
    """Return the leaves that the target of a table must have, DEFAULT left out.

    Raises:
        PlanError: the plan's method does not fit the key; says what does.
        PreconditionError: the keys that are there would make too many partitions, or are no instants.
    """
    return leaves_of(conn, read_keys(conn, files, spec, table), now, premake=premake)


def leaves_of(conn: Connection, keys: Keys, now: datetime, *, premake: int | None = None) -> tuple[Bound, ...]:
    """Return the leaves that these keys ask for, DEFAULT left out.

    Raises:
        PlanError: a listed value is not of the key's type, or stands in two lists.
        PreconditionError: the keys that are there would make too many partitions, or are no instants.
    """
    spec = keys.key.spec
    if spec.method == "hash":
        return hash_bounds(spec.modulus or 0)
    if spec.method == "list":
        return list_bounds(spell_values(conn, keys.key))
    return keys.bounds(now, premake)


def spell_values(conn: Connection, key: Key) -> dict[str, list[str]]:
    """Return the plan's listed values as the key's type writes them, so that they can be compared with the catalog.

    Raises:
        PlanError: a value is none of that type, or stands in two lists.
    """
    spelled: dict[str, list[str]] = {}
    homes: dict[str, str] = {}
    query = sql.SQL("select %s::text::{}::text").format(as_query(key.type))
    for suffix, values in key.spec.values.items():
        for value in values:
            text = _spell(conn, query, key, value)
            if text in homes:
                message = f"table {key.spec.name}: value {text} is in {homes[text]} and in {suffix}; name it once"
                raise PlanError(message)
            homes[text] = suffix
            spelled.setdefault(suffix, []).append(text)
    return spelled


def _spell(conn: Connection, query: sql.Composed, key: Key, value: str | int) -> str:
    try:
        row = conn.execute(query, [str(value)]).fetchone()
    except errors.DataError as exc:
        message = f"table {key.spec.name}: listed value {value!r} is no {key.type}: {exc.diag.message_primary}"
        raise PlanError(message) from exc
    return str(row[0]) if row else str(value)
