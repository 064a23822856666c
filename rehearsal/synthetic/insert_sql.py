"""The statement that makes a block of rows: from declared columns to one INSERT … SELECT.

Pure: declaration in, SQL out. Chance is a hash of the row number, keyed by seed, table, column and draw, so that a
value depends on nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from rehearsal.errors import PlanError
from rehearsal.plan.model import DataTable, PlanColumn
from rehearsal.postgres.sqlfiles import as_query

DEPENDENT = re.compile(r"\{(\w+)\}")
DRAW = re.compile(r"\bh\((\d+)\)")
# 53 bits are what a float8 holds exactly.
BITS = 2**53


@dataclass(frozen=True, slots=True)
class Declaration:
    """A table's declaration with what the catalog adds: types, and per parent its first id and number of ids."""

    seed: int
    table: DataTable
    types: Mapping[str, str]
    parents: Mapping[str, tuple[int, int]]
    anchor: date


def render_insert(source: Declaration, lower: int, upper: int) -> sql.Composed:
    """Return the statement that makes rows `lower` to `upper`, both inclusive.

    Columns that follow others are worked out one level above them; `offset 0` keeps the planner from folding the
    levels together, which would work out the lower ones twice.
    """
    columns = source.table.columns
    inner = [name for name in columns if not _follows(columns[name])]
    outer = [name for name in columns if _follows(columns[name])]
    levels = _levels(columns, inner, outer)
    query = sql.SQL(
        "select n, anchor, {} "
        "from pg_catalog.generate_series({}::bigint, {}::bigint) as g (n), (values (date {})) as a (anchor)"
    ).format(_items(source, inner), lower, upper, sql.Literal(source.anchor.isoformat()))
    for number, level in enumerate(levels, start=1):
        query = sql.SQL("select *, {} from ({} offset 0) as {}").format(
            _items(source, level), query, sql.Identifier(f"level_{number}")
        )
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    return sql.SQL("insert into {} ({}) overriding system value select {} from ({}) as made").format(
        sql.Identifier(*source.table.name.split(".", 1)), names, names, query
    )


def _follows(column: PlanColumn) -> list[str]:
    """Name the columns that this one is worked out from."""
    if column.kind == "offset":
        return [column.column or ""]
    return DEPENDENT.findall(column.sql or "") if column.kind == "expression" else []


def _levels(columns: Mapping[str, PlanColumn], ready: list[str], waiting: list[str]) -> list[list[str]]:
    levels: list[list[str]] = []
    known = set(ready)
    while waiting:
        level = [name for name in waiting if set(_follows(columns[name])) <= known]
        if not level:
            raise PlanError(
                f"data: column {waiting[0]} follows {_follows(columns[waiting[0]])}, which cannot be made first"
            )
        levels.append(level)
        known.update(level)
        waiting = [name for name in waiting if name not in known]
    return levels


def _items(source: Declaration, names: list[str]) -> sql.Composed:
    items = [sql.SQL("{} as {}").format(_value(source, name), sql.Identifier(name)) for name in names]
    return sql.SQL(", ").join(items)


def _value(source: Declaration, name: str) -> sql.Composable:
    """Return the expression of one column, cast to its type."""
    column = source.table.columns[name]
    value = _trusted(f"({_expression(source, name, column)})::{source.types[name]}")
    if not column.null_fraction:
        return value
    return sql.SQL("case when {} < {} then null else {} end").format(
        _trusted(_draw(source, name, "null")), column.null_fraction, value
    )


def _trusted(text: str) -> sql.SQL:
    # The plan's own SQL, types as the catalog spells them, and numbers and literals quoted by us: never input.
    return as_query(text)


def _draw(source: Declaration, name: str, which: str = "0") -> str:
    """Return the SQL of a number from 0 to 1 (exclusive) that depends on the row number alone."""
    text = f"{source.seed}/{source.table.name}/{name}/{which}"
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
    return f"((pg_catalog.hashint8extended(n, {_integer(key)}) & {BITS - 1})::float8 / {BITS})"


def _integer(value: int) -> str:
    # -9223372036854775808 cannot be written as a negated bigint; in quotes it can.
    return f"'{value}'::bigint"


def _expression(source: Declaration, name: str, column: PlanColumn) -> str:  # noqa: PLR0911 -- one return a kind
    draw = _draw(source, name)
    low, high = column.min or 0.0, 1.0 if column.max is None else column.max
    match column.kind:
        case "sequence":
            return "n"
        case "integer":
            return f"pg_catalog.floor({low} + {draw} * ({high} - {low} + 1))"
        case "decimal":
            return f"pg_catalog.round(({low} + {draw} * ({high} - {low}))::numeric, {column.scale})"
        case "choice":
            return _choice(column, draw)
        case "timestamp" | "date":
            return _moment(source, column, draw)
        case "offset":
            return f"{_quoted(column.column or '')} + ({low} + {draw} * ({high} - {low})) * interval '1 second'"
        case "reference":
            first, count = source.parents[column.table or ""]
            return f"{first} + pg_catalog.floor({draw} * {count})"
        case "text":
            return _text(column.template or "")
        case "expression":
            text = DRAW.sub(lambda match: _draw(source, name, match[1]), column.sql or "null")
            return DEPENDENT.sub(lambda match: _quoted(match[1]), text)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _choice(column: PlanColumn, draw: str) -> str:
    values = column.values or [None]
    items = ", ".join(sql.Literal(value).as_string(None) for value in values)
    return f"(array[{items}])[1 + pg_catalog.floor({draw} * {len(values)})::integer]"


def _text(template: str) -> str:
    parts = [sql.Literal(part).as_string(None) for part in template.split("{n}")]
    return " || n || ".join(parts)


def _moment(source: Declaration, column: PlanColumn, draw: str) -> str:
    """Spread rows over calendar months evenly: a month that is whole gets as many as any other, long or short."""
    months = month_slices(_months_before(source.anchor, column.start or "12 months"), source.anchor)
    total = sum(weight for _, _, weight in months)
    edges: list[float] = []
    starts: list[float] = []
    paces: list[float] = []
    reached = 0.0
    for lower, upper, weight in months:
        edges.append(reached)
        starts.append(lower.timestamp())
        paces.append((upper - lower).total_seconds() * total / weight)
        reached += weight / total
    which = f"pg_catalog.width_bucket({draw}, {_floats(edges)})"
    seconds = f"({_floats(starts)})[{which}] + ({draw} - ({_floats(edges)})[{which}]) * ({_floats(paces)})[{which}]"
    # Whole milliseconds: floating point of a later server or processor must not shift a microsecond.
    return f"pg_catalog.to_timestamp(pg_catalog.floor(({seconds}) * 1000) / 1000)"


def _floats(values: list[float]) -> str:
    return f"'{{{','.join(repr(value) for value in values)}}}'::float8[]"


def month_slices(lower: date, upper: date) -> list[tuple[datetime, datetime, float]]:
    """Cut [lower, upper) at the starts of months; the weight is the part of its month that a slice is.

    >>> [(str(a.date()), str(b.date()), w) for a, b, w in month_slices(date(2026, 4, 16), date(2026, 6, 1))]
    [('2026-04-16', '2026-05-01', 0.5), ('2026-05-01', '2026-06-01', 1.0)]
    """
    slices: list[tuple[datetime, datetime, float]] = []
    start = lower
    while start < upper:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        end = min(following, upper)
        weight = (end - start).days / (following - start.replace(day=1)).days
        slices.append((_midnight(start), _midnight(end), weight))
        start = end
    return slices


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _months_before(anchor: date, text: str) -> date:
    """Return the day that is so many days, weeks, months or years before.

    >>> str(_months_before(date(2026, 3, 31), "1 month"))
    '2026-02-28'
    """
    found = re.fullmatch(r"(\d+) (day|week|month|year)s?", text)
    if found is None:
        raise PlanError(f"data: start is {text!r}; write it as '12 months'")
    count, unit = int(found[1]), found[2]
    if unit in ("day", "week"):
        return anchor - timedelta(days=count * (7 if unit == "week" else 1))
    months = anchor.year * 12 + anchor.month - 1 - count * (12 if unit == "year" else 1)
    first = date(months // 12, months % 12 + 1, 1)
    last_day = ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).day
    return first.replace(day=min(anchor.day, last_day))
