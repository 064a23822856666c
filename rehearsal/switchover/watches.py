"""The watch of each kind of exchange: which two tables, which facts of theirs, and the way on if they differ.

Owns the choice; the rule itself is in `drift`. Reads only, but for what a watch remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rehearsal.catalog.definition import Difference, compare, read_facts
from rehearsal.catalog.readback import Readback
from rehearsal.catalog.tables import Catalog, Name, Table, dotted, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover import parity, state
from rehearsal.switchover.definition import find_differences
from rehearsal.switchover.drift import Prove, Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Seen, Sight
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.strategies.swap.exchange import leaf_keys
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.expected import twin_statistics
from rehearsal.switchover.target.pairs import compare_pair, retired_names, target_names
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import read_trigger_states

MIGRATE = "Run `invoke db.migrate`: it brings the target up to date, or makes it anew"
BACK = (
    "Bring {retired} up to date by the same statements, values by an UPDATE of {live} that sets them to what they are, "
    "which the retired table then follows; or take it off {live}"
)
MIRRORED = (
    "Run the same statements on the other of {plain} and {parted}, or take it off again; a new column cannot be "
    "mirrored any more, so take it off"
)
PREPARED = "Take the preparation back by `invoke db.rollback` and run `invoke db.switchover` again"
# What ALTER TABLE of the partitioned table brings to history as well, so that it stays when history is detached.
RECURSES = ("column ", "check ", "index ", "primary key ", "unique constraint ", "exclusion constraint ", "not null ")
# Refused by the way back itself, or carried by it.
ELSEWHERE = ("foreign key ", "sequence ", "view ", "materialized view ", "function ", "type ", "table ", "publication ")
AS_IS: Mapping[str, str] = {}
STATES = {None: "gone", "D": "off"}
STAYS_BEHIND = ("comment", "statistics")


def copy_watch(
    database: Database, files: SqlFiles, spec: TableSpec, found: Migration, *, leaving: bool = False
) -> Watch:
    """Return the watch of a table and its target, in whichever direction the next exchange goes.

    `leaving`: both tables are mirrored, and the application is about to leave the partitioned one.
    """
    names = Names(split_name(spec.name))
    swapped = found.state == state.SWAPPED
    plain, parted = (names.retired, names.source) if swapped else (names.source, names.target)
    early = found.state in (state.PREPARED, state.COPYING)
    sight = Sight(files, names, plain, parted)
    mirrored = found.state == state.MIRRORED
    log = None if mirrored else names.reverse_log if swapped else names.forward_log

    def differences(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        require_triggers(conn, files, names)
        if swapped:
            retired = ours, retired_names(found.detail)
            return [*compare_pair(conn, files, spec, retired, (theirs, AS_IS)), *_changed_keys(conn, found, theirs)]
        shape = Shape.of(ours, spec.key, names, spec.uniques)
        target = theirs, target_names(conn, files, ours, theirs, shape)
        unmirrored = _unmirrored(found, ours, theirs) if mirrored else []
        return [*compare_pair(conn, files, spec, (ours, AS_IS), target, early=early), *unmirrored]

    prove = prove_rows(database, files, spec, plain, parted, log)
    way_on = BACK if swapped else MIRRORED if mirrored else MIGRATE
    remedy = way_on.format(retired=dotted(plain), live=dotted(parted), plain=dotted(plain), parted=dotted(parted))
    back = swapped or leaving
    return Watch(sight, found.id, spec.accepted, differences, prove, remedy, back=back, early=early)


def _unmirrored(found: Migration, ours: Table, theirs: Table) -> list[Difference]:
    """Return columns that both tables have and the mirrors, made before, do not carry."""
    remembered: Mapping[str, Any] = found.detail.get("definition") or {}
    both = {one.name for one in ours.columns} & {one.name for one in theirs.columns}
    subjects = [f"column {quote_ident(name)}" for name in sorted(both)]
    return [Difference(one, "mirrored", "no", "no") for one in subjects if remembered and one not in remembered]


def prove_rows(
    database: Database, files: SqlFiles, spec: TableSpec, plain: Name, parted: Name, log: Name | None
) -> Prove:
    """Return the comparison of all rows, which says how many differ and are not about to be followed."""

    def prove() -> str | None:
        with connect(database, role="compare") as conn:
            catalog = Catalog(conn, files)
            source, target = catalog.read(plain), catalog.read(parted)
        report = parity.compare(database, files, source, target, spec.key, keylog=log, self_test=False)
        return f"{report.unexplained:,} rows differ" if report.unexplained else None

    return prove


def require_triggers(conn: Connection, files: SqlFiles, names: Names) -> None:
    """Refuse while a trigger of ours is not in the state that it must have.

    Raises:
        PreconditionError: names each.
    """
    wrong = [one for one in read_trigger_states(conn, files, names) if one.found != one.wanted]
    if wrong:
        told = "; ".join(f"trigger {one.name} of {dotted(one.table)} is {STATES.get(one.found, 'on')}" for one in wrong)
        message = (
            f"{dotted(names.source)}: {told}, so writes may have passed unseen. `invoke doctor --fix` puts it right "
            "and brings what was missed; nothing was changed"
        )
        raise PreconditionError(message)


def _changed_keys(conn: Connection, found: Migration, live: Table) -> list[Difference]:
    """Return foreign keys of the live table that going back would lose, bring back or change."""
    before = {one["name"]: _strong(one["definition"]) for one in found.detail.get("foreign_keys", [])}
    now = {one.name: _strong(one.definition) for one in live.foreign_keys}
    if leaf_keys(conn, live):
        now = {**before, **now}  # a run that was killed before the parent adopted those of its leaves
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [Difference(f"foreign key {quote_ident(name)}", "", before.get(name), now.get(name)) for name in names]


def _strong(definition: str) -> str:
    return definition.removesuffix(" NOT VALID")


def attach_watch(files: SqlFiles, spec: TableSpec, found: Migration) -> Watch:
    """Return the watch of a cut-over of attach: the table and its parent are what they were when that was made."""
    names = Names(split_name(spec.name))

    def differences(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        remembered: Mapping[str, Any] = found.detail.get("definition") or {}
        same = Readback(conn, files, ours).same
        now = read_facts(conn, files, ours)
        since = compare(remembered, now, accepted=spec.accepted, same=same) if remembered else []
        # The cut-over gives the parent's statistics the names of the table's.
        named = twin_statistics(read_carried(conn, files, ours.oid)["statistics"])
        parent = compare_pair(conn, files, spec, (ours, AS_IS), (theirs, named), early=True)
        own = _own_subjects(names, spec)
        return [one for one in [*since, *parent] if one.facet != "next value" and (one.subject, one.facet) not in own]

    sight = Sight(files, names, names.source, names.target)
    return Watch(sight, found.id, spec.accepted, differences, _nothing, PREPARED)


def _own_subjects(names: Names, spec: TableSpec) -> set[tuple[str, str]]:
    """Return what the preparation of attach itself put on the table."""
    extra = HistoryNames(names)
    own = {(f"index {quote_ident(name)}", "") for name in (extra.key_index, extra.back_index)}
    return own | {(f"check {quote_ident(extra.bound)}", ""), (f"column {quote_ident(spec.key)}", "not null")}


def attached_watch(files: SqlFiles, plan: Plan, spec: TableSpec, found: Migration) -> Watch:
    """Return the watch of the way back of attach: what stands on the parent alone would be lost with it.

    Rows are in one place each, so partitions that came bring theirs, and those that went took theirs: the table has
    the same rows before and after. A trigger of one such partition would go with it.
    """
    names = Names(split_name(spec.name))

    def differences(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        gone = found.state == state.ATTACHED and ours.oid not in {leaf.oid for leaf in theirs.partitions}
        lost = [Difference(f"partition {dotted(ours.name)}", "", "history", None)] if gone else []
        if "definition" in found.detail:
            changed = find_differences(conn, files, plan, spec)
            lost += [one for one in changed if one.reason is None and _is_lost_with_parent(one)]
        return [*lost, *_own_triggers(sight.read(conn), ours)]

    sight = Sight(files, names, HistoryNames(names).history, names.source)
    remedy = f"Take it off {spec.name}, and put it on again after going back"
    return Watch(sight, 0, spec.accepted, differences, _nothing, remedy, back=True)


def _own_triggers(seen: Seen, history: Table) -> list[Difference]:
    """Return triggers that one partition alone has, other than history, which keeps its own."""
    leaves = [
        one for place, one in seen.items() if place.startswith("partition ") and place != f"partition {history.oid}"
    ]
    own = [(one["name"], one["own triggers"]) for one in leaves]
    return [Difference(f"partition {name}", "own triggers", None, triggers) for name, triggers in own if triggers]


def _is_lost_with_parent(one: Difference) -> bool:
    if one.subject.startswith("column "):
        return one.facet in STAYS_BEHIND
    return not one.subject.startswith(RECURSES + ELSEWHERE)


def _nothing() -> None:
    return None


def split_watch(files: SqlFiles, spec: TableSpec, found: Migration) -> Watch:
    """Return the watch of the way back of a split: history, kept beside, is what its fine partitions are.

    A fine partition that went took its rows out of use; in history they would come back.
    """
    names = Names(split_name(spec.name))
    history = Names(HistoryNames(names).history)
    sight = Sight(files, history, history.source, names.source)

    def differences(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        found_ = compare_pair(conn, files, spec, (ours, AS_IS), (theirs, AS_IS), early=True)
        own = _own_subjects(names, spec)  # history keeps the bound that it was attached by
        shared = [one for one in found_ if one.subject.startswith(("column ", "check "))]
        return [one for one in shared if one.facet not in STAYS_BEHIND and (one.subject, one.facet) not in own]

    def prove() -> str | None:
        return "their rows cannot be told to be those of history"

    remedy = f"Bring {dotted(history.source)} up to date by the same statements, or take it off {spec.name}"
    return Watch(sight, found.id, spec.accepted, differences, prove, remedy, back=True, premade=True)


def needs_look(found: Migration, *, leaving: bool) -> bool:
    """Return whether an exchange is to come from this state: to the target, or with `leaving` away from it."""
    ready = (state.READY, *state.UNUSED) if found.strategy != "attach" else (state.READY,)
    return found.state in (state.SWITCHED if leaving else (*ready, state.MIRRORED))
