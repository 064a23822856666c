"""What every strategy answers: how one table becomes partitioned, and how it is taken back.

Strategies are stateless: how far a table is stands in the database, and what is needed to work on it in a `TableWork`.
Each lies in a file or a folder of its own, none imports another one, and only the registry knows all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Name
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.plan.strategies import StrategyName
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.acts import Act, Prospect
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.state import Migration
from rehearsal.switchover.trigger_states import TriggerState
from rehearsal.switchover.unused import LastLook
from rehearsal.switchover.work import TableWork


@dataclass(frozen=True, slots=True)
class NamedPair:
    """The unpartitioned and the partitioned table, by the names that they have just now.

    `leaves`: the partitions that hold the rows of the unpartitioned one; None: all of them do.
    """

    plain: Name
    parted: Name
    leaves: tuple[Name, ...] | None = None


class Unfinished(NamedTuple):
    """What was begun and did not come to its end, and how to go on with it, for people."""

    trouble: str
    remedy: str


class Strategy(Protocol):
    """How one table becomes partitioned."""

    @property
    def name(self) -> StrategyName:
        """The name that plans use."""
        ...

    @property
    def changes(self) -> Sequence[tuple[str, str]]:
        """Number and template, below `sql/`, of each change that registers a table of the plan."""
        ...

    @property
    def locks(self) -> str:
        """The locks that the application could feel, for people."""
        ...

    @property
    def switched(self) -> Sequence[str]:
        """States in which the application may have the partitioned table."""
        ...

    def looks(self, found: Migration, /, *, leaving: bool) -> bool:
        """Return whether an exchange is to come from this state: to the target, or with `leaving` away from it."""
        ...

    def watch(self, work: TableWork, found: Migration, /, *, leaving: bool = False) -> Watch:
        """Return the comparison that the next exchange depends on; it has not looked yet."""
        ...

    def prepare(self, work: TableWork, /) -> bool:
        """Bring the table to where it can be switched. Returns whether anything was done; a second run does nothing.

        Resumes after a kill at any point.

        Raises:
            PreconditionError: the table is not registered, or was altered.
            StepFailed: the rows do not allow it; says which.
            LockNotAcquired: a lock was not granted within its budget; what is done is kept, run again.
        """
        ...

    def cut_over(self, work: TableWork, /) -> bool:
        """Let the partitioned table be what the application uses, or may use. Returns whether anything was done.

        Raises:
            PreconditionError: the table is not prepared, or was altered.
            LockNotAcquired: a lock was not granted within its budget; the table is as it was.
        """
        ...

    def roll_back(self, work: TableWork, /) -> bool:
        """Give the unpartitioned table its name again with every write since. Returns whether anything was done.

        Raises:
            PreconditionError: there is nothing to take back, or the partitioned table has what the other cannot hold.
            LockNotAcquired: a lock was not granted within its budget; the table is as it was.
        """
        ...

    def follow(self, work: TableWork, rest: int = 0, /) -> int:
        """Replay the change log until at most `rest` keys are left; return how many were taken."""
        ...

    def keeps_two(self, found: Migration, /) -> bool:
        """Return whether rows stand in two tables just now that have to be equal."""
        ...

    def current_replay(self, work: TableWork, conn: Connection, /) -> Replay:
        """Return how one table follows the other, where a table keeps two."""
        ...

    def change_log(self, work: TableWork, conn: Connection, /) -> Name | None:
        """Return the log that the lagging table follows just now; None where nothing lags."""
        ...

    def pair(self, names: Names, found: Migration, /) -> NamedPair:
        """Return both tables by the names that they have just now."""
        ...

    def trigger_states(
        self, conn: Connection, files: SqlFiles, names: Names, found: Migration, /
    ) -> list[TriggerState]:
        """Return every trigger of ours with the state that it has and the one that it must have just now."""
        ...

    def differences(self, conn: Connection, files: SqlFiles, plan: Plan, spec: TableSpec, /) -> list[Difference]:
        """Return what the application's table is not any more, each with the reason if the strategy explains it.

        Raises:
            CannotSee: no definition from before was remembered.
        """
        ...

    def acts(self, at: Prospect, /) -> list[Act]:
        """Return what the switchover of a table is going to do, in order; changes nothing."""
        ...

    def unfinished(self, work: TableWork, conn: Connection, /) -> Unfinished | None:
        """Return what was begun on the table and stands still, if nobody is at it; None if nothing does."""
        ...

    def require_end(self, work: TableWork, conn: Connection, stays: Stays, /) -> None:
        """Refuse to give up the rollback of a table that is not switched, or whose rows differ.

        `stays`: which table the application uses, where it may use either; elsewhere the state says so.

        Raises:
            PreconditionError: says why.
        """
        ...

    def end_acts(self, work: TableWork, conn: Connection, stays: Stays, /) -> list[Act]:
        """Return what `end` is going to do, in order; changes nothing."""
        ...

    def end(self, work: TableWork, conn: Connection, stays: Stays, last: LastLook | None = None, /) -> str:
        """Give up the rollback for good, and return what became of it. Locks: see each strategy.

        `last` looks under the lock of a source that is about to go whether anybody came to use it.

        Raises:
            LockNotAcquired: the table was in use for longer than the budget; nothing was dropped.
        """
        ...
