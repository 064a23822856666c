"""The keys that a query asks for, and the leaves that it must touch for them: from the bounds alone.

Owns the way from a plan's window, month or key to values of the key's type. Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from rehearsal.catalog.bounds import Interval
from rehearsal.catalog.keys import read_key, read_key_range
from rehearsal.catalog.keytypes import INTEGERS, TIMES, Epoch, KeyType, find_type
from rehearsal.catalog.tables import Partition, Table, dotted
from rehearsal.errors import CannotSee, PlanError
from rehearsal.plan.model import Query, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.pair import KeySpan, rank_bounds, read_pair


@dataclass(frozen=True, slots=True)
class Range:
    """The keys that a query asks for, [lower, upper), or one key; a text is None where it has no such limit."""

    lower: Any
    upper: Any
    lower_text: str | None
    upper_text: str | None
    key: Any = None
    key_text: str | None = None


def key_of(target: Table) -> str:
    """Return the one column that a table is partitioned by.

    Raises:
        PlanError: it is partitioned by several, or by an expression.
    """
    pattern = r"(?:RANGE|LIST|HASH) \((?:\"((?:[^\"]|\"\")+)\"|(\w+))\)"
    match = re.fullmatch(pattern, target.partition_key or "")
    if not match:
        message = f"{dotted(target.name)} is not partitioned by one column: {target.partition_key}"
        raise PlanError(message)
    return match[1].replace('""', '"') if match[1] else match[2]


def read_range(
    conn: Connection, files: SqlFiles, query: Query, source: Table, key: str, epoch: Epoch | None = None
) -> Range:
    """Return what the query asks for, as values of the key's type.

    Raises:
        PlanError: the type of the key knows no such window or month.
        CannotSee: the table is empty.
    """
    kind = read_key(conn, files, source, TableSpec(name=dotted(source.name), key=key)).base
    least, newest = read_key_range(conn, source.name, key, is_time=kind in TIMES)
    if newest is None:
        message = f"query {query.name}: {dotted(source.name)} is empty, so there is no range of {key} to ask for"
        raise CannotSee(message)
    if "%(key)s" in query.sql:
        return Range(None, None, None, None, newest, _text(newest))
    if kind in TIMES:
        return _range_of_times(conn, files, query, source, key)
    lower, upper = least, newest
    if query.month is not None or query.window is not None:
        lower, upper = _range_of_others(conn, query, key, kind, newest, epoch)
    return _limited(query, lower, upper, _text(lower), _text(upper))


def _text(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _limited(query: Query, lower: object, upper: object, lower_text: str, upper_text: str) -> Range:
    used = [
        text if f"%({name})s" in query.sql else None for name, text in (("lower", lower_text), ("upper", upper_text))
    ]
    return Range(lower, upper, used[0], used[1])


def _range_of_times(conn: Connection, files: SqlFiles, query: Query, source: Table, key: str) -> Range:
    kind = source.column(key).type
    text = files.query(
        "checks/queries/range.sql.j2", table=source.name, key=key, key_type=kind, window=query.window, month=query.month
    )
    try:
        row = conn.execute(text).fetchone()
    except (psycopg.ProgrammingError, psycopg.DataError) as exc:
        message = f"query {query.name}: no window or month of {key} ({kind}): {exc}"
        raise PlanError(message) from exc
    lower, upper, lower_text, upper_text = row or (None, None, "", "")
    return _limited(query, lower, upper, lower_text, upper_text)


MONTHS = """
select date_trunc('month', newest) - %(month)s * interval '1 month',
       date_trunc('month', newest) - (%(month)s - 1) * interval '1 month'
from (select %(newest)s::timestamptz as newest) as q
"""
WINDOW = "select %(newest)s::timestamptz - %(window)s::interval, %(newest)s::timestamptz"


def _range_of_others(
    conn: Connection, query: Query, key: str, kind: str, newest: Any, epoch: Epoch | None
) -> tuple[Any, Any]:
    """Return the range of a key that is a number, or tells the time without being one."""
    if kind in INTEGERS and epoch is None:
        if query.window is None or not query.window.isdigit():
            message = f"query {query.name}: {key} is a number; write its window as one, as '100000'"
            raise PlanError(message)
        return newest - Interval.parse(query.window).values, newest
    clock = find_type(kind, epoch)
    if clock is None:
        message = f"query {query.name}: {key} ({kind}) has no window or month; use %(key)s"
        raise PlanError(message)
    values = {"newest": clock.instant(newest), "window": query.window, "month": query.month}
    try:
        row = conn.execute(WINDOW if query.window is not None else MONTHS, values).fetchone()
    except psycopg.DataError as exc:
        message = f"query {query.name}: no window of {key}: {exc.diag.message_primary}"
        raise PlanError(message) from exc
    ends = [_key_at(clock, end) for end in row or ()]
    return ends[0], ends[1]


def _key_at(clock: KeyType, moment: datetime) -> Any:
    text = clock.text(moment)
    if text is None:
        message = f"{moment} is beyond what {clock.base} can hold; ask for another window or month"
        raise PlanError(message)
    return clock.read(text)


def expected_leaves(
    conn: Connection, files: SqlFiles, source: Table, target: Table, key: str, asked: Range
) -> frozenset[str]:
    """Return the leaves that hold the keys asked for, from the bounds alone; DEFAULT where they leave a gap."""
    if asked.key_text is not None:
        return frozenset({_home(conn, files, source, target, key, asked.key_text)})
    if not (target.partition_key or "").startswith("RANGE"):
        return frozenset(part.name[1] for part in target.partitions)
    wanted = KeySpan(asked.lower_text, asked.upper_text)
    parts = [part for part in target.partitions if not part.is_default]
    ranks = rank_bounds(conn, files, [*parts, wanted], target.column(key).type)
    first, end = _ends(wanted, ranks)
    hit = [(part, _ends(part, ranks)) for part in parts]
    hit = [(part, ends) for part, ends in hit if ends[0] < end and ends[1] > first]
    covered = {n for _, ends in hit for n in range(max(ends[0], first), min(ends[1], end))}
    default = [part.name[1] for part in target.partitions if part.is_default and len(covered) < end - first]
    return frozenset([*(part.name[1] for part, _ in hit), *default])


def _home(conn: Connection, files: SqlFiles, source: Table, target: Table, key: str, value: str) -> str:
    """Return the leaf that a key belongs to."""
    pair = read_pair(conn, files, source.name, target.name, key)
    bucket: int = scalar(conn, files.query("checks/queries/home.sql.j2", pair=pair, value=value))
    oid: int = pair.oids[bucket]
    return next((leaf.name[1] for leaf in pair.leaves if leaf.oid == oid), "")


def _ends(span: Partition | KeySpan, ranks: Mapping[str, int]) -> tuple[int, int]:
    """Return the range's ends as numbers: 0 is before every bound, the last one behind every bound."""
    last = max(ranks.values(), default=0) + 1
    return (
        0 if span.lower is None else ranks[span.lower],
        last if span.upper is None else ranks[span.upper],
    )
