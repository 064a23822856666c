"""One table at work: on which database, by which plan, and the run that keeps what happens.

Owns what every strategy needs of these five: names, the budget of a lock, sessions, named steps, what is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from psycopg import sql

from rehearsal.catalog.definition import read_definition
from rehearsal.catalog.tables import Catalog, Name, Table, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.evidence.events import LockTaken, Progress, StepDone, StepResult
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, connect, told_clearly
from rehearsal.postgres.locks import LockPolicy, LockReport, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.copy.throttle import Throttle, make_throttle
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.names import Names
from rehearsal.switchover.state import Migration

T = TypeVar("T")
Lock = sql.SQL | sql.Composed


@dataclass(frozen=True, slots=True)
class Step:
    """One named step: done once in a cycle and marked afterwards, so `work` must bear being repeated."""

    name: str
    work: Callable[[], StepResult]


@dataclass(frozen=True, slots=True)
class TableWork:
    """A table of a plan, and what its steps are done with."""

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

    def migration(self, conn: Connection) -> Migration:
        """Return how far the table is.

        Raises:
            PreconditionError: it is not registered yet, or for another strategy than that of the plan.
        """
        found = state.read_migration(conn, self.names.source)
        if found.strategy != self.plan.strategy:
            message = (
                f"{found.source} is {found.state} by plan {found.plan} with the strategy {found.strategy}; this is "
                f"plan {self.plan.name} with the strategy {self.plan.strategy}. Use that plan, or take its switchover "
                "back by `./inv db.rollback` and end it by `./inv db.cleanup` first; nothing was changed"
            )
            raise PreconditionError(message)
        return found

    def table(self, conn: Connection, name: Name | None = None) -> Table:
        """Return a table as it is now: the one that the plan names, or another one."""
        return Catalog(conn, self.files).read(name or self.names.source)

    @contextmanager
    def session(self, what: str, role: str = "engine") -> Generator[Connection]:
        """Open a session for one piece of work; what goes wrong in it is told with the name of table and work."""
        with told_clearly(f"{what} of {self.spec.name}"), connect(self.database, role=role) as conn:
            yield conn

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, step: str) -> None:
        """A named step begins. Whoever wants to know where the work is looks here; tests kill it there."""

    def step(self, conn: Connection, migration: int, step: Step) -> None:
        """Run a step that is not done in this cycle, and mark it."""
        if state.is_done(conn, migration, step.name):
            return
        self.begin(step.name)
        started = time.monotonic()
        result = step.work()
        ms = (time.monotonic() - started) * 1e3
        with conn.transaction():
            state.mark_done(conn, migration, step.name, ms)
        self.run.tell(StepDone(self.spec.name, step.name, round(ms, 1), result))

    def locked(
        self,
        conn: Connection,
        what: str,
        work: Callable[[Connection], T],
        *,
        lock: Lock | None = None,
        between: Callable[[], None] | None = None,
    ) -> T:
        """Do `work` under a lock within the plan's budget, and tell what it cost.

        Raises:
            LockNotAcquired: the budget is spent; nothing changed.
        """
        result, report = with_lock(conn, what, work, lock=lock, policy=self.policy, between=between)
        self.tell_lock(report)
        return result

    def remember_definition(self, conn: Connection) -> None:
        """Keep what the table is, right before it is switched and outside of any lock: reading takes a while."""
        definition = read_definition(conn, self.files, self.table(conn))
        with conn.transaction():
            found = self.migration(conn)
            state.set_state(conn, found.id, found.state, Detail(definition=definition))

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────

    def tell_lock(self, report: LockReport) -> None:
        """Tell what a lock cost."""
        self.run.tell(LockTaken(self.spec.name, **asdict(report)))

    def tell_step(self, name: str, started: float, result: StepResult) -> None:
        """Tell of a step that is not marked; `started` is by the monotonic clock."""
        ms = round((time.monotonic() - started) * 1e3, 1)
        self.run.tell(StepDone(self.spec.name, name, ms, result))

    def note(self, text: str) -> None:
        """Tell a sentence."""
        self.run.note(text)

    def bar(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return what lets a bar move: how much is done, of how much."""

        def tell(done: int, total: int) -> None:
            self.run.progress(Progress(f"{what} {self.spec.name}", done, total, unit))

        return tell

    def throttle(self, what: str, primary: tuple[str, ...]) -> Throttle:
        """Return the throttle of one work on the table."""
        what = f"{what} of {self.spec.name}"
        return make_throttle(what, self.database, self.files, self.plan, self.run, self.names.source, primary)
