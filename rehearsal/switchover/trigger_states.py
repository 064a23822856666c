"""Which trigger must be on or off just now: what `db.verify`, `doctor` and the gates hold the catalog against.

Reads only. Which state is right is said by each strategy; the triggers themselves are made by the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rehearsal.catalog.tables import Catalog, Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover.names import Names

# As in pg_trigger.tgenabled; None: it is missing.
SAID = {None: "gone", "D": "off"}


class Wanted(NamedTuple):
    """A trigger of ours and the state that it must have; `names` are those by which it was made."""

    table: Name
    name: str
    state: str
    names: Names


@dataclass(frozen=True, slots=True)
class TriggerState:
    """A mirror trigger; `wanted` and `found` are as in pg_trigger.tgenabled, `found` None where it is missing."""

    table: Name
    name: str
    wanted: str
    found: str | None
    names: Names


def read_trigger_states(conn: Connection, files: SqlFiles, wanted: Iterable[Wanted]) -> list[TriggerState]:
    """Return triggers with the state that they have and the one that is wanted of each."""
    wanted = list(wanted)
    catalog = Catalog(conn, files)
    have = {
        table: {trigger.name: trigger.enabled for trigger in catalog.read(table).triggers}
        for table in dict.fromkeys(trigger.table for trigger in wanted)
    }
    return [TriggerState(table, name, state, have[table].get(name), names) for table, name, state, names in wanted]


def remake(trigger: TriggerState) -> tuple[str, Name]:
    """Return the statement that makes a trigger of ours again that somebody dropped, and its function."""
    names, rows = trigger.names, ("after insert or update or delete", "row")
    made = {
        names.capture_trigger: (*rows, "capture_forward"),
        names.reverse_capture_trigger: (*rows, "capture_reverse"),
        names.sync_trigger: (*rows, "sync_to_partitioned"),
        names.reverse_sync_trigger: (*rows, "sync_from_partitioned"),
        names.truncate_trigger: ("before truncate", "statement", "refuse_truncate"),
    }
    when, each, role = made[trigger.name]
    function = names.function(role)
    text = (
        f"create trigger {quote_ident(trigger.name)} {when} on {quote_ident(trigger.table)} "
        f"for each {each} execute function {quote_ident(function)}()"
    )
    return text, function


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
