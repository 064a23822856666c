"""Parity: whether source and target hold the same rows, exactly, while writers work.

Everything is read in one snapshot that several sessions share, so a difference is a difference and never a write that
came in between. Digest each leaf, drill into those that differ, explain what the change log of the same snapshot
announces, and prove each time, on scratch rows, that corruption would be seen. No table is ever written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Generator, Sequence

import psycopg

from rehearsal.catalog.tables import Name, Table, dotted
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.digest import Sums, digest_pair, open_snapshot
from rehearsal.switchover.parity.drill import RowDifference, look_closer
from rehearsal.switchover.parity.pair import Leaf, Pair, Stays, read_pair
from rehearsal.switchover.parity.report import LeafParity, ParityReport, parity_text
from rehearsal.switchover.parity.selftest import run_self_test

__all__ = ["LeafParity", "ParityReport", "RowDifference", "compare", "parity_text"]


def compare(
    database: Database,
    files: SqlFiles,
    source: Table,
    target: Table,
    key: str,
    *,
    keylog: Name | None = None,
    leaves: Sequence[Name] | None = None,
    stays: Stays | None = None,
    apart: Collection[str] = (),
    workers: int = 2,
    self_test: bool = True,
    max_examples: int = 100,
) -> ParityReport:
    """Compare two tables exactly, in one snapshot, while both are written to.

    `keylog` names the table of captured keys: columns k1..kn are the primary key of the source, then the partition
    key if it is not part of it. `leaves`: the partitions of the target that hold the source's rows, if it has others
    too. `stays`: the other table is about to go; columns that only this one has are not compared, nor are those of
    `apart` that only one has, as the plan accepts. Takes ACCESS SHARE only, in transactions that are read only; the
    self-test too, which works on copies of a few rows within its queries.

    Raises:
        PreconditionError: the tables have no primary key or not the same columns.
        CannotSee: a session was lost or a partition was dropped on the way, so that part of the rows was not read.
    """
    started = time.monotonic()
    with _seeing(source), open_snapshot(database) as (conn, snapshot):
        pair = read_pair(conn, files, source.name, target.name, key, leaves, stays=stays, apart=apart)
        sums = digest_pair(conn, database, files, pair, snapshot, workers=workers)
        found = look_closer(conn, files, pair, sums, keylog=keylog, max_examples=max_examples)
    judged = tuple(_leaf_parity(leaf, *sums) for leaf in pair.leaves if leaf.oid or sums[0].rows[leaf.oid])
    with _seeing(source):
        passed, note = run_self_test(database, files, pair, sums) if self_test else (None, "not asked for")
    return ParityReport(
        pair.source.name,
        pair.target.name,
        snapshot,
        judged,
        found.counts,
        found.explained,
        found.unexplained,
        tuple(found.examples),
        in_default=_strays(pair, sums[1]),
        null_keys=sums[0].null_keys,
        self_test=passed,
        self_test_note=note,
        seconds=time.monotonic() - started,
    )


def _strays(pair: Pair, target: Sums) -> int:
    """Count the rows in DEFAULT; that of a list is where all other values belong, of a range nothing does."""
    return 0 if pair.method == "list" else sum(target.rows[leaf.oid] for leaf in pair.leaves if leaf.is_default)


@contextlib.contextmanager
def _seeing(source: Table) -> Generator[None]:
    """Say of a comparison that was cut short that it saw nothing."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable) as exc:
        reason = " ".join(str(exc).split())
        message = f"the comparison of {dotted(source.name)} was cut short: {reason}; compare again"
        raise CannotSee(message) from exc


def _leaf_parity(leaf: Leaf, source: Sums, target: Sums) -> LeafParity:
    (source_count, source_digest), (target_count, target_digest) = source.of(leaf.oid), target.of(leaf.oid)
    return LeafParity(leaf.name[1], source_count, target_count, source_digest, target_digest)
