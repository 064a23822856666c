"""Which trigger must be on or off just now: what `db.verify`, `doctor` and the gates hold the catalog against.

Reads only. Owns the answer for each state of a migration; the triggers themselves are made by the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.names import Names


@dataclass(frozen=True, slots=True)
class TriggerState:
    """A mirror trigger; `wanted` and `found` are as in pg_trigger.tgenabled, `found` None where it is missing."""

    table: Name
    name: str
    wanted: str
    found: str | None


def read_trigger_states(conn: Connection, files: SqlFiles, names: Names) -> list[TriggerState]:
    """Return every mirror trigger of a copied table with the state that it has and the one that it must have."""
    swapped = state.read_migration(conn, names.source).state == state.SWAPPED
    source = names.retired if swapped else names.source
    target = names.source if swapped else names.target
    catalog = Catalog(conn, files)
    have = {name: {one.name: one.enabled for one in catalog.read(name).triggers} for name in (source, target)}
    return [
        TriggerState(table, name, wanted, have[table].get(name))
        for table, name, wanted in _wanted(conn, names, source, target)
    ]


def _wanted(conn: Connection, names: Names, source: Name, target: Name) -> list[tuple[Name, str, str]]:
    found = state.read_migration(conn, names.source)
    wanted: list[tuple[Name, str, str]] = [(source, names.truncate_trigger, "A")]
    if found.strategy == "swap":
        swapped = found.state == state.SWAPPED
        wanted.append((source, names.capture_trigger, "D" if swapped else "A"))
        wanted.append((target, names.reverse_capture_trigger, "A" if swapped else "D"))
        return wanted
    prepared, mirrored = found.state == state.PREPARED, found.state == state.MIRRORED
    # Between the barrier's two locks mirrors and key log are on: the step says so, the state does not yet.
    both = mirrored or state.is_done(conn, found.id, "sync-on")
    wanted.append((source, names.sync_trigger, "A" if both or prepared else "D"))
    wanted.append((target, names.reverse_sync_trigger, "A" if both else "D"))
    wanted.append((source, names.capture_trigger, "D" if mirrored or prepared else "A"))
    return wanted
