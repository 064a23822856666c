"""Reads a pair of tables as the catalog has them now and hands it to the comparison of structures."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from rehearsal.bounds import Limits
from rehearsal.catalog import Catalog, Constraint, Table, split_name
from rehearsal.keys import plan_bounds
from rehearsal.plan import TableSpec
from rehearsal.postgres import Connection
from rehearsal.sqlfiles import SqlFiles
from rehearsal.state import SWAPPED, read_migration
from rehearsal.structure import Finding, check_structure
from rehearsal.uniques import leaf_only


def inspect(conn: Connection, files: SqlFiles, spec: TableSpec, source: Table, target: Table) -> list[Finding]:
    """Compare the twin's partitions, indexes, keys, checks and rights with what source and plan ask for.

    The expected partitions are computed from the keys that are there and from the plan, never from the twin.
    """
    catalog = Catalog(conn, files)
    leaves = [catalog.read(leaf.name) for leaf in target.partitions]
    bounds = expected_bounds(conn, files, spec, source, target)
    whole, alone = _whole(conn, spec, source), leaf_only(spec)
    return check_structure(whole, target, leaves, spec.key, bounds, method=spec.method, per_partition=alone)


def expected_bounds(conn: Connection, files: SqlFiles, spec: TableSpec, source: Table, target: Table) -> list[Limits]:
    """Return the bounds that the twin must have: from the oldest key to `premake` periods ahead of now.

    Keys that are numbers know no now: writers that went on since the twin was made may have used up some of the
    partitions ahead of them, so one that is left is enough.
    """
    premake = spec.premake
    if spec.method == "range" and spec.interval.isdigit():
        premake = min(premake, max(1, _left_ahead(conn, files, spec, source, target)))
    bounds = plan_bounds(conn, files, spec, source, datetime.now(UTC), premake=premake)
    return [one.limits for one in bounds]


def _left_ahead(conn: Connection, files: SqlFiles, spec: TableSpec, source: Table, target: Table) -> int:
    """Count the partitions that lie behind the newest key."""
    newest = plan_bounds(conn, files, spec, source, datetime.now(UTC), premake=0)[-1]
    ranges = [one for one in target.partitions if not one.is_default and one.lower is not None]
    return sum(newest.upper is not None and int(one.lower or 0) >= int(newest.upper) for one in ranges)


def _whole(conn: Connection, spec: TableSpec, source: Table) -> Table:
    """Give a retired table the foreign keys back that the swap took off it: the live one must have them."""
    migration = read_migration(conn, split_name(spec.name))
    if migration.state != SWAPPED:
        return source
    keys = tuple(
        Constraint(key["name"], "f", key["definition"], is_validated=True, is_inherited=False, is_own=True, other=None)
        for key in migration.detail.get("foreign_keys", [])
    )
    return dataclasses.replace(source, constraints=(*source.constraints, *keys))
