"""What partitions and triggers of ours were when they were last known to be right, and what became of them since.

Owns the step `seen` of a migration: partitions by oid with bound, file, rights and what is their own; capture and
mirror triggers by oid, state and row version, with their functions. It is written in the transaction that makes it
true (`remember_seen`), so a killed run leaves none that never was. Database state of earlier versions has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Name, dotted
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover.names import Names, trigger_names

STEP = "seen"
OWN = ("bound", "grants", "own checks", "own triggers")
Seen = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Sight:
    """Which two tables are looked at: `parted` has the partitions, `plain` is the other one."""

    files: SqlFiles
    names: Names
    plain: Name
    parted: Name

    def remember(self, held: Connection, of: Name | None = None) -> None:
        """Write what is there now, in the caller's transaction; a later one replaces it. Milliseconds, one statement.

        `of` is the table whose migration keeps it, if it is not the one that the triggers are named for.
        """
        source = dotted(of or self.names.source)
        held.execute(
            as_query(self.files.render("switchover/remember_seen.sql.j2", **self.values(), migration_source=source))
        )

    def remember_again(self, held: Connection, seen: Seen) -> None:
        """Write partitions as they were read before the lock, and the triggers that this transaction turned; cheap.

        Only where nothing altered a partition since `seen` was read, nor does this transaction.
        """
        kept = {place: said for place, said in seen.items() if not place.startswith("trigger ")}
        values = {**self.values(), "migration_source": dotted(self.names.source), "partitions": json.dumps(kept)}
        held.execute(as_query(self.files.render("switchover/remember_triggers.sql.j2", **values)))

    def read(self, conn: Connection) -> Seen:
        """Return what is there now."""
        found: Seen = scalar(conn, as_query(self.files.render("switchover/seen.sql.j2", **self.values())))
        return found

    def values(self) -> dict[str, Any]:
        """Return what `switchover/seen.sql.j2` is filled with."""
        return {
            "plain": quote_ident(self.plain),
            "parted": quote_ident(self.parted),
            "seen_triggers": trigger_names(self.names),
        }


def read_remembered(conn: Connection, migration: int) -> Seen | None:
    """Return what was remembered last, or None: nothing was, by this version."""
    query = "select detail from rehearsal.step where migration = %s and name = %s"
    row = conn.execute(query, [migration, STEP]).fetchone()
    return row[0] if row else None


def replace_remembered(conn: Connection, migration: int, seen: Seen) -> None:
    """Remember what was read before; it was proved meanwhile that it is right."""
    query = "update rehearsal.step set detail = %s, done_at = now() where migration = %s and name = %s"
    conn.execute(query, [Jsonb(seen), migration, STEP])


def changed_partitions(before: Seen, now: Seen) -> list[Difference]:
    """Return partitions that came, went, or are not what they were.

    >>> changed_partitions({}, {"partition 7": {"name": "public.a", "bound": "DEFAULT"}})[0].id
    'partition public.a: only there after'
    """
    found: list[Difference] = []
    for place in sorted(_of("partition ", before, now)):
        old, new = before.get(place), now.get(place)
        if old is None or new is None:
            was, is_ = (partition["bound"] if partition else None for partition in (old, new))
            found.append(Difference(_subject(new or old or {}), "", was, is_))
            continue
        pairs = ((facet, old.get(facet), new.get(facet)) for facet in OWN)
        found += [Difference(_subject(new), facet, then, since) for facet, then, since in pairs if then != since]
    return found


def changed_capture(before: Seen, now: Seen) -> list[str]:
    """Return what may have let values pass unseen: triggers off and on again, files made anew, columns altered.

    >>> then = {"table 7": {"name": "a", "columns": "1", "file": "8"}}
    >>> now = {"table 7": {"name": "a", "columns": "2", "file": "9"}}
    >>> changed_capture(then, now), changed_capture({}, now)
    (['columns of a were altered', 'a was rewritten'], [])
    """
    came_or_went = {place.split()[1] for place in _of("partition ", before, now) if (place in before) != (place in now)}
    found: list[str] = []
    for place in sorted(_of("", before, now)):
        kind, oid, *_ = place.split()
        old, new = before.get(place, {}), now.get(place, {})
        if oid in came_or_went:
            continue
        name = new.get("name") or old.get("name")
        if kind == "trigger" and old != {**new, "name": old.get("name")}:
            found.append(f"{name} was {'dropped' if not new else 'made' if not old else 'changed, or off for a while'}")
        if kind == "table" and old and new:
            found += [f"columns of {name} were altered"] if old["columns"] != new["columns"] else []
            found += [f"{name} was rewritten"] if old["file"] != new["file"] else []
        if kind == "partition" and old.get("file") != new.get("file"):
            found.append(f"partition {name} was truncated or rewritten")
    return found


def _of(kind: str, *seen: Seen) -> Iterable[str]:
    return {place for sighting in seen for place in sighting if place.startswith(kind)}


def _subject(facts: Mapping[str, str | None]) -> str:
    return f"partition {facts['name']}"
