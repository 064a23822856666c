"""Scratch rows: copies of a few rows, or made-up ones, that stand for both tables of a pair within a query.

Owns where the rows come from and what the relations of a self-test look like. They are common table expressions: no
table is made or written, no trigger, constraint, default or check of anybody runs, and nobody waits.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from rehearsal.catalog.tables import Name
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import Quoted, SqlFiles, as_query, quote_ident, quote_literal
from rehearsal.switchover.parity.digest import Sums
from rehearsal.switchover.parity.pair import Encoded, Leaf, Pair
from rehearsal.switchover.parity.values import made_up, other_values

ROWS = "rehearsal row"
NAMES = {name: f"rehearsal {name}" for name in ("source", "home", "rest", "target", "log")}
LOG: Name = ("", NAMES["log"])
# Rows to choose from, and how many are taken.
LOOKED_AT = 50
TAKEN = 4
# What a type refuses; the next value is tried.
REFUSED = (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InternalError)

Identity = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A scratch row as a relation holds it: a row by number, with other values in some columns."""

    number: int
    changes: Mapping[str, Quoted] = field(default_factory=dict[str, Quoted])


@dataclass(frozen=True, slots=True)
class Scene:
    """What the relations hold: the source, the leaf that the rows belong to, the other leaves; and the change log."""

    source: tuple[Image, ...] = ()
    home: tuple[Image, ...] = ()
    rest: tuple[Image, ...] = ()
    log: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where scratch rows come from: places in a relation, or numbers n for the expressions that make rows up."""

    relation: Name = ("", "")
    places: tuple[str, ...] = ()
    made: Mapping[str, Quoted] | None = None


@dataclass(frozen=True, slots=True)
class ScratchColumn:
    """A column of scratch rows: its type below all domains, and its collation if it has one of its own."""

    name: str
    type: str
    collation: str | None


@dataclass(frozen=True, slots=True)
class Scratch:
    """Scratch rows numbered from 1, their identities, and the leaf that they belong to."""

    conn: Connection
    files: SqlFiles
    pair: Pair
    origin: Origin
    home: Leaf
    identities: tuple[Identity, ...]

    @property
    def rest(self) -> Leaf | None:
        """All other leaves as one; None if there is none."""
        others = [leaf for leaf in self.pair.leaves if leaf.oid and leaf.oid != self.home.oid]
        buckets = tuple(bucket for leaf in others for bucket in leaf.buckets)
        return Leaf(("", NAMES["rest"]), others[0].oid, is_default=False, buckets=buckets) if others else None

    def staged(self, scene: Scene) -> Pair:
        """Return the pair with a scene in place of its tables; columns, key and bounds are its own."""
        home = dataclasses.replace(self.home, name=("", NAMES["home"]))
        nowhere = [leaf for leaf in self.pair.leaves if not leaf.oid]
        return dataclasses.replace(
            self.pair,
            source=dataclasses.replace(self.pair.source, name=("", NAMES["source"]), kind="r", partitions=()),
            target=dataclasses.replace(self.pair.target, name=("", NAMES["target"])),
            key_type=typed(self.pair)[self.pair.key].base_type,
            leaves=(home, *([self.rest] if self.rest else []), *nowhere),
            scratch=stage(self.files, self.pair, self.origin, scene),
        )

    def alter(self, number: int, column: str, *, nullable: bool) -> tuple[Quoted, Identity] | None:
        """Find another value for a column of a row: its expression, and the row's identity then; None if none worked.

        A column that is part of the identity needs one that is another one by its type's own equality.
        """
        for value in other_values(typed(self.pair)[column], ROWS, nullable=nullable):
            identity = self._altered(number, column, value, tells_apart=not nullable)
            if identity is not None:
                return value, identity
        return None

    def _altered(self, number: int, column: str, value: Quoted, *, tells_apart: bool) -> Identity | None:
        staged = self.staged(Scene(home=(Image(number, {column: value}),)))
        query = self.files.query(
            "switchover/parity/altered.sql.j2",
            pair=staged,
            column=column,
            number=number,
            tells_apart=tells_apart,
            identity=self.pair.identity,
            changed=NAMES["home"],
            rows=ROWS,
        )
        try:
            with self.conn.transaction():
                row = self.conn.execute(query).fetchone()
        except REFUSED:
            return None
        return tuple(row[1]) if row and row[0] else None


def stage(files: SqlFiles, pair: Pair, origin: Origin, scene: Scene) -> str:
    """Return the expressions that hold a scene."""
    types = typed(pair)
    columns = [
        ScratchColumn(column.name, types[column.name].base_type, column.collation)
        for column in pair.source.columns
        if column.name in types
    ]
    return files.render(
        "switchover/parity/scratch.sql.j2",
        columns=columns,
        identity=pair.identity,
        names=NAMES,
        rows=ROWS,
        scene=scene,
        **{name: getattr(origin, name) for name in ("relation", "places", "made")},
    )


def of_row(number: int, value: str) -> Quoted:
    """Return an expression of `x` as that of another row."""
    rows = quote_ident(ROWS)
    return Quoted(f"(select {value} from {rows} as x where x.{quote_ident('rehearsal number')} = {number})")  # noqa: S608 -- quoted


def typed(pair: Pair) -> dict[str, Encoded]:
    """Return the columns of a pair by name."""
    return {column.name: column for column in pair.columns}


def find_rows(conn: Connection, files: SqlFiles, pair: Pair, sums: tuple[Sums, Sums]) -> Scratch:
    """Copy rows of the first relation that has any which belong to a leaf, else make some up.

    Raises:
        CannotSee: there are no rows, and none can be made up.
    """
    for relation in _relations(pair, sums):
        found = _sample(conn, files, pair, relation, "ctid")
        if scratch := _chosen(conn, files, pair, Origin(relation), found):
            return scratch
    return _make_up(conn, files, pair)


def _relations(pair: Pair, sums: tuple[Sums, Sums]) -> list[Name]:
    """Return leaves that have rows, small ones with enough rows first, then what the source's rows are in."""
    rows = sums[1].rows
    leaves = [leaf for leaf in pair.leaves if leaf.oid and rows[leaf.oid]]
    leaves.sort(key=lambda leaf: (rows[leaf.oid] < TAKEN, leaf.is_default, rows[leaf.oid]))
    sources = [partition.name for partition in pair.source.partitions if not partition.detach_pending]
    return [*(leaf.name for leaf in leaves[:TAKEN]), *([pair.source.name] if pair.source.kind != "p" else sources)]


Sampled = tuple[str, int | None, Identity]


def _sample(conn: Connection, files: SqlFiles, pair: Pair, relation: Name, where: str) -> list[Sampled]:
    query = files.query("switchover/parity/sample.sql.j2", pair=pair, relation=relation, where=where, limit=LOOKED_AT)
    return [(row[0], row[1], tuple(row[2])) for row in conn.execute(query).fetchall()]


def _chosen(conn: Connection, files: SqlFiles, pair: Pair, origin: Origin, found: Sequence[Sampled]) -> Scratch | None:
    """Take rows of one leaf, each primary key once; None if no row belongs to any."""
    keys = len(pair.primary_key)
    once = {identity[:keys]: (place, bucket, identity) for place, bucket, identity in reversed(found)}
    by_leaf = {
        leaf: [sample for sample in found if sample in once.values() and sample[1] in leaf.buckets]
        for leaf in pair.leaves
        if leaf.oid
    }
    home = max(by_leaf, key=lambda leaf: len(by_leaf[leaf]), default=None)
    if home is None or not by_leaf[home]:
        return None
    taken = by_leaf[home][:TAKEN]
    origin = dataclasses.replace(origin, places=tuple(sample[0] for sample in taken))
    return Scratch(conn, files, pair, origin, home, tuple(sample[2] for sample in taken))


def _make_up(conn: Connection, files: SqlFiles, pair: Pair) -> Scratch:
    """Make rows up, with a key that belongs to a leaf."""
    made = _made_values(conn, pair)
    for key in (*_keys_of_leaves(pair), made[pair.key]):
        # Rows that have nothing but one key would be one row.
        count = 1 if pair.primary_key == (pair.key,) and key != made[pair.key] else TAKEN
        origin = Origin(made={**made, pair.key: key}, places=tuple(str(n) for n in range(1, count + 1)))
        staged = dataclasses.replace(pair, key_type=typed(pair)[pair.key].base_type)
        staged = dataclasses.replace(staged, scratch=stage(files, pair, origin, Scene()))
        found = _sample(conn, files, staged, ("", ROWS), "rehearsal number")
        if scratch := _chosen(conn, files, pair, origin, found):
            return scratch
    message = "there are no rows, and no key that belongs to a partition could be made up"
    raise CannotSee(message)


def _made_values(conn: Connection, pair: Pair) -> dict[str, Quoted]:
    """Return an expression for each column of the n-th row that is made up."""
    wanted = {*pair.primary_key, pair.key}
    made: dict[str, Quoted] = {}
    for column in pair.columns:
        value = next(_working(conn, column, needed=column.name in wanted), None)
        if value is None:
            message = f"there are no rows, and none can be made up with a {column.name} of type {column.type}"
            raise CannotSee(message)
        made[column.name] = value
    return made


def _working(conn: Connection, column: Encoded, *, needed: bool) -> Iterator[Quoted]:
    """Yield the expressions that the column's type accepts."""
    for value in made_up(column, needed=needed):
        query = f"select ({value})::{column.base_type} from pg_catalog.generate_series(1, {TAKEN}) as g (n)"  # noqa: S608 -- quoted
        with contextlib.suppress(*REFUSED), conn.transaction():
            conn.execute(as_query(query))
            yield value


def _keys_of_leaves(pair: Pair) -> list[Quoted]:
    """Return keys that belong to leaves: lower bounds, or values of a list."""
    shift = 1 if pair.method == "range" else 0
    numbers = [bucket - shift for leaf in pair.leaves if leaf.oid for bucket in leaf.buckets if bucket is not None]
    return [quote_literal(pair.bounds[number]) for number in numbers if 0 <= number < len(pair.bounds)][:TAKEN]
