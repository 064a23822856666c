"""Which trigger must be on or off just now: what `db.verify`, `doctor` and the gates hold the catalog against.

Reads only. Which state is right is said by each strategy; the triggers themselves are made by the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rehearsal.catalog.tables import Catalog, Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

# As in pg_trigger.tgenabled; None: it is missing.
SAID = {None: "gone", "D": "off"}
Wanted = tuple[Name, str, str]


@dataclass(frozen=True, slots=True)
class TriggerState:
    """A mirror trigger; `wanted` and `found` are as in pg_trigger.tgenabled, `found` None where it is missing."""

    table: Name
    name: str
    wanted: str
    found: str | None


def read_trigger_states(conn: Connection, files: SqlFiles, wanted: Iterable[Wanted]) -> list[TriggerState]:
    """Return triggers with the state that they have; `wanted` is the table, the trigger and its state, of each."""
    wanted = list(wanted)
    catalog = Catalog(conn, files)
    have = {
        table: {trigger.name: trigger.enabled for trigger in catalog.read(table).triggers}
        for table in dict.fromkeys(table for table, _, _ in wanted)
    }
    return [TriggerState(table, name, state, have[table].get(name)) for table, name, state in wanted]


def require_triggers(source: Name, states: Iterable[TriggerState]) -> None:
    """Refuse while a trigger of ours is not in the state that it must have.

    Raises:
        PreconditionError: names each.
    """
    wrong = [trigger for trigger in states if trigger.found != trigger.wanted]
    if wrong:
        told = "; ".join(
            f"trigger {trigger.name} of {dotted(trigger.table)} is {SAID.get(trigger.found, 'on')}" for trigger in wrong
        )
        message = (
            f"{dotted(source)}: {told}, so writes may have passed unseen. `./inv doctor --fix` puts it right "
            "and brings what was missed; nothing was changed"
        )
        raise PreconditionError(message)
