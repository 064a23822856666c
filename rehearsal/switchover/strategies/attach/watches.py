"""The watches of attach: before its cutover, before its rollback, and before the rollback of a split.

Owns which facts are compared and the way on if they differ; the rule itself is in `drift`. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping

from rehearsal.catalog.definition import Difference, differences, read_facts
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Table, dotted, split_name
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Seen, Sight
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.definition import find_differences
from rehearsal.switchover.strategies.attach.history import fine_partitions, wanted_of_kept
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.expected import target_statistics
from rehearsal.switchover.target.pairs import compare_pair
from rehearsal.switchover.trigger_states import read_trigger_states, require_triggers
from rehearsal.switchover.watches import prove_rows
from rehearsal.switchover.work import TableWork

PREPARED = "Take the preparation back by `./inv db.rollback` and run `./inv db.switchover` again"
# What ALTER TABLE of the partitioned table brings to history as well, so that it stays when history is detached.
RECURSES = ("column ", "check ", "index ", "primary key ", "unique constraint ", "exclusion constraint ", "not null ")
# Refused by the rollback itself, or carried by it.
ELSEWHERE = ("foreign key ", "sequence ", "view ", "materialized view ", "function ", "type ", "table ", "publication ")
STAYS_BEHIND = ("comment", "statistics")
AS_IS: Mapping[str, str] = {}


def attach_watch(files: SqlFiles, spec: TableSpec, found: Migration) -> Watch:
    """Return the watch of a cutover of attach: the table and its parent are what they were when that was made."""
    names = Names(split_name(spec.name))

    def compare(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        remembered = found.detail.definition or {}
        same = Readback(conn, files, ours).same
        now = read_facts(conn, files, ours)
        since = differences(remembered, now, accepted=spec.accepted, same=same) if remembered else []
        # The cutover gives the parent's statistics the names of the table's.
        named = target_statistics(read_carried(conn, files, ours.oid)["statistics"])
        parent = compare_pair(conn, files, spec, (ours, AS_IS), (theirs, named), early=True)
        own = _own_subjects(names, spec)
        return [
            difference
            for difference in [*since, *parent]
            if difference.facet != "next value" and (difference.subject, difference.facet) not in own
        ]

    sight = Sight(files, names, names.source, names.target)
    return Watch(sight, found.id, spec.accepted, compare, _nothing, PREPARED)


def _own_subjects(names: Names, spec: TableSpec) -> set[tuple[str, str]]:
    """Return what the preparation of attach itself put on the table."""
    extra = HistoryNames(names)
    own = {(f"index {quote_ident(name)}", "") for name in (extra.key_index, extra.back_index)}
    return own | {(f"check {quote_ident(extra.bound)}", ""), (f"column {quote_ident(spec.key)}", "not null")}


def attached_watch(files: SqlFiles, spec: TableSpec, found: Migration) -> Watch:
    """Return the watch of the rollback of attach: what stands on the parent alone would be lost with it.

    Rows are in one place each, so partitions that came bring theirs, and those that went took theirs: the table has
    the same rows before and after. A trigger of one such partition would go with it.
    """
    names = Names(split_name(spec.name))

    def compare(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        gone = found.state == state.ATTACHED and ours.oid not in {leaf.oid for leaf in theirs.partitions}
        lost = [Difference(f"partition {dotted(ours.name)}", "", "history", None)] if gone else []
        if found.detail.definition is not None:
            changed = find_differences(conn, files, spec)
            lost += [
                difference for difference in changed if difference.reason is None and _is_lost_with_parent(difference)
            ]
        return [*lost, *_own_triggers(sight.read(conn), ours)]

    sight = Sight(files, names, HistoryNames(names).history, names.source)
    remedy = f"Take it off {spec.name}, and put it on again after going back"
    return Watch(sight, 0, spec.accepted, compare, _nothing, remedy, back=True)


def _own_triggers(seen: Seen, history: Table) -> list[Difference]:
    """Return triggers that one partition alone has, other than history, which keeps its own."""
    leaves = [
        leaf for place, leaf in seen.items() if place.startswith("partition ") and place != f"partition {history.oid}"
    ]
    own = [(leaf["name"], leaf["own triggers"]) for leaf in leaves]
    return [Difference(f"partition {name}", "own triggers", None, triggers) for name, triggers in own if triggers]


def _is_lost_with_parent(difference: Difference) -> bool:
    if difference.subject.startswith("column "):
        return difference.facet in (*STAYS_BEHIND, "identity")
    return not difference.subject.startswith(RECURSES + ELSEWHERE)


def _nothing() -> None:
    return None


def split_watch(work: TableWork, found: Migration) -> Watch:
    """Return the watch of the rollback of a split: history, kept beside, is what its fine partitions are.

    A fine partition that went took its rows out of use; in history they would come back.
    """
    files, spec, names = work.files, work.spec, work.names
    history = Names(HistoryNames(names).history)
    sight = Sight(files, history, history.source, names.source)

    def compare(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        wanted = wanted_of_kept(conn, files, names, found)
        require_triggers(names.source, read_trigger_states(conn, files, wanted))
        found_ = compare_pair(conn, files, spec, (ours, AS_IS), (theirs, AS_IS), early=True)
        own = _own_subjects(names, spec)  # history keeps the bound that it was attached by
        shared = [difference for difference in found_ if difference.subject.startswith(("column ", "check "))]
        return [
            difference
            for difference in shared
            if difference.facet not in STAYS_BEHIND and (difference.subject, difference.facet) not in own
        ]

    fine = fine_partitions(found)
    prove = prove_rows(work.database, files, spec, history.source, names.source, history.reverse_log, fine)
    remedy = f"Bring {dotted(history.source)} up to date by the same statements, or take it off {spec.name}"
    return Watch(sight, found.id, spec.accepted, compare, prove, remedy, back=True, premade=True)
