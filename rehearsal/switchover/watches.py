"""The watch of a table and its target: which facts of theirs are compared, and the way on if they differ.

Owns the choice; the rule itself is in `drift`. Reads only, but for what a watch remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rehearsal.catalog.definition import Difference, columns_apart
from rehearsal.catalog.tables import Catalog, Name, Table, dotted
from rehearsal.environment import Database
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover import parity, state
from rehearsal.switchover.drift import Prove, Watch
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.state import Migration
from rehearsal.switchover.target.foreign_keys import leaf_keys
from rehearsal.switchover.target.pairs import compare_pair, retired_names, target_names
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import TriggerState, require_triggers
from rehearsal.switchover.work import TableWork

MIGRATE = "Run `./inv db.migrate`: it brings the target up to date, or makes it anew"
BACK = (
    "Bring {retired} up to date by the same statements, values by an UPDATE of {live} that sets them to what they are, "
    "which the retired table then follows; or take it off {live}"
)
MIRRORED = (
    "Run the same statements on the other of {plain} and {parted}, or take it off again; a new column cannot be "
    "mirrored any more, so take it off"
)
AS_IS: Mapping[str, str] = {}


def copy_watch(
    work: TableWork, found: Migration, triggers: Callable[[Connection], list[TriggerState]], *, leaving: bool = False
) -> Watch:
    """Return the watch of a table and its target, in whichever direction the next exchange goes.

    `triggers` reads those of ours; `leaving`: both tables are mirrored, and the application is about to leave the
    partitioned one.
    """
    files, spec, names = work.files, work.spec, work.names
    swapped = found.state == state.SWAPPED
    plain, parted = (names.retired, names.source) if swapped else (names.source, names.target)
    early = found.state in (state.PREPARED, state.COPYING)
    mirrored = found.state == state.MIRRORED
    log = None if mirrored else names.reverse_log if swapped else names.forward_log

    def differences(conn: Connection, ours: Table, theirs: Table) -> list[Difference]:
        require_triggers(names.source, triggers(conn))
        if swapped:
            retired = ours, retired_names(found.detail)
            return [*compare_pair(conn, files, spec, retired, (theirs, AS_IS)), *_changed_keys(conn, found, theirs)]
        shape = Shape.of(ours, spec.key, names, spec.uniques)
        target = theirs, target_names(conn, files, ours, theirs, shape)
        unmirrored = _unmirrored(found, ours, theirs) if mirrored else []
        apart = compare_pair(conn, files, spec, (ours, AS_IS), target, early=early)
        if leaving:
            # The source stays in use: what only it has is not lost.
            apart = [difference for difference in apart if difference.after is not None]
        return [*apart, *unmirrored]

    stays: Stays | None = "source" if leaving and not swapped else None
    prove = prove_rows(work.database, files, spec, plain, parted, log, stays=stays)
    way_on = BACK if swapped else MIRRORED if mirrored else MIGRATE
    remedy = way_on.format(retired=dotted(plain), live=dotted(parted), plain=dotted(plain), parted=dotted(parted))
    sight = Sight(files, names, plain, parted)
    back = swapped or leaving
    # Partitions that others made since: their triggers came with ATTACH, rows that came with it are compared.
    new = dict.fromkeys(("premade", "follows"), swapped or mirrored)
    return Watch(sight, found.id, spec.accepted, differences, prove, remedy, back=back, early=early, **new)


def _unmirrored(found: Migration, ours: Table, theirs: Table) -> list[Difference]:
    """Return columns that both tables have and the mirrors, made before, do not carry."""
    remembered = found.detail.definition or {}
    both = {column.name for column in ours.columns} & {column.name for column in theirs.columns}
    subjects = [f"column {quote_ident(name)}" for name in sorted(both)]
    return [
        Difference(subject, "mirrored", "no", "no") for subject in subjects if remembered and subject not in remembered
    ]


def prove_rows(
    database: Database,
    files: SqlFiles,
    spec: TableSpec,
    plain: Name,
    parted: Name,
    log: Name | None,
    leaves: Sequence[Name] | None = None,
    stays: Stays | None = None,
) -> Prove:
    """Return the comparison of all rows, which says how many differ and are not about to be followed."""

    def prove() -> str | None:
        with connect(database, role="compare") as conn:
            catalog = Catalog(conn, files)
            source, target = catalog.read(plain), catalog.read(parted)
        apart = columns_apart(spec.accepted)
        report = parity.compare(
            database,
            files,
            source,
            target,
            spec.key,
            keylog=log,
            leaves=leaves,
            stays=stays,
            apart=apart,
            self_test=False,
        )
        return f"{report.unexplained:,} rows differ" if report.unexplained else None

    return prove


def _changed_keys(conn: Connection, found: Migration, live: Table) -> list[Difference]:
    """Return foreign keys of the live table that going back would lose, bring back or change."""
    before = {key.name: _strong(key.definition) for key in found.detail.foreign_keys or ()}
    now = {key.name: _strong(key.definition) for key in live.foreign_keys}
    if leaf_keys(conn, live):
        now = {**before, **now}  # a run that was killed before the parent adopted those of its leaves
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [Difference(f"foreign key {quote_ident(name)}", "", before.get(name), now.get(name)) for name in names]


def _strong(definition: str) -> str:
    return definition.removesuffix(" NOT VALID")
