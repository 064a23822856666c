"""What a query plan did to a partitioned table, by numbers: leaves planned, removed, executed; indexes; buffers.

Owns the reading of EXPLAIN's JSON. Pure: must not know connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import Name

# A sequential scan of less is what a good planner does with a small leaf, index or not.
FEW_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """One executed query plan. `planned` are leaves in it, `skipped` those of them that were never executed."""

    planned: frozenset[str]
    executed: frozenset[str]
    removed: int
    indexes: tuple[str, ...]
    scanned_whole: tuple[str, ...]
    buffers: int
    planning_ms: float
    execution_ms: float

    @property
    def skipped(self) -> frozenset[str]:
        """Leaves in the plan that never had to be looked into, as when a LIMIT was reached before."""
        return self.planned - self.executed


def read_query_plan(explained: Mapping[str, Any], relations: Mapping[Name, str]) -> QueryPlan:
    """Read EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT JSON); `relations` names the leaves (or the one plain table)."""
    root = explained["Plan"]
    nodes = list(_nodes(root))
    scans = [(relations[name], node) for node in nodes if (name := _relation(node)) in relations]
    ran = [(leaf, node) for leaf, node in scans if node["Actual Loops"] > 0]
    return QueryPlan(
        planned=frozenset(leaf for leaf, _ in scans),
        executed=frozenset(leaf for leaf, _ in ran),
        removed=sum(node.get("Subplans Removed", 0) for node in nodes),
        indexes=tuple(sorted({index for _, node in ran for index in _indexes(node)})),
        scanned_whole=tuple(sorted({leaf for leaf, node in ran if _is_whole(node)})),
        buffers=root.get("Shared Hit Blocks", 0) + root.get("Shared Read Blocks", 0),
        planning_ms=explained.get("Planning Time", 0.0),
        execution_ms=explained.get("Execution Time", 0.0),
    )


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _relation(node: Mapping[str, Any]) -> Name:
    return node.get("Schema", ""), node.get("Relation Name", "")


def _indexes(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the index of a scan, or those below a bitmap heap scan, whose nodes do not name their table."""
    if "Index Name" in node:
        yield node["Index Name"]
    if node["Node Type"].startswith("Bitmap"):
        for child in node.get("Plans", ()):
            yield from _indexes(child)


def _is_whole(node: Mapping[str, Any]) -> bool:
    read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return bool(node["Node Type"] == "Seq Scan" and read > FEW_ROWS)
