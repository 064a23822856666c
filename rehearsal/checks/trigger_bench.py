"""The scratch pair that trigger tests write to: structure, leaves around the newest key, sample rows, new keys.

Owns how a row gets a primary key that nobody has and a key of another partition, whatever their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from rehearsal.catalog.bounds import Bound, make_bounds
from rehearsal.catalog.keys import plan_bounds, read_key, read_key_range
from rehearsal.catalog.keytypes import INTEGERS
from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.errors import CannotSee
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident, quote_literal
from rehearsal.switchover.copy.replay import EVERYTHING, Replay
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity.values import FRESH
from rehearsal.switchover.target.target import Shape, mirror_values_of

SAMPLE = 20
SCRATCH = "rehearsal_trigger_test"


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
    fresh: tuple[str, str]
    moved: str | None
    beyond: str | None

    @property
    def source(self) -> sql.Identifier:
        """The scratch source."""
        return sql.Identifier(*self.shape.names.source)

    @property
    def target(self) -> sql.Identifier:
        """The scratch target."""
        return sql.Identifier(*self.shape.names.target)

    def run(self, text: str, *values: Any, table: sql.Identifier | None = None) -> int:
        """Run a statement in which {t}, {key}, {pk}, {change} stand for names; return the rows it touched.

        {moved} is a key of another partition, {beyond} one that no partition takes.
        """
        query = as_query(text).format(
            moved=as_query(self.moved or ""),
            beyond=as_query(self.beyond or ""),
            t=table or self.source,
            key=sql.Identifier(self.shape.key),
            pk=sql.Identifier(self.shape.primary[0]),
            change=sql.Identifier(self.change),
        )
        return self.conn.execute(query, values or None).rowcount

    def converge(self) -> None:
        """Let the target follow, where the mirror is a change log."""
        if not self.plan.traits.mirrors:
            names = self.shape.names
            Replay(self.files, self.shape, names.forward_log, names.source, names.target).batch(self.conn, EVERYTHING)

    def difference(self) -> int:
        """Return how many rows only one of the two has."""
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in self.columns)
        query = sql.SQL(
            "select count(*) from ((select {c} from {a} except all select {c} from {b}) "
            "union all (select {c} from {b} except all select {c} from {a})) as d"
        ).format(c=columns, a=self.source, b=self.target)
        return int(scalar(self.conn, query))


def make_bench(conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, source: Name) -> Bench:
    """Make the pair in the caller's transaction, which must be rolled back, and fill it with sample rows.

    Locks: ACCESS SHARE on the source.

    Raises:
        CannotSee: the table is empty, or no row can be changed or made.
    """
    catalog = Catalog(conn, files)
    live = catalog.read(source)
    names = Names((SCRATCH, source[1]))
    shape = Shape.of(live, spec.key, names)
    conn.execute(sql.SQL("create schema {}").format(sql.Identifier(SCRATCH)))
    pair = {"s": sql.Identifier(*names.source), "t": sql.Identifier(*names.target), "live": sql.Identifier(*source)}
    conn.execute(sql.SQL("create table {s} (like {live} including all excluding indexes)").format(**pair))
    # No index but the primary key: copies of sample rows would violate the unique ones.
    primary = sql.SQL(", ").join(sql.Identifier(column) for column in shape.primary)
    conn.execute(sql.SQL("alter table {s} add primary key ({p})").format(p=primary, **pair))
    leaves = _scratch_leaves(conn, files, live, spec)
    key = sql.Identifier(spec.key)
    conn.execute(
        sql.SQL("create table {t} (like {s} including defaults including generated) partition by {m} ({k})").format(
            k=key, m=sql.SQL(spec.method), **pair
        )
    )
    for bound in leaves:
        leaf = sql.Identifier(*names.leaf(bound.suffix))
        text = sql.SQL("create table {leaf} partition of {t} for values {bound}")
        conn.execute(text.format(leaf=leaf, bound=as_query(bound.sql), **pair))
    if spec.default_partition:
        conn.execute(
            sql.SQL("create table {d} partition of {t} default").format(d=sql.Identifier(*names.default_leaf), **pair)
        )
    identity = sql.SQL(", ").join(sql.Identifier(column) for column in shape.identity)
    conn.execute(sql.SQL("alter table {t} add primary key ({i})").format(i=identity, **pair))
    values = mirror_values_of(shape, mirrors=plan.traits.mirrors)
    conn.execute(as_query(files.render("switchover/target/mirror.sql.j2", **values)))
    if plan.traits.mirrors:
        conn.execute(as_query(files.render("switchover/strategies/dual_write/sync_on.sql.j2", **values)))
    columns = tuple(column.name for column in live.columns)
    nullable = tuple(column.name for column in live.columns if not column.not_null and not column.generated)
    change = _changeable(live, spec)
    stored = sql.SQL(", ").join(sql.Identifier(column) for column in shape.columns)
    first = leaves[0].lower if spec.method == "range" else None
    there = sql.SQL("true") if first is None else sql.SQL("{} >= {}").format(key, as_query(_typed(first, live, spec)))
    conn.execute(
        sql.SQL(
            "insert into {s} ({c}) overriding system value select {c} from {live} where {w} order by {k} desc limit %s"
        ).format(c=stored, k=key, w=there, **pair),
        [SAMPLE],
    )
    moved, beyond = _other_keys(conn, files, live, spec, leaves, names.source)
    fresh = _fresh(conn, files, live, spec)
    has_default = spec.default_partition
    bench = Bench(conn, files, plan, spec, shape, columns, nullable, change, has_default, fresh, moved, beyond)
    bench.converge()
    return bench


def _scratch_leaves(conn: Connection, files: SqlFiles, live: Table, spec: TableSpec) -> Sequence[Bound]:
    """Return leaves around the newest key, so that a key can move from leaf to leaf and also fall out of range."""
    key = read_key(conn, files, live, spec)
    _, newest = read_key_range(conn, live.name, spec.key, is_time=key.is_time)
    if newest is None:
        message = f"trigger tests of {spec.name}: the table is empty, there is no sample row to test with"
        raise CannotSee(message)
    if spec.method != "range":
        return plan_bounds(conn, files, spec, live, datetime.now(UTC))
    if key.interval.values:
        least = max(newest - key.interval.values, -INTEGERS[key.base])
        return make_bounds(key.interval, key.base, least, newest, now=datetime.now(UTC), premake=1)
    before = key.interval.add(key.interval.floor(key.clock.instant(newest)), -1)
    return make_bounds(key.interval, key.base, None, newest, now=before, premake=1, epoch=spec.epoch)


def _typed(value: str, live: Table, spec: TableSpec) -> str:
    return f"{quote_literal(value)}::{live.column(spec.key).type}"


def _other_keys(
    conn: Connection, files: SqlFiles, live: Table, spec: TableSpec, leaves: Sequence[Bound], source: Name
) -> tuple[str | None, str | None]:
    """Return SQL of a key that moves a row to another leaf, and of one that no leaf takes; None where there is none."""
    if spec.method == "hash":
        base = read_key(conn, files, live, spec).base
        return (
            FRESH[base].format(own=quote_ident(spec.key), top=quote_ident(spec.key), n="1") if base in FRESH else None
        ), None
    if spec.method == "range":
        elsewhere, beyond = leaves[0].lower or leaves[-1].lower, leaves[-1].upper
        return tuple(None if end is None else _typed(end, live, spec) for end in (elsewhere, beyond))  # type: ignore[return-value]
    query = sql.SQL("select {k}::text from {s} order by {p} desc limit 1").format(
        k=sql.Identifier(spec.key), p=sql.Identifier(live.primary_key[0]), s=sql.Identifier(*source)
    )
    here = scalar(conn, query)
    elsewhere = next((leaf.values[0] for leaf in leaves if here not in leaf.values), None)
    return (None if elsewhere is None else _typed(elsewhere, live, spec)), None


def _fresh(conn: Connection, files: SqlFiles, live: Table, spec: TableSpec) -> tuple[str, str]:
    """Return a column of the primary key, rather not the partition key, and SQL of new values for it."""
    for name in sorted(live.primary_key, key=lambda column: column == spec.key):
        base = read_key(conn, files, live, spec.model_copy(update={"key": name})).base
        if base in FRESH:
            return name, FRESH[base]
    message = f"trigger tests of {spec.name}: no new primary key can be made from ({', '.join(live.primary_key)})"
    raise CannotSee(message)


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


def copy_row(bench: Bench, count: int, table: sql.Identifier | None = None) -> int:
    """Insert copies of sample rows under new primary keys."""
    name, expression = bench.fresh
    others = [column for column in bench.shape.columns if column != name]
    where = (table or bench.source).as_string(None)
    top = f"(select max({quote_ident(name)}) from {where})"  # noqa: S608 -- quoted
    query = sql.SQL(
        "insert into {t} ({f}, {o}) overriding system value "
        'select {v}, {o} from (select *, row_number() over (order by {f} desc) as "rehearsal n" from {t}) as q '
        "order by {f} desc limit %s"
    ).format(
        t=table or bench.source,
        f=sql.Identifier(name),
        v=as_query(expression.format(own=quote_ident(name), top=top, n='"rehearsal n"')),
        o=sql.SQL(", ").join(sql.Identifier(column) for column in others),
    )
    return bench.conn.execute(query, [count]).rowcount
