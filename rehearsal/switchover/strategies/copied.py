"""What the strategies have in common that copy: one table follows the other until the exchange.

Owns the order of preparation; what differs is asked of the strategy itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rehearsal.catalog.tables import Name
from rehearsal.errors import PreconditionError
from rehearsal.plan.strategies import StrategyName
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.base import NamedPair, Unfinished
from rehearsal.switchover.target.removal import give_up
from rehearsal.switchover.trigger_states import TriggerState, Wanted, read_trigger_states
from rehearsal.switchover.watches import copy_watch
from rehearsal.switchover.work import Step, TableWork


def is_rolled_back(found: Migration) -> bool:
    """Return whether an exchange was taken back: the target is kept, and follows for the way forward."""
    # An earlier version did not write it down; what a swap renames was never kept before one.
    swapped_once = found.detail.rolled_back or "indexes" in found.detail.model_fields_set
    return found.state == state.FOLLOWING and swapped_once


class Copied(ABC):
    """A strategy that copies; one that ends in the state `goal`."""

    name: StrategyName
    locks: str
    goal: str
    changes: Sequence[tuple[str, str]] = (("010", "switchover/target/target"), ("020", "switchover/target/mirror"))

    @property
    def switched(self) -> Sequence[str]:
        """The one state in which the application may have the partitioned table."""
        return (self.goal,)

    @abstractmethod
    def pair(self, names: Names, found: Migration, /) -> NamedPair:
        """Return both tables by the names that they have just now."""

    @abstractmethod
    def wanted_triggers(self, conn: Connection, names: Names, found: Migration, /) -> list[Wanted]:
        """Return every trigger of ours and the state that it must have just now."""

    @abstractmethod
    def exchange(self, work: TableWork, conn: Connection, follow: Follow, found: Migration) -> None:
        """Make the exchange of a table that follows; the state is `goal` afterwards."""

    @abstractmethod
    def finish(self, work: TableWork, conn: Connection) -> int:
        """Do what comes after an exchange with nobody waiting; return how many acts. A second run finds none."""

    @abstractmethod
    def go_back(self, work: TableWork, conn: Connection, found: Migration, /) -> bool:
        """Take the exchange back; return whether anything was done."""

    def more_steps(self, _work: TableWork, _conn: Connection) -> Sequence[Step]:
        """Return steps that the preparation has besides those of every copy."""
        return ()

    def prepare(self, work: TableWork) -> bool:
        """Bring the target to follow the source: capture, copy, indexes, replay, statistics.

        Returns whether anything was done; a second run on a table that follows (or is switched) does nothing.
        Locks: SHARE ROW EXCLUSIVE on the source for milliseconds, once. Resumes after a kill at any point.

        Raises:
            PreconditionError: there is no target yet, or one of the two was altered.
            LockNotAcquired: the capture could not be switched on within the budget.
        """
        with work.session("preparation") as conn:
            found = work.migration(conn)
            if found.state not in (state.PREPARED, state.COPYING):
                return False
            follow = Follow(work)
            steps = follow.steps(conn, found.id, *self.more_steps(work, conn))
            self.watch(work, found).look(conn)
            follow.run(conn, found, steps)
            return True

    def cut_over(self, work: TableWork) -> bool:
        """Switch a table that follows. Returns whether anything was done.

        Raises:
            PreconditionError: the target does not follow yet, or one of the two was altered.
            LockNotAcquired: a lock was not granted within its budget; the table is as it was.
        """
        with work.session("switch") as conn:
            found = work.migration(conn)
            if found.state not in (state.FOLLOWING, self.goal):
                message = (
                    f"table {work.spec.name} is {found.state}; it can be switched once it follows: run "
                    "`./inv db.switchover`"
                )
                raise PreconditionError(message)
            if found.state == state.FOLLOWING:
                self.exchange(work, conn, Follow(work), found)
            finished = self.finish(work, conn)
            return found.state != self.goal or finished > 0

    def roll_back(self, work: TableWork) -> bool:
        """Take a switchover back, also one that is under way. Returns whether anything was done.

        Before the exchange the target is removed with all that was made for it. Locks: see `give_up` and each strategy.

        Raises:
            PreconditionError: there is nothing to take back, or the two tables are not what they were.
            LockNotAcquired: a lock was not granted within its budget; the table is as it was.
        """
        with work.session("rollback") as conn:
            found = work.migration(conn)
            if found.state == self.goal:
                return self.go_back(work, conn, found)
            if is_rolled_back(found):
                return self.finish(work, conn) > 0
            give_up(work, conn)
            return True

    def follow(self, work: TableWork, rest: int = 0) -> int:
        """Replay the change log until at most `rest` keys are left; return how many were taken.

        Where both tables are mirrored synchronously there is nothing to follow. A key that a killed repair left in the
        log stays there: beside the mirrors a replay is exact only under a lock (`repair.resync`).
        """
        with work.session("replay", "follow") as conn:
            if work.migration(conn).state == state.MIRRORED:
                return 0
            follow = Follow(work)
            return follow.catch_up(conn, follow.current_replay(conn), rest)

    def keeps_two(self, found: Migration) -> bool:
        """Return whether the copy has ended, so that both tables have to be equal but for what is logged."""
        return found.state not in (state.PREPARED, state.COPYING)

    def current_replay(self, work: TableWork, conn: Connection) -> Replay:
        """Return the replay of the direction in which one table follows the other just now."""
        return Follow(work).current_replay(conn)

    def change_log(self, work: TableWork, conn: Connection) -> Name | None:
        """Return the log that the lagging table follows just now; None where both are mirrored synchronously."""
        if self.nothing_lags(work.migration(conn)):
            return None
        return Follow(work).current_replay(conn).log

    def nothing_lags(self, _found: Migration) -> bool:
        """Return whether both tables are mirrored synchronously."""
        return False

    def trigger_states(self, conn: Connection, files: SqlFiles, names: Names, found: Migration) -> list[TriggerState]:
        """Return every trigger of ours with the state that it has and the one that it must have just now."""
        return read_trigger_states(conn, files, self.wanted_triggers(conn, names, found))

    def unfinished(self, work: TableWork, conn: Connection) -> Unfinished | None:
        """Return that the copy is half way, if it is."""
        if work.migration(conn).state != state.COPYING:
            return None
        return Unfinished("the copy is half way", "run `./inv db.switchover`, which goes on, or `./inv db.rollback`")

    def looks(self, found: Migration, *, leaving: bool) -> bool:
        """Return whether an exchange is to come from this state."""
        return found.state in (self.switched if leaving else (*state.UNUSED, state.MIRRORED))

    def watch(self, work: TableWork, found: Migration, *, leaving: bool = False) -> Watch:
        """Return the watch of the table and its target, in whichever direction the next exchange goes."""

        def triggers(conn: Connection) -> list[TriggerState]:
            return self.trigger_states(conn, work.files, work.names, work.migration(conn))

        return copy_watch(work, found, triggers, leaving=leaving)
