"""Cutover of a dual-write switchover: from following by the change log to synchronous mirrors both ways.

Two short locks. Under the first the log is replayed to zero and the synchronous triggers go on; the change log stays
on, since a transaction with a snapshot from before would not see rows that the copy brought, and its delete would miss
them. When the last such transaction has ended, the second lock replays once more and ends the capture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rehearsal.errors import LockNotAcquired
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import Replay, forward_of, replay_to_zero
from rehearsal.switchover.detail import StepDetail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_fence import older_snapshots
from rehearsal.switchover.target.target import Shape, mirror_values_of


@dataclass(frozen=True, slots=True)
class Cutover:
    """The switch of one table from change log to synchronous mirrors."""

    files: SqlFiles
    shape: Shape
    migration: int

    @property
    def replay(self) -> Replay:
        """Source to target."""
        return forward_of(self.files, self.shape)

    @property
    def _sight(self) -> Sight:
        names = self.shape.names
        return Sight(self.files, names, names.source, names.target)

    def sync_on_sql(self) -> str:
        """Return the statements that switch the synchronous mirrors on."""
        return self.files.render(
            "switchover/strategies/dual_write/sync_on.sql.j2", **mirror_values_of(self.shape, mirrors=True)
        )

    def capture_off_sql(self) -> str:
        """Return the statement that ends the capture."""
        return self.files.render(
            "switchover/strategies/dual_write/capture_off.sql.j2", **mirror_values_of(self.shape, mirrors=True)
        )

    def raise_sync(
        self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch | None = None
    ) -> LockReport:
        """Switch the synchronous mirrors on, the log replayed to zero in the same transaction.

        `watch` has looked; what was altered since gives the lock back.
        Locks: SHARE ROW EXCLUSIVE on the source (writers wait, readers do not).
        """

        def work(held: Connection) -> None:
            if watch:
                watch.hold(held)
            replay_to_zero(self.replay, held)
            held.execute(as_query(self.sync_on_sql()))
            self._remember(held, watch)
            started = scalar(held, "select pg_catalog.pg_current_xact_id()::xid::text")
            state.mark_done(held, self.migration, "sync-on", detail=StepDetail(barrier=started))

        return self._locked(conn, "cutover to synchronous triggers", work, policy, between)

    def end_capture(
        self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch | None = None
    ) -> LockReport:
        """Wait for older snapshots to end, then replay to zero and end the capture.

        Raises:
            LockNotAcquired: a transaction from before the cutover does not end; names it. Nothing is lost: both
                tables go on being mirrored, and the next run waits again.
        """
        self._wait_for_old_snapshots(conn, policy.budget_s)

        def work(held: Connection) -> None:
            if watch:
                watch.hold(held)
            replay_to_zero(self.replay, held)
            held.execute(as_query(self.capture_off_sql()))
            self._remember(held, watch)
            state.mark_done(held, self.migration, "capture-off")
            state.set_state(held, self.migration, state.MIRRORED)

        return self._locked(conn, "end of capture", work, policy, between)

    def _remember(self, held: Connection, watch: Watch | None) -> None:
        if watch:
            watch.remember(held, self._sight)
        else:
            self._sight.remember(held)

    def _wait_for_old_snapshots(self, conn: Connection, budget_s: float) -> None:
        started = scalar(
            conn,
            "select detail ->> 'barrier' from rehearsal.step where migration = %s and name = 'sync-on'",
            [self.migration],
        )
        if old := older_snapshots(conn, started, budget_s):
            message = (
                f"transactions from before the cutover to synchronous triggers are still open after "
                f"{budget_s:.0f} s: {'; '.join(old[:3])}"
            )
            raise LockNotAcquired(message, blockers=old[:3])

    def _locked(
        self,
        conn: Connection,
        what: str,
        work: Callable[[Connection], None],
        policy: LockPolicy,
        between: Callable[[], None],
    ) -> LockReport:
        lock = lock_tables(Mode.SHARE_ROW_EXCLUSIVE, self.shape.names.source)
        title = f"{what} for {'.'.join(self.shape.names.source)}"
        _, report = with_lock(conn, title, work, lock=lock, policy=policy, between=between)
        return report
