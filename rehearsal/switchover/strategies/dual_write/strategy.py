"""The strategy itself: from a target that follows to two tables that are equal in every snapshot.

Nothing is exchanged: the application keeps its table, and by its flags it may use either.
"""

from __future__ import annotations

from rehearsal.catalog.definition import Definition, Difference, read_definition
from rehearsal.catalog.tables import Catalog, split_name
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.plan.strategies import StrategyName
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.acts import Act, Prospect
from rehearsal.switchover.copy.replay import forward_of
from rehearsal.switchover.definition import judge_definition
from rehearsal.switchover.finish import finish_keys, lower_fence
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.base import NamedPair
from rehearsal.switchover.strategies.copied import Copied
from rehearsal.switchover.strategies.dual_write.cutover import Cutover
from rehearsal.switchover.strategies.dual_write.keep import TargetStays
from rehearsal.switchover.strategies.ending import require_equal, require_stable
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.expected import Expected, names_of_target, renamed
from rehearsal.switchover.target.foreign_keys import add_weak_keys
from rehearsal.switchover.target.removal import give_up, removal_acts
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import Wanted
from rehearsal.switchover.unused import LastLook
from rehearsal.switchover.work import TableWork

SHARED = "both tables draw from the source's sequence"
STAYS = "it goes on pointing at the source, which stays and is mirrored"
POINTING = ("publication ", "view ", "materialized view ", "function ", "type ", "table ")


class DualWrite(Copied):
    """Both tables stay in use, mirrored by triggers."""

    name: StrategyName = "dual-write"
    locks = "SHARE ROW EXCLUSIVE for milliseconds, three times (capture, cutover, end of capture)"
    goal = state.MIRRORED

    def pair(self, names: Names, _found: Migration) -> NamedPair:
        """Return both tables; their names never change."""
        return NamedPair(names.source, names.target)

    def nothing_lags(self, found: Migration) -> bool:
        """Return whether both are mirrored: a target is from the start on, though it lacks what was there before."""
        return found.state in (state.MIRRORED, state.PREPARED)

    def wanted_triggers(self, conn: Connection, names: Names, found: Migration) -> list[Wanted]:
        """Return every trigger of ours and the state that it must have just now."""
        prepared, mirrored = found.state == state.PREPARED, found.state == state.MIRRORED
        # Between the cutover's two locks mirrors and change log are on: the step says so, the state does not yet.
        both = mirrored or state.is_done(conn, found.id, "sync-on")
        return [
            Wanted(names.source, names.truncate_trigger, "A", names),
            Wanted(names.source, names.sync_trigger, "A" if both or prepared else "D", names),
            Wanted(names.target, names.reverse_sync_trigger, "A" if both else "D", names),
            Wanted(names.source, names.capture_trigger, "D" if mirrored or prepared else "A", names),
        ]

    def exchange(self, work: TableWork, conn: Connection, follow: Follow, found: Migration) -> None:
        """Let both tables be equal in every snapshot, under two short locks."""
        shape = follow.shape(conn)
        cutover = Cutover(work.files, shape, found.id)
        watch = self.watch(work, found)
        watch.look(conn)
        between = follow.between(conn, forward_of(work.files, shape), watch)
        work.remember_definition(conn)
        between()
        if not state.is_done(conn, found.id, "sync-on"):
            work.begin("cutover")
            work.tell_lock(cutover.raise_sync(conn, work.policy, between, watch))
            watch.look(conn)  # the triggers that went on are another number
        work.begin("end of capture")
        work.tell_lock(cutover.end_capture(conn, work.policy, between, watch))
        self._weak_keys(work, conn)

    def _weak_keys(self, work: TableWork, conn: Connection) -> None:
        work.begin("weak keys")
        work.tell_lock(add_weak_keys(conn, work.files, work.names, work.policy))

    def finish(self, work: TableWork, conn: Connection) -> int:
        """Validate the foreign keys of the target's leaves, and let it adopt them."""
        found = work.migration(conn)
        if found.state == state.MIRRORED and found.detail.foreign_keys is None:
            self._weak_keys(work, conn)
        return finish_keys(work, conn, work.names.target) + lower_fence(work, conn)

    def go_back(self, _work: TableWork, _conn: Connection, _found: Migration) -> bool:
        """Do nothing: both tables are equal, and the flags decide."""
        return False

    def differences(self, conn: Connection, files: SqlFiles, _plan: Plan, spec: TableSpec) -> list[Difference]:
        """Return what the target has not of the source, each with the reason if the strategy explains it."""
        names, catalog = Names(split_name(spec.name)), Catalog(conn, files)
        source, target = catalog.read(names.source), catalog.read(names.target)
        statistics = read_carried(conn, files, source.oid)["statistics"]
        mapping = names_of_target(source, target, Shape.of(source, spec.key, names), statistics)
        after = renamed(read_definition(conn, files, target), mapping)
        before = read_definition(conn, files, source)
        return judge_definition(conn, files, spec, source, Shape.of(source, spec.key), before, after, explain_mirrored)

    def acts(self, at: Prospect) -> list[Act]:
        """Return what the switchover is going to do, in order."""
        coming = at.copied()
        cutover = Cutover(at.files, coming.shape, at.migration)
        return [
            *coming.following(),
            at.act("cutover to synchronous triggers", cutover.sync_on_sql(), 0.05),
            at.act("end of capture", cutover.capture_off_sql(), 0.01),
            *coming.weak_keys(),
            *coming.finishing(),
        ]

    def require_end(self, work: TableWork, conn: Connection, stays: Stays) -> None:
        """Refuse to drop either table while a row differs; that no server uses it is for the caller to see.

        Raises:
            PreconditionError: says why.
        """
        found = work.migration(conn)
        if found.state != state.MIRRORED:
            message = f"{found.source} is {found.state}; `./inv db.rollback` gives up a switchover that is under way"
            raise PreconditionError(message)
        keeps = stays == "target"
        if keeps:
            require_stable(work, conn, self)
            TargetStays(work).require(conn)
        self.finish(work, conn)
        self.watch(work, found, leaving=not keeps).look(conn)
        require_equal(work, conn, self, self.pair(work.names, found), stays=stays)

    def end_acts(self, work: TableWork, conn: Connection, stays: Stays) -> list[Act]:
        """Return what `end` is going to do, in order."""
        if stays == "target":
            return TargetStays(work).acts(conn)
        return removal_acts(work)

    def end(self, work: TableWork, conn: Connection, stays: Stays, last: LastLook | None = None) -> str:
        """Drop the one that the application does not use, mirrors and logs; the other one has every row.

        The source is what it was before `db.migrate`, or it is gone and what pointed at it goes to the target.
        Locks: ACCESS EXCLUSIVE on the target and the source, for milliseconds; see `TargetStays` for more.
        """
        found = work.migration(conn)
        if stays == "target":
            return TargetStays(work).end(conn, found, self.watch(work, found), last)
        give_up(work, conn, self.watch(work, found, leaving=True))
        return f"{found.source} is as it was before `./inv db.migrate`; its target is removed"


def explain_mirrored(wanted: Expected, before: Definition) -> None:
    """Explain what goes on pointing at the source, since it stays and is mirrored."""
    for subject, facts in before.items():
        if subject.startswith("sequence of column "):
            column = subject.removeprefix("sequence of ")
            wanted.drop(subject, SHARED)
            if "identity" in before[column]:
                default = f"nextval('{facts['name'].replace(chr(39), chr(39) * 2)}'::regclass)"
                wanted.change(column, "identity", None, SHARED)
                wanted.change(column, "default", default, SHARED)
        elif subject.startswith(POINTING) or (subject.startswith("foreign key ") and '" of ' in subject):
            wanted.drop(subject, STAYS)
