"""Does what the lifecycle functions decided: each act in a transaction of its own, within the lock budget.

Owns how acts are done, and that making leaves never waits for dropping them. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psycopg
from psycopg import errors, sql

from rehearsal.errors import LockNotAcquired, RehearsalError, StepFailed
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import LeafAct
from rehearsal.postgres.blockers import oldest_transactions
from rehearsal.postgres.connection import Connection, clear_error
from rehearsal.postgres.locks import LockPolicy, LockReport, with_lock
from rehearsal.postgres.sqlfiles import as_query

# How sessions that detach are called, so that whoever makes leaves finds them.
RETIRING = "lifecycle.retain"
# Looks at what an act relies on before its lock is asked for, and returns what looks once more under it, quickly.
Watch: TypeAlias = Callable[[LeafAct], Callable[[], None] | None]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one act: what its lock cost, or why it failed, and whether the next ones would fail too."""

    act: LeafAct
    report: LockReport | None = None
    failure: str | None = None
    stops: bool = False


@dataclass(frozen=True, slots=True)
class LeafWorker:
    """Does acts for one table in one session; `tell` is given each as it ends."""

    conn: Connection
    policy: Policy
    locks: LockPolicy
    tell: Callable[[Done], None]

    def make(self, acts: Sequence[LeafAct]) -> bool:
        """Make leaves; return whether all were made. What is made stays, whatever happens to the next."""
        for act in acts:
            try:
                done = self._one(act, self._end_retention)
            except BaseException:  # Ctrl-C too: what refuses rows must not stay
                self._undo(act)
                raise
            if done.failure:
                self._undo(act)
                return False
        return True

    def retire(self, acts: Sequence[LeafAct], watch: Watch | None = None) -> bool:
        """Detach and drop leaves; return whether all was done.

        A leaf that the server refuses, or `watch` by StepFailed, keeps no other from going; after a lock that was not
        granted all wait for the next run.
        """
        failed: set[str] = set()
        for act in acts:
            if act.leaf in failed:
                continue
            done = self._one(act, None, watch)
            if done.failure:
                failed.add(act.leaf)
                self._note_refusal(act)
            if done.stops:
                break
        return not failed

    def do(self, act: LeafAct) -> bool:
        """Do one act by itself; return whether it was done."""
        return self._one(act, None).failure is None

    def _note_refusal(self, act: LeafAct) -> None:
        """Say that the detachment did not come about: whoever detaches the leaf from now on is somebody else."""
        if not self.conn.closed:
            self.conn.execute("select rehearsal.lifecycle_refused(%s::oid)", [act.leaf_oid])

    def _one(self, act: LeafAct, between: Callable[[], None] | None, watch: Watch | None = None) -> Done:
        try:
            done = Done(act, self._do(act, between, watch(act) if watch else None))
        except psycopg.Error as exc:
            done = Done(act, failure=str(clear_error(exc, act.text)), stops=self.conn.closed)
        except RehearsalError as exc:
            done = Done(act, failure=str(exc), stops=not isinstance(exc, StepFailed))
        self.tell(done)
        return done

    def _undo(self, act: LeafAct) -> None:
        """Take back what would be in the application's way; where a run is killed before, the next one does."""
        if act.undo and not self.conn.closed:
            try:
                with_lock(self.conn, f"taking back {act.text}", _Statements(act.undo), policy=self.locks)
            except RehearsalError as exc:
                # `lifecycle_troubles` names what is left, and the next run takes it off before anything else.
                self.tell(Done(act, failure=str(exc), stops=True))

    def _do(
        self, act: LeafAct, between: Callable[[], None] | None, locked: Callable[[], None] | None
    ) -> LockReport | None:
        if act.mode == "locked":
            work = _Statements(act.statements, locked)
            return with_lock(self.conn, act.text, work, policy=self.locks, between=between)[1]
        if act.mode == "plain":
            with self.conn.transaction():
                _Statements(act.statements)(self.conn)
            return None
        self._alone(act)
        return None

    def _alone(self, act: LeafAct) -> None:
        """Run a statement that bears no transaction and waits for old ones; the wait is bounded.

        Raises:
            LockNotAcquired: a transaction did not end within the budget; names the oldest ones.
        """
        self.conn.execute(sql.SQL("set lock_timeout = {}").format(round(self.locks.budget_s * 1e3)))
        try:
            _Statements(act.statements)(self.conn)
        except (errors.LockNotAvailable, errors.QueryCanceled) as exc:
            old = oldest_transactions(self.conn)
            message = (
                f"{act.text} was not finished: {exc.diag.message_primary}; it waits for every transaction that uses "
                f"the table; blocked by: {'; '.join(old) or 'unknown'}. The next run finishes it"
            )
            raise LockNotAcquired(message, blockers=old) from exc
        finally:
            if not self.conn.closed:
                self.conn.execute("set lock_timeout = 0")

    def _end_retention(self) -> None:
        self.conn.execute("select rehearsal.lifecycle_end_retention(%s::oid::regclass)", [self.policy.oid])


def note_end(conn: Connection, table: int, act: str, *, well: bool) -> None:
    """Note that premake or retain ended for a table; a run with nothing to do counts. Locks: none on the table."""
    conn.execute("select rehearsal.lifecycle_ended(%s::oid::regclass, %s, %s)", [table, act, well])


@dataclass(frozen=True, slots=True)
class _Statements:
    """Statements in order, as the work under a lock, which the first one takes; `locked` looks once more then."""

    texts: Sequence[str]
    locked: Callable[[], None] | None = None

    def __call__(self, conn: Connection) -> None:
        for number, text in enumerate(self.texts):
            conn.execute(as_query(text))
            if number == 0 and self.locked:
                self.locked()
