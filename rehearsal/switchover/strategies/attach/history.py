"""History that was split: kept beside the partitions that hold its rows, which it follows by a change log.

Owns what is known of it between the exchange of a split and its rollback or clean-up: which partitions it follows, by
which triggers, and how. Changes nothing but by replay.
"""

from __future__ import annotations

from rehearsal.catalog.tables import Catalog, Name, dotted, split_name
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident, quote_literal
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.detail import Split
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import Wanted
from rehearsal.switchover.work import TableWork


def fine_partitions(found: Migration) -> tuple[Name, ...]:
    """Return the partitions that history was split into, also those that are gone by now."""
    return tuple(split_name(name) for name in found.detail.fine)


def wanted_of_kept(conn: Connection, files: SqlFiles, names: Names, found: Migration) -> list[Wanted]:
    """Return the triggers by which history follows; a partition that was detached or dropped needs none."""
    history = Names(HistoryNames(names).history)
    there = {leaf.name for leaf in Catalog(conn, files).read(names.source).partitions}
    triggers = (history.reverse_capture_trigger, "A"), (history.truncate_trigger, "O")
    fine = [name for name in fine_partitions(found) if name in there]
    return [Wanted(name, trigger, wanted, history) for name in fine for trigger, wanted in triggers]


def replay_of_kept(work: TableWork, conn: Connection) -> Replay:
    """Return the replay by which history follows its partitions.

    Raises:
        PreconditionError: one of them was detached: its rows are gone from the table only for now, and a replay would
            take them out of history, which may be their only other place.
    """
    _refuse_detached(work, conn)
    history, split = Names(HistoryNames(work.names).history), Split.of_detail(work.migration(conn).detail)
    shape = Shape.of(work.table(conn, history.source), work.spec.key, history)
    # The table has later partitions too, and history is to follow none of those.
    within = f"{quote_ident(work.spec.key)} < {quote_literal(split.until)}::{split.key_type}"
    return Replay(work.files, shape, history.reverse_log, work.names.source, history.source, within)


def _refuse_detached(work: TableWork, conn: Connection) -> None:
    catalog = Catalog(conn, work.files)
    there = {leaf.name for leaf in work.table(conn).partitions}
    gone = [name for name in fine_partitions(work.migration(conn)) if name not in there and catalog.find(name)]
    if gone:
        listed, verb = ", ".join(map(dotted, gone)), "was" if len(gone) == 1 else "were"
        message = (
            f"{listed} {verb} detached from {work.spec.name}, so history cannot follow; attach it again, or drop or "
            "rename it if its rows are not needed, then run again. Nothing was changed"
        )
        raise PreconditionError(message)
