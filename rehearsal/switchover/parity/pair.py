"""Two tables that should hold the same rows: their columns, their leaves and the bounds between them.

Owns how a column's values are told apart and which leaf a key belongs to. Must not compare anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Catalog, Name, Partition, Table, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

NOWHERE = "(no partition)"
Stays = Literal["source", "target"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column and how its values enter a digest: natively, by the type's send function, or as text.

    `base` is the name of the type below all domains, '' where that is not one of PostgreSQL's own; `base_type` is how
    that type is written in SQL, without a length or a scale.
    """

    name: str
    type: str
    send: tuple[str, str] | None
    as_text: bool
    base: str = ""
    base_type: str = ""


@dataclass(frozen=True, slots=True)
class KeySpan:
    """Keys: a range [lower, upper), those of some buckets, or those that are null."""

    lower: str | None = None
    upper: str | None = None
    is_null: bool = False
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the target and the buckets of keys that belong to it; oid 0 stands for keys without a leaf."""

    name: Name
    oid: int
    is_default: bool
    buckets: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and its target.

    By range bucket n holds the keys in [bounds[n - 1], bounds[n]), by list those equal to bounds[n] (the last one all
    others), by hash those of remainder n; None the null ones. `scratch` holds common table expressions, if the rows are
    those of a self-test: relations whose schema is '' are found among them, and in no table.
    """

    source: Table
    target: Table
    key: str
    key_type: str
    columns: tuple[Encoded, ...]
    bounds: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    method: str = "range"
    modulus: int = 0
    hash_function: Name | None = None
    scratch: str = ""

    @property
    def bucket_count(self) -> int:
        """Number of buckets, the one of the null keys left out."""
        return self.modulus or len(self.bounds) + 1

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Columns that tell rows apart in the source."""
        return self.source.primary_key

    @property
    def identity(self) -> tuple[str, ...]:
        """Primary key of the source, and the partition key if it is not part of it."""
        primary = self.source.primary_key
        return primary if self.key in primary else (*primary, self.key)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns that are compared."""
        return tuple(column.name for column in self.columns)

    @property
    def oids(self) -> tuple[int, ...]:
        """For each bucket the leaf that its keys belong to."""
        by_bucket = {bucket: leaf.oid for leaf in self.leaves for bucket in leaf.buckets}
        return tuple(by_bucket[bucket] for bucket in range(self.bucket_count))

    @property
    def elsewhere(self) -> int:
        """The leaf of keys that are null: DEFAULT if there is one."""
        return next((leaf.oid for leaf in self.leaves if None in leaf.buckets), 0)

    def spans(self, leaves: Sequence[Leaf]) -> tuple[KeySpan, ...]:
        """Return the keys that belong to the leaves, neighbouring ranges joined."""
        buckets = sorted(bucket for leaf in leaves for bucket in leaf.buckets if bucket is not None)
        null = [KeySpan(is_null=True)] if any(None in leaf.buckets for leaf in leaves) else []
        if self.method == "range":
            return (*self._ranges(buckets), *null)
        return (*([KeySpan(buckets=tuple(buckets))] if buckets else []), *null)

    def _ranges(self, buckets: Sequence[int]) -> list[KeySpan]:
        spans: list[KeySpan] = []
        for bucket in buckets:
            lower = self.bounds[bucket - 1] if bucket else None
            upper = self.bounds[bucket] if bucket < len(self.bounds) else None
            if spans and bucket and bucket - 1 in buckets:
                spans[-1] = KeySpan(spans[-1].lower, upper)
            else:
                spans.append(KeySpan(lower, upper))
        return spans


def read_pair(
    conn: Connection,
    files: SqlFiles,
    source: Name,
    target: Name,
    key: str,
    leaves: Sequence[Name] | None = None,
    *,
    stays: Stays | None = None,
    apart: Collection[str] = (),
) -> Pair:
    """Read both tables as the session sees them now; `leaves`: of the target only these partitions.

    `stays`: the other table is about to go; columns that only the one that stays has are not compared, nor are those
    of `apart` that only one has.

    Raises:
        PreconditionError: the source has no primary key, or columns or types of the two differ.
    """
    catalog = Catalog(conn, files)
    source_table, target_table = catalog.read(source), catalog.read(target)
    if not source_table.primary_key:
        message = f"table {dotted(source)} has no primary key, so rows cannot be told apart; add one"
        raise PreconditionError(message)
    if leaves is not None:
        target_table = dataclasses.replace(
            target_table, partitions=tuple(leaf for leaf in target_table.partitions if leaf.name in leaves)
        )
    pair = Pair(
        source_table,
        target_table,
        key,
        source_table.column(key).type,
        _matched(conn, files, source_table, target_table, stays, apart),
        (),
        (),
    )
    return _split(conn, files, pair)


def read_encodings(conn: Connection, files: SqlFiles, table: Table, *, portable: bool = False) -> tuple[Encoded, ...]:
    """Read how each column of a table enters a digest; a portable digest means the same in another database."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            files.query("switchover/parity/encodings.sql"), {"oid": table.oid, "portable": portable}
        ).fetchall()
    return tuple(
        Encoded(
            row["name"],
            row["type"],
            tuple(row["send"]) if row["send"] else None,
            row["as_text"],
            row["base_name"],
            row["base_type"],
        )
        for row in rows
    )


def _matched(
    conn: Connection, files: SqlFiles, source: Table, target: Table, stays: Stays | None, apart: Collection[str]
) -> tuple[Encoded, ...]:
    ours = read_encodings(conn, files, source)
    theirs = {column.name: column for column in read_encodings(conn, files, target)}
    both = {column.name for column in ours} & theirs.keys()
    ours = tuple(column for column in ours if column.name in both or not (stays == "source" or column.name in apart))
    theirs = {name: theirs[name] for name in theirs if name in both or not (stays == "target" or name in apart)}
    different = [_unlike(column, theirs.get(column.name)) for column in ours if column != theirs.get(column.name)]
    different += [f"{name} is only in the target" for name in theirs if name not in {column.name for column in ours}]
    if different:
        message = (
            f"{dotted(source.name)} and {dotted(target.name)} have different columns, rows cannot be compared: "
            f"{'; '.join(different)}; make them alike"
        )
        raise PreconditionError(message)
    return ours


def _unlike(ours: Encoded, theirs: Encoded | None) -> str:
    if theirs is None:
        return f"{ours.name} is only in the source"
    return f"{ours.name} is {ours.type} in the source and {theirs.type} in the target (or its collation differs)"


def _split(conn: Connection, files: SqlFiles, pair: Pair) -> Pair:
    """Return the pair with its bounds, in the order of their type, and its leaves with the buckets that are theirs."""
    target = pair.target
    if target.kind != "p":
        leaf = Leaf(target.name, target.oid, is_default=False, buckets=(0, None))
        return dataclasses.replace(pair, leaves=(leaf,), method="none")
    parts = [partition for partition in target.partitions if not partition.detach_pending and not partition.is_default]
    method = (target.partition_key or "").partition(" ")[0].lower()
    if method == "range":
        ranks = rank_bounds(conn, files, parts, pair.key_type)
        bounds = tuple(text for _, text in sorted({rank: text for text, rank in ranks.items()}.items()))
        cut = dataclasses.replace(pair, bounds=bounds)
        taken: list[tuple[int | None, ...]] = [_buckets(part, ranks, len(bounds)) for part in parts]
    elif method == "list":
        bounds = tuple(value for part in parts for value in part.values if value is not None)
        cut = dataclasses.replace(pair, bounds=bounds, method=method)
        taken = [tuple(None if value is None else bounds.index(value) for value in part.values) for part in parts]
    else:
        modulus = max((part.modulus for part in parts), default=1)
        function = _hash_function(conn, files, target)
        cut = dataclasses.replace(pair, method=method, modulus=modulus, hash_function=function)
        taken = [tuple(range(part.remainder, modulus, part.modulus)) for part in parts]
    return dataclasses.replace(cut, leaves=_leaves(target, parts, taken, cut.bucket_count))


def _leaves(
    target: Table, parts: Sequence[Partition], taken: Sequence[tuple[int | None, ...]], count: int
) -> tuple[Leaf, ...]:
    """Return the leaves; what none of them takes belongs to DEFAULT, or has no place."""
    left = [bucket for bucket in (*range(count), None) if all(bucket not in buckets for buckets in taken)]
    leaves = [Leaf(part.name, part.oid, is_default=False, buckets=own) for part, own in zip(parts, taken, strict=True)]
    default = next(
        (partition for partition in target.partitions if partition.is_default and not partition.detach_pending), None
    )
    name, oid = (default.name, default.oid) if default else (("", NOWHERE), 0)
    return (*leaves, Leaf(name, oid, is_default=default is not None, buckets=tuple(left)))


def _hash_function(conn: Connection, files: SqlFiles, target: Table) -> Name:
    """Return the function that PostgreSQL hashes the key with."""
    row = conn.execute(files.query("switchover/parity/hash_function.sql"), {"oid": target.oid}).fetchone()
    if row is None:
        message = (
            f"{dotted(target.name)} is partitioned by {target.partition_key}, which cannot be followed; use one column"
        )
        raise PreconditionError(message)
    return row[0], row[1]


def rank_bounds(
    conn: Connection, files: SqlFiles, parts: Iterable[Partition | KeySpan], key_type: str
) -> dict[str, int]:
    """Number the bounds in the order of their type; equal ones alike."""
    given = sorted({bound for part in parts for bound in (part.lower, part.upper) if bound is not None})
    query = files.query("switchover/parity/bounds.sql.j2", bounds=given, key_type=key_type)
    return dict(conn.execute(query).fetchall())


def _buckets(part: Partition, ranks: dict[str, int], count: int) -> tuple[int, ...]:
    first = 0 if part.lower is None else ranks[part.lower]
    end = count + 1 if part.upper is None else ranks[part.upper]
    return tuple(range(first, end))
