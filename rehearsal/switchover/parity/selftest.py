"""Proof that a comparison would have seen corruption: corrupt scratch rows of each class and each column, and look.

Owns what is corrupted and what must be reported of it. Digest, drill and judgement are those of the comparison, and so
are columns, key and bounds; only the rows are copies, within the query. No table is written or locked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import Quoted, SqlFiles, quote_ident
from rehearsal.switchover.parity.digest import Sums, digest_here
from rehearsal.switchover.parity.drill import drill, look_closer
from rehearsal.switchover.parity.pair import Pair
from rehearsal.switchover.parity.scratch import LOG, Identity, Image, Scene, Scratch, find_rows, of_row, typed

ATTEMPTS = 5
BUSY = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)
SETTINGS = """
set local lock_timeout = '500ms'; set local statement_timeout = '60s'; set local jit = off;
set local idle_in_transaction_session_timeout = '60s'
"""

# Class, identity, and whether the change log explains it.
Expected = set[tuple[str, Identity, bool]]


@dataclass(slots=True)
class Caught:
    """Classes that were seen, corruption that was not, and columns for which there is no other value."""

    seen: set[str] = field(default_factory=set[str])
    unseen: list[str] = field(default_factory=list[str])
    unaltered: list[str] = field(default_factory=list[str])


def run_self_test(database: Database, files: SqlFiles, pair: Pair, sums: tuple[Sums, Sums]) -> tuple[bool | None, str]:
    """Return whether every corruption was seen (None: not possible) and a sentence that says so."""
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            return _attempt(database, files, pair, sums)
        except BUSY as exc:
            reason = _first_line(exc)
        except CannotSee as exc:
            return None, str(exc)
        except (psycopg.DataError, psycopg.NotSupportedError) as exc:
            return None, f"rows cannot be compared one by one: {_first_line(exc)}"
        time.sleep(random.uniform(0.05, 0.1) * (attempt + 1))  # noqa: S311 -- jitter between tries for a lock
    return None, f"no row could be read in {ATTEMPTS} attempts: {reason}"


def _attempt(database: Database, files: SqlFiles, pair: Pair, sums: tuple[Sums, Sums]) -> tuple[bool | None, str]:
    """Corrupt and look in one snapshot that cannot be written to."""
    with connect(database, autocommit=False, role="parity self-test") as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        try:
            conn.execute(SETTINGS)
            scratch = find_rows(conn, files, pair, sums)
            return _judge(_Examiner(conn, files, pair, scratch).examine(), scratch)
        finally:
            if not conn.closed:
                conn.rollback()


def _judge(findings: Caught, scratch: Scratch) -> tuple[bool | None, str]:
    where = "made-up rows" if scratch.origin.made else scratch.origin.relation[1]
    if findings.unseen:
        return False, f"corruption of scratch rows ({where}) was not seen: {', '.join(findings.unseen)}"
    columns = ", ".join(findings.unaltered)
    if missing := scratch_classes(scratch) - findings.seen:
        kinds = ", ".join(sorted(missing))
        return (
            None,
            f"no row could be {kinds}: there is no other value of {columns}; corruption seen: {_said(findings)}",
        )
    left = f"; no other value was found for {columns}" if columns else ""
    return True, f"corruption was seen: {_said(findings)}{', in made-up rows' if scratch.origin.made else ''}{left}"


def _said(findings: Caught) -> str:
    return ", ".join(sorted(findings.seen)) or "none"


def scratch_classes(scratch: Scratch) -> set[str]:
    """Return the classes of corruption that there are for the pair."""
    pair = scratch.pair
    there_is = {
        "missing": True,
        "orphan": True,
        "misrouted": scratch.rest is not None,
        "moved": pair.key not in pair.primary_key,
        "duplicate": pair.key not in pair.primary_key,
        "stale": bool(_free_columns(pair)),
    }
    return {kind for kind, applies in there_is.items() if applies}


def _free_columns(pair: Pair) -> list[str]:
    """Return the columns that do not tell rows apart: all of the table's, whatever the comparison looks at."""
    return [column.name for column in pair.source.columns if column.name not in (*pair.primary_key, pair.key)]


@dataclass(slots=True)
class _Examiner:
    """Puts one corrupted scene after the other before the comparison."""

    conn: Connection
    files: SqlFiles
    pair: Pair
    scratch: Scratch
    findings: Caught = field(default_factory=Caught)

    def examine(self) -> Caught:
        """Return what was seen and what was not."""
        if not self._takes_equal_for_equal():
            self.findings.unseen.append("equal rows were taken for different ones")
            return self.findings
        compared = typed(self.pair)
        self.findings.unseen += [
            f"{column} (not compared)" for column in _free_columns(self.pair) if column not in compared
        ]
        for what, scene, expected in self._scenes():
            self._look(what, scene, expected)
        return self.findings

    @property
    def _rows(self) -> tuple[Image, ...]:
        return tuple(Image(number) for number in range(1, len(self.scratch.identities) + 1))

    def _takes_equal_for_equal(self) -> bool:
        staged = self.scratch.staged(Scene(self._rows, self._rows))
        leaves = [leaf for leaf in staged.leaves if leaf.oid]
        sums = digest_here(self.conn, self.files, staged)
        equal = all(sums[0].of(leaf.oid) == sums[1].of(leaf.oid) for leaf in staged.leaves)
        return equal and not drill(self.conn, self.files, staged, leaves, keylog=LOG).counts

    def _look(self, what: str, scene: Scene, expected: Expected) -> None:
        """Compare as the comparison does, and note whether exactly what was corrupted is reported."""
        staged = self.scratch.staged(scene)
        sums = digest_here(self.conn, self.files, staged)
        found = look_closer(self.conn, self.files, staged, sums, keylog=LOG)
        if {(example.kind, example.identity, example.explained) for example in found.examples} == expected:
            self.findings.seen |= {kind for kind, _, _ in expected}
        else:
            by = "digest" if all(sums[0].of(leaf.oid) == sums[1].of(leaf.oid) for leaf in staged.leaves) else "drill"
            self.findings.unseen.append(f"{what} ({by})")

    def _scenes(self) -> Iterator[tuple[str, Scene, Expected]]:
        rows, first = self._rows, self.scratch.identities[0]
        yield "missing row", Scene(rows, rows[1:]), {("missing", first, False)}
        yield "orphan row", Scene(rows[1:], rows), {("orphan", first, False)}
        if self.scratch.rest:
            yield "misrouted row", Scene(rows, rows[1:], rows[:1]), {("misrouted", first, False)}
        if len(rows) > 1:
            second = self.scratch.identities[1]
            expected = {("missing", first, True), ("missing", second, False)}
            yield "missing row beside one in the change log", Scene(rows, rows[2:], log=(1,)), expected
        yield from self._stale()
        yield from self._rekeyed()
        if self.pair.key not in self.pair.primary_key:
            yield from self._moved()

    def _stale(self) -> Iterator[tuple[str, Scene, Expected]]:
        """Alter each column of a row; and let two rows swap values, which sums of hashes are easily blind to."""
        rows, (first, *others) = self._rows, self.scratch.identities
        swapped = False
        for name in _free_columns(self.pair):
            value = self._other(name, nullable=True) if name in typed(self.pair) else None
            if value is None:
                continue
            altered = Image(1, {name: value[0]})
            yield f"stale {name}", Scene(rows, (altered, *rows[1:])), {("stale", first, False)}
            if others and not swapped:
                swapped = True
                theirs, ours = (
                    Image(2, {name: of_row(1, text)}) for text in (Quoted(f"x.{quote_ident(name)}"), value[0])
                )
                scene = Scene((altered, theirs, *rows[2:]), (rows[0], ours, *rows[2:]))
                yield f"swapped {name}", scene, {("stale", first, False), ("stale", others[0], False)}

    def _rekeyed(self) -> Iterator[tuple[str, Scene, Expected]]:
        """Alter each column of a primary key; alone, so that no other row can have the new one."""
        first = self.scratch.identities[0]
        for name in self.pair.primary_key:
            if value := self._other(name, nullable=False):
                expected = {("missing", first, False), ("orphan", value[1], False)}
                yield f"other {name}", Scene((Image(1),), (Image(1, {name: value[0]}),)), expected

    def _moved(self) -> Iterator[tuple[str, Scene, Expected]]:
        """Give a row, or a copy of it, another partition key, in its own partition and in another one."""
        rows, first, value = self._rows, self.scratch.identities[0], self._other(self.pair.key, nullable=False)
        if value is None:
            return
        moved = Image(1, {self.pair.key: value[0]})
        yield "moved row", Scene(rows, (moved, *rows[1:])), {("moved", first, False)}
        yield "duplicate row", Scene(rows, (*rows, moved)), {("duplicate", value[1], False)}
        if self.scratch.rest:
            yield "row moved to another partition", Scene(rows, rows[1:], (moved,)), {("moved", first, False)}
            yield "duplicate in another partition", Scene(rows, rows, (moved,)), {("duplicate", value[1], False)}

    def _other(self, name: str, *, nullable: bool) -> tuple[Quoted, Identity] | None:
        value = self.scratch.alter(1, name, nullable=nullable)
        if value is None:
            self.findings.unaltered.append(name)
        return value


def _first_line(exc: psycopg.Error) -> str:
    return str(exc).partition("\n")[0]
