"""The whole switchover of one table, as steps that can be killed and repeated.

Owns the order of steps and the state that each one reaches. What a step does is in `copying`, `indexes`, `drain`,
`barrier` and `exchange`; how far a table is, is in `rehearsal.migration` and `rehearsal.step`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from psycopg import sql

from rehearsal.catalog.definition import read_definition
from rehearsal.catalog.tables import Catalog, Name, dotted, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.evidence import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, LockPolicy, LockReport, connect, told_clearly, with_lock
from rehearsal.postgres.parallel import run_in_sessions
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.chunks import Limits
from rehearsal.switchover.copy.copier import Copier, Progress, plan_chunks
from rehearsal.switchover.copy.replay import Drain, settle_sql
from rehearsal.switchover.copy.throttle import Pacer, make_pacer
from rehearsal.switchover.definition import remember
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.steps import run_step
from rehearsal.switchover.strategies.attach.prepare import Attach
from rehearsal.switchover.strategies.dual_write import Barrier
from rehearsal.switchover.strategies.swap.exchange import Exchange, add_weak_keys, finish_foreign_keys
from rehearsal.switchover.target.composite import Composites
from rehearsal.switchover.target.indexes import IndexBuilder, carry_sql
from rehearsal.switchover.target.target import Shape, clear_target_sql, is_filled, mirror_values_of
from rehearsal.switchover.target.vacuum import refresh_statistics
from rehearsal.switchover.trigger_states import TriggerState, read_trigger_states
from rehearsal.switchover.watches import copy_watch, needs_look

CLEAR_MS = 600_000


@dataclass(frozen=True, slots=True)
class Switchover:
    """One table's switchover on one database."""

    database: Database
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    run: Run

    @property
    def names(self) -> Names:
        """Names around the table."""
        return Names(split_name(self.spec.name))

    @property
    def policy(self) -> LockPolicy:
        """Budget of each lock."""
        return LockPolicy(**self.plan.locks.model_dump())

    @property
    def attach(self) -> Attach:
        """The strategy that copies nothing; the methods below hand over to it where the plan asks for it."""
        return Attach(self.database, self.files, self.plan, self.spec, self.run)

    @property
    def copies(self) -> bool:
        """Whether the strategy copies rows, so that one table follows the other."""
        return self.plan.strategy != "attach"

    def shape(self, conn: Connection) -> Shape:
        """Return the shape of the table, read from whichever table is the unpartitioned one."""
        found = state.find_migration(conn, self.names.source)
        swapped = found is not None and found.state == state.SWAPPED
        table = Catalog(conn, self.files).read(self.names.retired if swapped else self.names.source)
        return Shape.of(table, self.spec.key, self.names, self.spec.uniques)

    @property
    def composites(self) -> Composites:
        """Foreign keys that point at the table and stay real ones."""
        return Composites(self.files, self.plan, self.spec)

    def prepare(self) -> bool:
        """Bring the twin to follow the source: capture, copy, indexes, drain, statistics.

        Returns whether anything was done; a second run on a table that follows (or is switched) does nothing.
        Locks: SHARE ROW EXCLUSIVE on the source for milliseconds, once. Resumes after a kill at any point.

        Raises:
            PreconditionError: there is no twin yet.
            LockNotAcquired: the capture could not be switched on within the budget.
        """
        if not self.copies:
            return self.attach.prepare()
        with self._session("preparation") as conn:
            found = state.read_migration(conn, self.names.source)
            if found.state not in (state.PREPARED, state.COPYING):
                return False
            shape = self.shape(conn)
            self.examine(conn)
            if found.state == state.PREPARED:
                self._capture_on(conn, shape, found.id)
            self._step(conn, found.id, "plan-copy", lambda: self._plan_copy(conn, found.id))
            self._step(conn, found.id, "copy", lambda: self._copy(shape, found.id))
            self._step(conn, found.id, "settle", lambda: self._settle(conn, shape))
            self._step(conn, found.id, "indexes", lambda: self._indexes(shape))
            self._step(conn, found.id, "carry", lambda: self._carry(conn, shape))
            self._step(conn, found.id, "references", lambda: self.composites.prepare(conn, self._lock_event))
            self._step(conn, found.id, "drain", lambda: self._drain(conn, self.drain(conn)))
            self._step(conn, found.id, "statistics", lambda: self._statistics(conn, shape))
            with conn.transaction():
                state.set_state(conn, found.id, state.FOLLOWING)
            return True

    def switch(self) -> bool:
        """Switch a table that follows: barrier (dual-write) or swap. Returns whether anything was done.

        Raises:
            PreconditionError: the twin does not follow yet.
            LockNotAcquired: a lock was not granted within its budget; the table is as it was.
        """
        if not self.copies:
            return self.attach.switch()
        with self._session("switch") as conn:
            found = state.read_migration(conn, self.names.source)
            done = {"dual-write": state.MIRRORED, "swap": state.SWAPPED}[found.strategy]
            if found.state not in (state.FOLLOWING, done):
                message = (
                    f"table {self.spec.name} is {found.state}; it can be switched once it follows: run "
                    "`invoke db.switchover`"
                )
                raise PreconditionError(message)
            if found.state == state.FOLLOWING:
                if found.strategy == "swap":
                    self._swap(conn, found.id)
                else:
                    self._raise_barrier(conn, found.id)
            finished = self._finish(conn)
            return found.state != done or finished > 0

    def roll_back(self) -> bool:
        """Swap back; for dual-write there is nothing to do here, since both tables are equal and flags decide.

        Raises:
            PreconditionError: the table was never swapped.
            LockNotAcquired: the lock was not granted within its budget; the table is as it was.
        """
        if not self.copies:
            return self.attach.roll_back()
        with self._session("way back") as conn:
            found = state.read_migration(conn, self.names.source)
            if found.strategy != "swap":
                return False
            if found.state == state.FOLLOWING:
                return self._finish(conn) > 0
            if found.state != state.SWAPPED:
                message = f"table {self.spec.name} is {found.state}; there is no swap to take back"
                raise PreconditionError(message)
            self._swap_back(conn, found.id)
            self._finish(conn)
            return True

    @contextmanager
    def _session(self, what: str, role: str = "engine") -> Generator[Connection]:
        """Open a session for one piece of work; what goes wrong in it is told with the name of table and work."""
        with told_clearly(f"{what} of {self.spec.name}"), connect(self.database, role=role) as conn:
            yield conn

    def drain(self, conn: Connection) -> Drain:
        """Return the drain of the direction in which the table follows just now."""
        found = state.read_migration(conn, self.names.source)
        exchange = Exchange(self.files, self.plan, self.shape(conn), found.id)
        return exchange.reverse if found.state == state.SWAPPED else exchange.forward

    def log_now(self, conn: Connection) -> Name | None:
        """Return the log that the lagging table follows just now; None where both are mirrored synchronously.

        Before the copy a dual-write twin is mirrored as well, though it lacks what was there before. With attach there
        is one copy of each row, and nothing that could lag.
        """
        if not self.copies:
            return None
        found = state.read_migration(conn, self.names.source)
        mirrored = (state.MIRRORED, state.PREPARED) if found.strategy == "dual-write" else ()
        return None if found.state in mirrored else self.drain(conn).log

    def examine(self, conn: Connection, *, leaving: bool = False) -> Watch:
        """Compare the two tables as they are now, and return the watch that goes on looking.

        Raises:
            PreconditionError: one was altered, or partitions or triggers are not what they were; names it.
        """
        found = state.read_migration(conn, self.names.source)
        watch = copy_watch(self.database, self.files, self.spec, found, leaving=leaving)
        watch.look(conn)
        return watch

    def require_fit(self, conn: Connection, *, leaving: bool = False) -> None:
        """Refuse, before anything begins, what the next exchange would refuse; `leaving`: it is the way back."""
        found = state.find_migration(conn, self.names.source)
        if found and needs_look(found, leaving=leaving):
            _ = self.examine(conn, leaving=leaving) if self.copies else self.attach.examine(conn)

    def trigger_states(self, conn: Connection) -> list[TriggerState]:
        """Return every mirror trigger with the state that it has and the one that it must have just now."""
        return read_trigger_states(conn, self.files, self.names) if self.copies else []

    def follow(self, rest: int = 0) -> int:
        """Drain the log until at most `rest` keys are left; return how many were taken.

        Where both tables are mirrored synchronously there is nothing to follow. A key that a killed repair left in the
        log stays there: beside the mirrors a drain is exact only under a lock (`repair.resync`).
        """
        if not self.copies:
            return 0
        with self._session("drain", "follow") as conn:
            if state.read_migration(conn, self.names.source).state == state.MIRRORED:
                return 0
            return self._drain(conn, self.drain(conn), rest)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(self, conn: Connection, migration: int, name: str, work: Callable[[], object]) -> None:
        run_step(conn, self.run, self.spec.name, migration, name, work)

    def _capture_on(self, conn: Connection, shape: Shape, migration: int) -> None:
        text = self.files.render("steps/capture_on.sql.j2", **mirror_values_of(shape, self.plan.strategy))

        def work(held: Connection) -> None:
            held.execute(as_query(text))
            state.forget_steps(held, migration)
            state.set_state(held, migration, state.COPYING)
            Sight(self.files, self.names, self.names.source, self.names.target).remember(held)

        lock = sql.SQL("lock table {} in share row exclusive mode").format(sql.Identifier(*self.names.source))
        _, report = with_lock(conn, f"capture on {self.spec.name}", work, lock=lock, policy=self.policy)
        self._lock_event(report)

    def _plan_copy(self, conn: Connection, migration: int) -> int:
        """Clear the twin and write the ledger of chunks, in one transaction."""

        def work(held: Connection) -> int:
            catalog = Catalog(held, self.files)
            source, target = catalog.read(self.names.source), catalog.read(self.names.target)
            held.execute(as_query(clear_target_sql(self.files, target, filled=is_filled(held, target))))
            held.execute("delete from rehearsal.chunk where migration = %s", [migration])
            chunks = plan_chunks(held, migration, source, Limits.of(self.plan.copying))
            # Within this transaction, or a kill right after it would clear what was copied meanwhile.
            state.mark_done(held, migration, "plan-copy", chunks=chunks)
            Sight(self.files, self.names, source.name, target.name).remember(held)
            return chunks

        lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*self.names.target))
        # The application does not use the twin yet, so the work may take its time; only the wait is bounded.
        policy = replace(self.policy, hold_ms=CLEAR_MS)
        chunks, _ = with_lock(conn, f"clearing of {dotted(self.names.target)}", work, lock=lock, policy=policy)
        return chunks

    def _copy(self, shape: Shape, migration: int) -> dict[str, object]:
        def tell(far: Progress) -> None:
            blocks = f"{far.blocks}/{far.total_blocks}"
            self._progress("copy", far.rows, far.total_rows, "rows", recorded=far.is_due, blocks=blocks)

        copying = self.plan.copying
        with self._pacer("copy", shape) as turns:
            limits = Limits.of(copying)
            copier = Copier(self.database, self.files, shape, migration, copying.workers, tell, limits, turns)
            return asdict(copier.run())

    def _pacer(self, what: str, shape: Shape) -> Pacer:
        what = f"{what} of {self.spec.name}"
        return make_pacer(what, self.database, self.files, self.plan, self.run, self.names.source, shape.primary)

    def _settle(self, conn: Connection, shape: Shape) -> int:
        text = settle_sql(self.files, shape, self.names.forward_log, self.names.target)
        return conn.execute(as_query(text)).rowcount

    def _indexes(self, shape: Shape) -> int:
        def tell(done: int, total: int) -> None:
            self._progress("indexes", done, total, "indexes")

        with self._pacer("index build", shape) as turns:
            return IndexBuilder(self.database, self.files, shape, self.plan.copying.workers, tell, turns).run()

    def _carry(self, conn: Connection, shape: Shape) -> None:
        catalog = Catalog(conn, self.files)
        text = carry_sql(conn, self.files, shape, catalog.read(self.names.source), catalog.read(self.names.target))
        with conn.transaction():
            conn.execute(as_query(text))

    def _drain(self, conn: Connection, drain: Drain, rest: int | None = None) -> int:
        def tell(done: int, total: int) -> None:
            self._progress("drain", done, total, "keys")

        copying = self.plan.copying
        return drain.until(conn, copying.drain_until if rest is None else rest, copying.drain_batch, tell)

    def _statistics(self, conn: Connection, shape: Shape) -> int:
        target = Catalog(conn, self.files).read(self.names.target)
        with self._pacer("vacuum", shape) as turns:
            workers = self.plan.copying.workers
            return refresh_statistics(self.database, conn, target, workers, turns)

    def _swap(self, conn: Connection, migration: int) -> None:
        exchange = Exchange(self.files, self.plan, self.shape(conn), migration)
        watch = self.examine(conn)
        between = self._drainer(conn, exchange.forward, watch)
        self._remember(conn, migration)
        between()
        self._lock_event(exchange.swap(conn, self.policy, between, watch))

    def _swap_back(self, conn: Connection, migration: int) -> None:
        exchange = Exchange(self.files, self.plan, self.shape(conn), migration)
        watch = self.examine(conn)
        between = self._drainer(conn, exchange.reverse, watch)
        between()
        self._lock_event(exchange.swap_back(conn, self.policy, between, watch))

    def _raise_barrier(self, conn: Connection, migration: int) -> None:
        barrier = Barrier(self.files, self.plan, self.shape(conn), migration)
        watch = self.examine(conn)
        between = self._drainer(conn, barrier.drain, watch)
        self._remember(conn, migration)
        between()
        if not state.is_done(conn, migration, "sync-on"):
            self._lock_event(barrier.raise_sync(conn, self.policy, between, watch))
            watch.look(conn)  # the triggers that went on are another number
        self._lock_event(barrier.end_capture(conn, self.policy, between, watch))
        self._lock_event(add_weak_keys(conn, self.files, self.names, self.policy))

    def _remember(self, conn: Connection, migration: int) -> None:
        """Keep what the table is, right before it is switched and outside of any lock: reading takes a while."""
        table = Catalog(conn, self.files).read(self.names.source)
        with conn.transaction():
            remember(conn, migration, read_definition(conn, self.files, table))

    def _finish(self, conn: Connection) -> int:
        """Do what comes after a switch with nobody waiting; return how much there was to do."""
        return self._finish_keys(conn) + self._lower_guard(conn)

    def _lower_guard(self, conn: Connection) -> int:
        found = state.read_migration(conn, self.names.source)
        report, old = Guard(self.files, self.names, found.id).lower(conn, self.policy)
        if old:
            text = (
                f"the guard of {self.spec.name} stays on for snapshots from before the exchange: {'; '.join(old[:3])}"
            )
            self.run.event("note", text=text)
        if report:
            self._lock_event(report)
        return 1 if report else 0

    def _finish_keys(self, conn: Connection) -> int:
        found = state.read_migration(conn, self.names.source)
        mirrored = found.state == state.MIRRORED
        if mirrored and "foreign_keys" not in found.detail:
            self._lock_event(add_weak_keys(conn, self.files, self.names, self.policy))
            found = state.read_migration(conn, self.names.source)
        table = self.names.target if mirrored else self.names.source
        started = time.monotonic()

        def validate(statements: list[str]) -> None:
            queries = [as_query(one) for one in statements]
            run_in_sessions(self.database, "validate", queries, self.plan.copying.workers)

        keys = found.detail.get("foreign_keys", [])
        done = finish_foreign_keys(conn, self.files, table, keys, self.policy, validate)
        if found.strategy == "swap":
            done += self.composites.finish(conn, found)
        if done:
            ms = round((time.monotonic() - started) * 1e3, 1)
            self.run.event("step", table=self.spec.name, name="foreign-keys", ms=ms, result=done)
        return done

    # ── reporting ────────────────────────────────────────────────────────────────────────────────────────────────

    def _drainer(self, conn: Connection, drain: Drain, watch: Watch) -> Callable[[], None]:
        def between() -> None:
            watch.again(conn)
            self._drain(conn, drain)
            # What was left is drained without the lock; under it, what came during this one batch.
            drain.once(conn, self.plan.copying.drain_batch)

        return between

    def _lock_event(self, report: LockReport) -> None:
        self.run.event("lock", table=self.spec.name, **asdict(report))

    def _progress(self, what: str, done: int, total: int, unit: str, *, recorded: bool = False, **more: object) -> None:
        self.run.progress(f"{what} {self.spec.name}", done, total, unit, recorded=recorded, **more)
