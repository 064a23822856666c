"""The whole switchover of one table: what its strategy does, by the names that callers use.

Owns nothing but the choice of the strategy; how far a table is, is in `rehearsal.migration` and `rehearsal.step`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rehearsal.catalog.definition import Difference, columns_apart
from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.postgres.connection import Connection
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.parity import ParityReport, compare
from rehearsal.switchover.strategies.base import Strategy, Unfinished
from rehearsal.switchover.strategies.registry import strategy_of
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import TriggerState
from rehearsal.switchover.work import TableWork


@dataclass(frozen=True, slots=True)
class Switchover(TableWork):
    """One table's switchover on one database; each act is its strategy's, with its locks and errors."""

    @property
    def strategy(self) -> Strategy:
        """How the table becomes partitioned."""
        return strategy_of(self.plan)

    def prepare(self) -> bool:
        """Bring the table to where it can be switched; see `Strategy.prepare`."""
        return self.strategy.prepare(self)

    def switch(self) -> bool:
        """Switch a table that is prepared; see `Strategy.cut_over`."""
        return self.strategy.cut_over(self)

    def roll_back(self) -> bool:
        """Take the switchover back; see `Strategy.roll_back`."""
        return self.strategy.roll_back(self)

    def follow(self, rest: int = 0) -> int:
        """Replay the change log until at most `rest` keys are left; return how many were taken."""
        return self.strategy.follow(self, rest)

    def log_now(self, conn: Connection) -> Name | None:
        """Return the log that the lagging table follows just now; None where nothing lags."""
        return self.strategy.change_log(self, conn)

    def trigger_states(self, conn: Connection) -> list[TriggerState]:
        """Return every trigger of ours with the state that it has and the one that it must have just now."""
        return self.strategy.trigger_states(conn, self.files, self.names, self.migration(conn))

    def unfinished(self, conn: Connection) -> Unfinished | None:
        """Return what was begun on the table and stands still; see `Strategy.unfinished`."""
        return self.strategy.unfinished(self, conn)

    def differences(self, conn: Connection) -> list[Difference]:
        """Return what the application's table is not any more; see `Strategy.differences`."""
        return self.strategy.differences(conn, self.files, self.plan, self.spec)

    def watch(self, conn: Connection, *, leaving: bool = False) -> Watch:
        """Return the comparison that the next exchange depends on; it has not looked yet."""
        return self.strategy.watch(self, self.migration(conn), leaving=leaving)

    def examine(self, conn: Connection, *, leaving: bool = False) -> Watch:
        """Compare the two tables as they are now, and return the watch that goes on looking.

        Raises:
            PreconditionError: one was altered, or partitions or triggers are not what they were; names it.
        """
        watch = self.watch(conn, leaving=leaving)
        watch.look(conn)
        return watch

    def require_own(self, conn: Connection) -> None:
        """Refuse a table that is being switched by another strategy; one that is not registered is anybody's."""
        if state.find_migration(conn, self.names.source):
            self.migration(conn)

    def require_fit(self, conn: Connection, *, leaving: bool = False) -> None:
        """Refuse, before anything begins, what the next exchange would refuse; `leaving`: it is the rollback."""
        self.require_own(conn)
        found = state.find_migration(conn, self.names.source)
        if found and self.strategy.looks(found, leaving=leaving):
            self.examine(conn, leaving=leaving)

    def shape(self, conn: Connection) -> Shape:
        """Return the shape of the table, read from whichever table is the unpartitioned one."""
        return Follow(self).shape(conn)

    def current_replay(self, conn: Connection) -> Replay:
        """Return the replay of the direction in which one of two tables follows just now."""
        return self.strategy.current_replay(self, conn)

    def keeps_two(self, conn: Connection) -> bool:
        """Return whether rows stand in two tables just now that have to be equal."""
        return self.strategy.keeps_two(self.migration(conn))

    def compare(self, conn: Connection, *, self_test: bool = True) -> ParityReport:
        """Compare the two tables exactly, as `parity.compare` does."""
        pair = self.strategy.pair(self.names, self.migration(conn))
        tables = self.table(conn, pair.plain), self.table(conn, pair.parted)
        log, leaves = self.log_now(conn), pair.leaves
        apart = columns_apart(self.spec.accepted)
        return compare(
            self.database,
            self.files,
            *tables,
            self.spec.key,
            keylog=log,
            leaves=leaves,
            apart=apart,
            self_test=self_test,
        )

    def pair(self, conn: Connection) -> tuple[Table, Table]:
        """Return the unpartitioned and the partitioned table, whatever they are called just now."""
        found = self.strategy.pair(self.names, self.migration(conn))
        return self.table(conn, found.plain), self.table(conn, found.parted)

    def source_now(self, conn: Connection) -> Table:
        """Return the table that the application's rows were in at first, also before it is registered.

        Where nothing is copied that is the table with its name, which has all rows.
        """
        registered = state.find_migration(conn, self.names.source) is not None
        return self.pair(conn)[0] if registered and self.plan.traits.copies else self.table(conn)

    def names_now(self, conn: Connection) -> list[Name]:
        """Return the names of the tables of the pair that exist just now, the live one first."""
        catalog, names = Catalog(conn, self.files), self.names
        return [name for name in (names.source, names.target, names.retired) if catalog.find(name)]
