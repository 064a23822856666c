"""Whether two tables that stand for each other are the same now: a table and its target, there and back.

Owns which facts of a definition must agree at a moment when names have not changed yet. What moves with the name
(identity, sequences, foreign keys, views, publications) is read under the lock by the exchange itself and is left out.
Reads the catalog only.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from rehearsal.catalog.definition import Definition, Difference, differences, read_facts
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Table
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.expected import expect, names_of_target, renamed
from rehearsal.switchover.target.target import Shape

MOVING = ("sequence of column ", "foreign key ", "publication ", "view ", "materialized view ", "function ", "type ",
          "table ", "rule ")  # fmt: skip
BUILT_LATE = ("index ", "primary key ", "unique constraint ", "exclusion constraint ")
CONSTRAINTS = BUILT_LATE[1:]
INDEXED = ("index ", "unique constraint ")


def target_names(conn: Connection, files: SqlFiles, plain: Table, parted: Table, shape: Shape) -> dict[str, str]:
    """Return the subjects of a target's own names -> those of its source."""
    return names_of_target(plain, parted, shape, read_carried(conn, files, plain.oid)["statistics"])


def retired_names(detail: Detail) -> dict[str, str]:
    """Return the subjects of a retired table's own names -> those that it gave away, as the swap kept them."""
    names: dict[str, str] = {}
    for index in detail.indexes:
        theirs, ours = quote_ident(index.retired[1]), quote_ident(index.source[1])
        for noun in ("index", "primary key", "unique constraint", "exclusion constraint"):
            names[f"{noun} {theirs}"] = f"{noun} {ours}"
    for named in detail.statistics:
        names[f"statistics {quote_ident(named.retired)}"] = f"statistics {quote_ident(named.source)}"
    return names


def compare_pair(
    conn: Connection,
    files: SqlFiles,
    spec: TableSpec,
    plain: tuple[Table, Mapping[str, str]],
    parted: tuple[Table, Mapping[str, str]],
    *,
    early: bool = False,
) -> list[Difference]:
    """Return where the partitioned table is not what a plain one demands; each comes with the names to be read as.

    With `early` the partitioned one has no indexes yet, nor what comes with them.
    """
    before = renamed(read_facts(conn, files, plain[0]), plain[1])
    after = renamed(read_facts(conn, files, parted[0]), parted[1])
    key = scalar(conn, sql.SQL("select pg_catalog.quote_ident({})").format(sql.Literal(spec.key)))
    wanted = expect(before, Shape.of(plain[0], spec.key), key, spec.method)
    found = differences(wanted.facts, after, accepted=spec.accepted, same=Readback(conn, files, plain[0]).same)
    return [
        difference
        for difference in found
        if _counts(difference, before, after, spec) and not (early and _is_late(difference, before))
    ]


def _counts(difference: Difference, before: Definition, after: Definition, spec: TableSpec) -> bool:
    if difference.reason or difference.subject.startswith(MOVING):
        return False
    if difference.subject.startswith(INDEXED) and any(
        difference.subject.endswith(f" {quote_ident(name)}") for name in spec.uniques
    ):
        return False
    own = difference.before is None and not difference.facet
    if own and difference.subject.startswith(CONSTRAINTS) and _index_of(difference) in before:
        return False  # that of a partition belongs to its parent; the index is compared
    if difference.subject.startswith("trigger "):
        return difference.facet != "enabled"
    if difference.subject.startswith("column "):
        return _column_counts(difference, before, after, spec)
    return True


def _index_of(difference: Difference) -> str:
    return "index " + difference.subject[difference.subject.index('"') :]


def _column_counts(difference: Difference, before: Definition, after: Definition, spec: TableSpec) -> bool:
    """Identity moves with the name; a key that may be null in the source may not in a partitioned table."""
    is_identity = any("identity" in side.get(difference.subject, {}) for side in (before, after))
    if difference.facet == "identity" or (difference.facet == "default" and is_identity):
        return False
    return not (
        difference.facet == "not null"
        and difference.before is None
        and difference.subject == f"column {quote_ident(spec.key)}"
    )


def _is_late(difference: Difference, before: Definition) -> bool:
    if difference.subject.startswith(BUILT_LATE):
        return True
    if difference.subject == "table":
        return difference.facet in ("replica identity", "clustered on")
    return before.get(difference.subject, {}).get("definition", "").endswith(" NOT VALID")
