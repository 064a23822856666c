"""Which rows differ: class, identity and both images of each, and whether the change log explains it.

Owns the words for differences. Looks only into the leaves whose digests differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Name
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.digest import Sums
from rehearsal.switchover.parity.pair import Leaf, Pair

KINDS = {
    "missing": "in the source only",
    "orphan": "in the target only",
    "stale": "columns differ",
    "moved": "same primary key under another partition key",
    "duplicate": "its primary key is in the target more than once",
    "misrouted": "in a partition that its key does not belong to",
    "unseen": "partitions whose digests differ, but no row of them was found",
}


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that differs. Images are by column name; None where there is no such row."""

    kind: str
    identity: tuple[str | None, ...]
    leaf: str
    explained: bool
    source_row: dict[str, Any] | None
    target_row: dict[str, Any] | None


@dataclass(slots=True)
class Drilled:
    """Counts by class, how many of them the change log explains, and the first examples of each class."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    explained: int = 0
    unexplained: int = 0
    examples: list[RowDifference] = field(default_factory=list[RowDifference])


def look_closer(
    conn: Connection,
    files: SqlFiles,
    pair: Pair,
    sums: tuple[Sums, Sums],
    *,
    keylog: Name | None = None,
    max_examples: int = 100,
) -> Drilled:
    """Look into the leaves whose sums differ between source and target; into none if there are none."""
    source, target = sums
    unequal = [leaf for leaf in pair.leaves if source.of(leaf.oid) != target.of(leaf.oid)]
    if not unequal:
        return Drilled()
    if not target.rows.total() and keylog is None:
        # Nothing to look into: a target that is still empty lacks every row.
        return Drilled({"missing": source.rows.total()}, unexplained=source.rows.total())
    found = drill(conn, files, pair, unequal, keylog=keylog, max_examples=max_examples)
    # A digest that differs is a difference, even if no row can be shown: it must never count as explained.
    return found if found.counts else Drilled({"unseen": len(unequal)}, unexplained=len(unequal))


def drill(
    conn: Connection,
    files: SqlFiles,
    pair: Pair,
    leaves: Sequence[Leaf],
    *,
    keylog: Name | None = None,
    max_examples: int = 100,
) -> Drilled:
    """Compare the rows of the leaves one by one, as the session sees them now."""
    query = files.query(
        "switchover/parity/drill.sql.j2",
        pair=pair,
        leaves=[leaf for leaf in leaves if leaf.oid],
        spans=pair.spans(leaves),
        keylog=keylog,
        max_examples=max_examples,
    )
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    return _collect(rows, {leaf.oid: leaf.name[1] for leaf in pair.leaves}, max_examples)


def _collect(rows: list[dict[str, Any]], names: dict[int, str], max_examples: int) -> Drilled:
    found = Drilled()
    groups = {(row["kind"], row["explained"]): row["total"] for row in rows}
    for (kind, explained), total in groups.items():
        found.counts[kind] = found.counts.get(kind, 0) + total
        if explained:
            found.explained += total
        else:
            found.unexplained += total
    found.examples = [_difference(row, names) for row in rows][:max_examples]
    return found


def _difference(row: dict[str, Any], names: dict[int, str]) -> RowDifference:
    return RowDifference(
        row["kind"],
        tuple(row["identity"]),
        names[row["leaf"]],
        row["explained"],
        row["source_row"],
        row["target_row"],
    )
