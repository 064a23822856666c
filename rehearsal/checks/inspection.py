"""Reads a pair of tables as the catalog has them now and hands it to the comparison of structures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime

from rehearsal.catalog.bounds import Decided, Limits, awaited_bounds
from rehearsal.catalog.keys import Keys, leaves_of, read_key_range, read_keys
from rehearsal.catalog.keytypes import EPOCH
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Catalog, Constraint, Table, split_name
from rehearsal.checks.duplicates import leaf_only
from rehearsal.checks.structure import StructureCheck, check_structure
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.detail import Split
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import ATTACHED, SPLIT, SWAPPED, Migration, read_migration
from rehearsal.switchover.strategies.attach.layout import HistoryNames, fine_bounds, plain


def inspect(
    conn: Connection, files: SqlFiles, spec: TableSpec, source: Table, target: Table, began: datetime | None = None
) -> list[StructureCheck]:
    """Compare the target's partitions, indexes, keys, checks and rights with what source and plan ask for.

    The expected partitions are computed from the keys that are there, from the plan, and from what the target was
    decided on, never from the target; `began` is the start of the run that asks.
    """
    catalog = Catalog(conn, files)
    leaves = [catalog.read(leaf.name) for leaf in target.partitions]
    migration = read_migration(conn, split_name(spec.name))
    whole = _whole(conn, spec, source)
    same = Readback(conn, files, target).same
    if migration.state in (ATTACHED, SPLIT):
        bare = plain(whole, HistoryNames(Names(split_name(spec.name))))
        bounds = history_bounds(conn, spec, source, migration)
        return check_structure(bare, target, leaves, spec.key, bounds, same=same)
    wanted = expected_bounds(conn, files, spec, source, target, began)
    alone, may = leaf_only(spec), wanted.may
    return check_structure(
        whole, target, leaves, spec.key, wanted.must, method=spec.method, per_partition=alone, spare=may, same=same
    )


@dataclass(frozen=True, slots=True)
class WantedBounds:
    """Bounds that a target must have, in order, and those that it may have besides."""

    must: list[Limits]
    may: list[Limits]


def expected_bounds(
    conn: Connection, files: SqlFiles, spec: TableSpec, source: Table, target: Table, began: datetime | None = None
) -> WantedBounds:
    """Return the bounds that the target must have: from the oldest key to `premake` periods ahead of its making.

    Keys that are numbers know no now: writers that went on since the target was made may have used up some of the
    partitions ahead of them, so one that is left is enough.
    """
    keys = read_keys(conn, files, spec, source)
    then = _decided(conn, spec) or keys.decided(began or datetime.now(UTC))
    if then is None:
        ahead = min(spec.premake, max(1, _left_ahead(keys, target))) if spec.method == "range" else None
        return WantedBounds([bound.limits for bound in leaves_of(conn, keys, EPOCH, premake=ahead)], [])
    now = keys.decided(began or then.at) or then
    found = awaited_bounds(keys.key.interval, keys.key.clock, then, now, premake=keys.premake)
    must, may = ([bound.limits for bound in bounds] for bounds in found)
    return WantedBounds(must, may)


def _decided(conn: Connection, spec: TableSpec) -> Decided | None:
    """Return on what the target's leaves were decided; None for one that an earlier version made."""
    return read_migration(conn, split_name(spec.name)).detail.leaves


def _left_ahead(keys: Keys, target: Table) -> int:
    """Count the partitions that lie behind the newest key, a number."""
    newest = keys.bounds(EPOCH, 0)[-1]
    ranges = [leaf for leaf in target.partitions if not leaf.is_default and leaf.lower is not None]
    return sum(newest.upper is not None and int(leaf.lower or 0) >= int(newest.upper) for leaf in ranges)


def history_bounds(
    conn: Connection, spec: TableSpec, history: Table, migration: Migration
) -> list[tuple[str | None, str | None]]:
    """Return the bounds that an attached table must have: history, whole or split, and the partitions after it."""
    split = Split.of_detail(migration.detail)
    if migration.state == ATTACHED:
        return split.bounds
    oldest, _ = read_key_range(conn, history.name, spec.key)
    fine = fine_bounds(spec, split, oldest)
    parts = [(bound.lower, bound.upper) for bound in fine]
    return [(None, parts[0][0]), *parts, *split.bounds[1:]]


def _whole(conn: Connection, spec: TableSpec, source: Table) -> Table:
    """Give a retired table the foreign keys back that the swap took off it: the live one must have them."""
    migration = read_migration(conn, split_name(spec.name))
    if migration.state not in (SWAPPED, SPLIT):
        return source
    keys = tuple(
        Constraint(key.name, "f", key.definition, is_validated=True, is_inherited=False, is_own=True, other=None)
        for key in migration.detail.foreign_keys or ()
    )
    return dataclasses.replace(source, constraints=(*source.constraints, *keys))
