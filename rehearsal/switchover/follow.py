"""A target that is brought to follow its source: capture, copy, indexes, replay of the change log, statistics.

Owns the steps of it, in order; each bears being killed and repeated. What a step does is in `copy/` and `target/`; how
far a table is, is in `rehearsal.migration` and `rehearsal.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rehearsal.catalog.tables import Catalog, Name, dotted
from rehearsal.evidence import events
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.chunks import Limits
from rehearsal.switchover.copy.copier import Copier, CopyProgress, plan_chunks
from rehearsal.switchover.copy.replay import Replay, forward_of, purge_sql, reverse_of
from rehearsal.switchover.detail import StepDetail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.state import Migration
from rehearsal.switchover.target.indexes import IndexBuilder, carry_sql
from rehearsal.switchover.target.target import Shape, clear_target_sql, is_filled, mirror_values_of
from rehearsal.switchover.target.vacuum import refresh_statistics
from rehearsal.switchover.trigger_states import TriggerState, Wanted, read_trigger_states
from rehearsal.switchover.watches import copy_watch
from rehearsal.switchover.work import Step, TableWork

CAPTURE = "capture"
CLEAR_MS = 600_000


def capture_triggers(names: Names, plain: Name, parted: Name, *, swapped: bool = False) -> list[Wanted]:
    """Return the triggers by which one table follows the other, and the state that each must have.

    `swapped`: the partitioned table is the one that is written.
    """
    return [
        Wanted(plain, names.truncate_trigger, "A", names),
        Wanted(plain, names.capture_trigger, "D" if swapped else "A", names),
        Wanted(parted, names.reverse_capture_trigger, "A" if swapped else "D", names),
    ]


@dataclass(frozen=True, slots=True)
class Follow:
    """Source and target of one table, the target on its way to be equal."""

    work: TableWork

    def values(self, shape: Shape) -> dict[str, Any]:
        """Return what the templates of capture and mirrors are filled with."""
        return mirror_values_of(shape, mirrors=self.work.plan.traits.mirrors)

    def plain_name(self, found: Migration | None) -> Name:
        """Return the name that the unpartitioned table has just now."""
        names = self.work.names
        return names.retired if found is not None and found.state == state.SWAPPED else names.source

    def shape(self, conn: Connection) -> Shape:
        """Return the shape of the table, read from whichever table is the unpartitioned one."""
        work = self.work
        table = work.table(conn, self.plain_name(state.find_migration(conn, work.names.source)))
        return Shape.of(table, work.spec.key, work.names, work.spec.uniques)

    def current_replay(self, conn: Connection) -> Replay:
        """Return the replay of the direction in which one table follows the other just now."""
        swapped = self.work.migration(conn).state == state.SWAPPED
        return (reverse_of if swapped else forward_of)(self.work.files, self.shape(conn))

    def catch_up(self, conn: Connection, replay: Replay, rest: int | None = None) -> int:
        """Replay until at most `rest` keys are left, by default what the plan says; return how many were taken."""
        copying = self.work.plan.copying
        rest = copying.drain_until if rest is None else rest
        return replay.until(conn, rest, copying.drain_batch, self.work.bar("replay", "keys"))

    def between(self, conn: Connection, replay: Replay, watch: Watch) -> Callable[[], None]:
        """Return what is done before each try of an exchange, with no lock held: look again, replay what can be."""

        def between() -> None:
            watch.again(conn)
            self.catch_up(conn, replay)
            # What was left is replayed without the lock; under it, what came during this one batch.
            replay.once(conn, self.work.plan.copying.drain_batch)

        return between

    def watch(self, found: Migration) -> Watch:
        """Return the watch of a source and a target that follows it by captures alone."""
        names = self.work.names

        def triggers(conn: Connection) -> list[TriggerState]:
            return read_trigger_states(conn, self.work.files, capture_triggers(names, names.source, names.target))

        return copy_watch(self.work, found, triggers)

    def run(self, conn: Connection, found: Migration, steps: Sequence[Step]) -> None:
        """Do all steps from capture on that are not done, and say that the target follows from then on.

        Locks: SHARE ROW EXCLUSIVE on the source for milliseconds, once. Resumes after a kill at any point.

        Raises:
            LockNotAcquired: the capture could not be switched on within the budget.
        """
        if found.state == state.PREPARED:
            self.work.begin(CAPTURE)
            self.capture(conn, self.shape(conn), found.id)
        for step in steps:
            self.work.step(conn, found.id, step)
        with conn.transaction():
            state.set_state(conn, found.id, state.FOLLOWING)

    def steps(self, conn: Connection, migration: int, *more: Step) -> list[Step]:
        """Return the steps from the copy on, in order; `more` come before the change log is replayed."""
        shape = self.shape(conn)
        return [
            Step("plan-copy", lambda: self.plan_copy(conn, migration)),
            Step("copy", lambda: self._copy(shape, migration)),
            Step("settle", lambda: self._purge(conn, shape)),
            Step("indexes", lambda: self._indexes(shape)),
            Step("carry", lambda: self._carry(conn, shape)),
            *more,
            Step("drain", lambda: self.catch_up(conn, self.current_replay(conn))),
            Step("statistics", lambda: self._statistics(conn, shape)),
        ]

    def capture(self, conn: Connection, shape: Shape, migration: int) -> None:
        """Let every write of the source leave its key in the log from now on; the cycle begins anew.

        Locks: SHARE ROW EXCLUSIVE on the source, for milliseconds.
        """
        work = self.work
        text = work.files.render("switchover/capture_on.sql.j2", **self.values(shape))

        def switch_on(held: Connection) -> None:
            held.execute(as_query(text))
            state.forget_steps(held, migration)
            state.set_state(held, migration, state.COPYING)
            Sight(work.files, work.names, work.names.source, work.names.target).remember(held)

        lock = lock_tables(Mode.SHARE_ROW_EXCLUSIVE, work.names.source)
        work.locked(conn, f"capture on {work.spec.name}", switch_on, lock=lock)

    def plan_copy(self, conn: Connection, migration: int) -> int:
        """Clear the target and write the ledger of chunks, in one transaction."""
        work = self.work

        def plan(held: Connection) -> int:
            catalog = Catalog(held, work.files)
            source, target = catalog.read(work.names.source), catalog.read(work.names.target)
            held.execute(as_query(clear_target_sql(work.files, target, filled=is_filled(held, target))))
            held.execute("delete from rehearsal.chunk where migration = %s", [migration])
            chunks = plan_chunks(held, migration, source, Limits.of(work.plan.copying))
            # Within this transaction, or a kill right after it would clear what was copied meanwhile.
            state.mark_done(held, migration, "plan-copy", detail=StepDetail(chunks=chunks))
            Sight(work.files, work.names, source.name, target.name).remember(held)
            return chunks

        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, work.names.target)
        # The application does not use the target yet, so the work may take its time; only the wait is bounded.
        policy = replace(work.policy, hold_ms=CLEAR_MS)
        chunks, _ = with_lock(conn, f"clearing of {dotted(work.names.target)}", plan, lock=lock, policy=policy)
        return chunks

    def _copy(self, shape: Shape, migration: int) -> dict[str, object]:
        work, copying = self.work, self.work.plan.copying

        def tell(far: CopyProgress) -> None:
            blocks = f"{far.blocks}/{far.total_blocks}"
            bar = events.Progress(f"copy {work.spec.name}", far.rows, far.total_rows, "rows", blocks)
            work.run.progress(bar, recorded=far.is_due)

        with work.throttle("copy", shape.primary) as turns:
            limits = Limits.of(copying)
            copier = Copier(work.database, work.files, shape, migration, copying.workers, tell, limits, turns)
            return asdict(copier.run())

    def _purge(self, conn: Connection, shape: Shape) -> int:
        names = self.work.names
        return conn.execute(as_query(purge_sql(self.work.files, shape, names.forward_log, names.target))).rowcount

    def _indexes(self, shape: Shape) -> int:
        work, workers = self.work, self.work.plan.copying.workers
        with work.throttle("index build", shape.primary) as turns:
            tell = work.bar("indexes", "indexes")
            return IndexBuilder(work.database, work.files, shape, workers, tell, turns).run()

    def _carry(self, conn: Connection, shape: Shape) -> None:
        work = self.work
        source, target = work.table(conn), work.table(conn, work.names.target)
        text = carry_sql(conn, work.files, shape, source, target)
        with conn.transaction():
            conn.execute(as_query(text))

    def _statistics(self, conn: Connection, shape: Shape) -> int:
        work = self.work
        target = work.table(conn, work.names.target)
        with work.throttle("vacuum", shape.primary) as turns:
            return refresh_statistics(work.database, conn, target, work.plan.copying.workers, turns)
