"""The strategy itself: the old table becomes the history partition of a parent that takes its name, and back."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Name
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.plan.strategies import StrategyName
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, drop_index, lock_tables
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.acts import REFERENCED, ROWS_PER_SECOND, UNIQUE_PER_SECOND, Act, Prospect
from rehearsal.switchover.copy.replay import Replay
from rehearsal.switchover.detail import Split
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.finish import lower_fence
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.definition import find_differences
from rehearsal.switchover.strategies.attach.history import fine_partitions, replay_of_kept, wanted_of_kept
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Statements
from rehearsal.switchover.strategies.attach.prepare import Preparation, decide_split, parent_sql
from rehearsal.switchover.strategies.attach.unsplit import (
    SplitBack,
    copy_dropping,
    finish_split,
    forget_copy,
    undo_split,
)
from rehearsal.switchover.strategies.attach.watches import attach_watch, attached_watch, split_watch
from rehearsal.switchover.strategies.base import NamedPair, Unfinished
from rehearsal.switchover.strategies.ending import require_equal, require_stable
from rehearsal.switchover.target.foreign_keys import lock_referenced
from rehearsal.switchover.target.removal import require_no_fence
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import TriggerState, read_trigger_states
from rehearsal.switchover.unused import LastLook
from rehearsal.switchover.work import Step, TableWork


class Attach:
    """The table becomes a partition as it is; nothing is copied, so nothing lags."""

    name: StrategyName = "attach"
    locks = "ACCESS EXCLUSIVE for milliseconds, and SHARE UPDATE EXCLUSIVE while a check is validated: nobody waits"
    changes: Sequence[tuple[str, str]] = (("010", "switchover/strategies/attach/attach_register"),)
    switched: Sequence[str] = (state.ATTACHED, state.SPLIT)

    def prepare(self, work: TableWork) -> bool:
        """Build everything that the cutover needs: parent, unique indexes, validated end of history.

        Returns whether anything was done; a second run on a table that is ready (or attached) does nothing.
        Locks: ACCESS EXCLUSIVE on the table for milliseconds, twice at most; SHARE ROW EXCLUSIVE on referenced tables.

        Raises:
            PreconditionError: the table is not registered, or the end of history came too near.
            StepFailed: rows at or after the end of history were written meanwhile; run again, a later end is chosen.
            LockNotAcquired: a lock was not granted within its budget.
        """
        with work.session("preparation") as conn:
            found = work.migration(conn)
            if found.state in (state.READY, *self.switched):
                return False
            preparation = Preparation(work)
            lower_fence(work, conn)
            preparation.drop_outdated(conn, found)
            for step in preparation.steps(conn, found.id):
                work.step(conn, found.id, step)
            with conn.transaction():
                state.set_state(conn, found.id, state.READY)
            return True

    def cut_over(self, work: TableWork) -> bool:
        """Cut over: the table becomes a partition, the parent takes its name. Returns whether anything was done.

        Raises:
            PreconditionError: the table is not ready, or now is too near to the end of history.
            LockNotAcquired: the lock was not granted within its budget; the table is as it was.
        """
        with work.session("cutover") as conn:
            found = work.migration(conn)
            if found.state not in (state.READY, *self.switched):
                message = (
                    f"table {work.spec.name} is {found.state}; it can be switched once it is ready: run "
                    "`./inv db.switchover`"
                )
                raise PreconditionError(message)
            if found.state == state.READY:
                self._attach(work, conn, found)
            before = state.is_done(conn, found.id, "parent-statistics")
            work.step(conn, found.id, Step("parent-statistics", lambda: _analyze(work, conn)))
            return found.state == state.READY or not before

    def _attach(self, work: TableWork, conn: Connection, found: Migration) -> None:
        preparation = Preparation(work)
        preparation.refuse_near(Split.of_detail(found.detail))
        watch = self.watch(work, found)
        watch.look(conn)
        work.begin("cutover")
        work.tell_lock(preparation.attached(conn).cut_over(conn, work.policy, found.id, watch))

    def roll_back(self, work: TableWork) -> bool:
        """Give the table its name again with every row written since; or undo a preparation. Second run: nothing.

        A history that was split becomes one partition again first.

        Raises:
            PreconditionError: rows outside history have a primary key that history has too (names them), or there are
                too many of them for the lock's budget.
            LockNotAcquired: the lock was not granted within its budget; the table is as it was.
        """
        with work.session("rollback") as conn:
            found = work.migration(conn)
            if found.state not in self.switched:
                lowered = lower_fence(work, conn)
                return Preparation(work).undo(conn, found) or lowered
            Preparation(work).attached(conn).require_key(conn)
            watch = self.watch(work, found)
            watch.look(conn)
            if found.state == state.SPLIT:
                self._join(work, conn, found)
                found = work.migration(conn)
            self._detach(work, conn, found, watch)
            return True

    def _join(self, work: TableWork, conn: Connection, found: Migration) -> None:
        """Make history one partition again."""
        preparation = Preparation(work)
        preparation.attached(conn).refuse_duplicates(conn)
        work.begin("rollback of the split")
        SplitBack(work, preparation.statements(conn)).go(conn, found.id, split_watch(work, found))

    def _detach(self, work: TableWork, conn: Connection, found: Migration, watch: Watch) -> None:
        preparation = Preparation(work)
        finish_split(work, conn)
        attached = preparation.attached(conn)
        attached.refuse_duplicates(conn)
        attached.refuse_many(conn, work.policy)
        undo_split(work, conn)
        preparation.ensure_back_index(conn, attached.statements)
        watch.look(conn)
        work.begin("rollback")
        work.tell_lock(attached.roll_back(conn, work.policy, found.id, watch))
        lower_fence(work, conn)

    def looks(self, found: Migration, *, leaving: bool) -> bool:
        """Return whether an exchange is to come from this state."""
        return found.state in (self.switched if leaving else (state.READY,))

    def watch(self, work: TableWork, found: Migration, *, leaving: bool = False) -> Watch:
        """Return the watch of the cutover, or of the rollback of a table that is attached."""
        if leaving or found.state in self.switched:
            return attached_watch(work.files, work.spec, found)
        return attach_watch(work.files, work.spec, found)

    def follow(self, work: TableWork, rest: int = 0) -> int:
        """Let history that was split follow its partitions; else there is one copy of each row, and nothing to take."""
        with work.session("replay", "follow") as conn:
            if not self.keeps_two(work.migration(conn)):
                return 0
            return self.current_replay(work, conn).until(conn, rest, work.plan.copying.drain_batch)

    def keeps_two(self, found: Migration) -> bool:
        """Return whether history was split, and is kept beside the partitions that hold its rows."""
        return found.state == state.SPLIT

    def current_replay(self, work: TableWork, conn: Connection) -> Replay:
        """Return the replay by which history that was split follows its partitions."""
        return replay_of_kept(work, conn)

    def change_log(self, work: TableWork, conn: Connection) -> Name | None:
        """Return the log that history follows once it was split; before there is nothing that could lag."""
        return self.current_replay(work, conn).log if self.keeps_two(work.migration(conn)) else None

    def pair(self, names: Names, found: Migration) -> NamedPair:
        """Return both tables; once it is attached, the unpartitioned one is history: every row but later ones."""
        if found.state in self.switched:
            leaves = fine_partitions(found) if self.keeps_two(found) else None
            return NamedPair(HistoryNames(names).history, names.source, leaves)
        return NamedPair(names.source, names.target)

    def trigger_states(self, conn: Connection, files: SqlFiles, names: Names, found: Migration) -> list[TriggerState]:
        """Return those by which history that was split follows; before nothing is captured."""
        if not self.keeps_two(found):
            return []
        return read_trigger_states(conn, files, wanted_of_kept(conn, files, names, found))

    def differences(self, conn: Connection, files: SqlFiles, _plan: Plan, spec: TableSpec) -> list[Difference]:
        """Return what the table is not any more; while it is not attached, what the rollback has left."""
        return find_differences(conn, files, spec)

    def acts(self, at: Prospect) -> list[Act]:
        """Return the acts of a table whose rows stay where they are; the end of history is the one of this moment."""
        source, found = at.source, at.found
        done = found is not None and state.is_done(at.conn, found.id, "parent")
        split = Split.of_detail(found.detail) if found and done else decide_split(at.conn, at.files, at.spec)
        work = Attached(at.files, at.spec, Statements(at.files, Shape.of(source, at.spec.key), split))
        statements, names, rows = work.statements, work.extra, source.estimated_rows
        parent = ";\n".join(parent_sql(at.conn, at.files, at.plan, at.spec, split))
        indexes = (names.key_index, names.back_index) if split.primary.swapped else ()
        not_null = [at.act("key not null", statements.render("attach_not_null"), 0.01)] if split.nullable else []
        analyze, nobody = f"analyze {quote_ident(source.name)}", "SHARE UPDATE EXCLUSIVE on the parent: nobody waits"
        return [
            at.act("parent", parent, 0.1, f"ACCESS SHARE on the source, {REFERENCED}"),
            *(
                at.act("unique index", statements.unique_index(source.name, index), rows / UNIQUE_PER_SECOND)
                for index in indexes
            ),
            at.act("end of history", statements.render("attach_bound"), 0.01),
            at.act("validate it", statements.render("attach_validate"), rows / ROWS_PER_SECOND["validate"]),
            *not_null,
            at.act("cutover", work.cut_over_sql(source), 0.05),
            at.act("statistics", analyze, 1.0, nobody),
        ]

    def unfinished(self, work: TableWork, conn: Connection) -> Unfinished | None:
        """Return that writes beyond the end of history are refused already, or that history is split half way."""
        if work.migration(conn).state == state.READY:
            return Unfinished(
                "prepared: a row at or after the end of history is refused",
                "run `./inv db.switchover`, which cuts over, or `./inv db.rollback`",
            )
        if self._is_half_split(work, conn):
            return Unfinished(
                "the split of its history is half way",
                "run `./inv db.split`, which goes on, or `./inv db.rollback`, which takes back the switchover too",
            )
        return None

    def _is_half_split(self, work: TableWork, conn: Connection) -> bool:
        split = state.find_migration(conn, HistoryNames(work.names).history)
        return split is not None and split.state != state.SWAPPED

    def require_end(self, work: TableWork, conn: Connection, _stays: Stays) -> None:
        """Refuse to give the rollback up too early, or in the middle of a split.

        Raises:
            PreconditionError: says why.
        """
        if work.migration(conn).state == state.PREPARED:
            return  # nothing of ours is on the table
        require_stable(work, conn, self)
        if self.keeps_two(found := work.migration(conn)):
            require_equal(work, conn, self, self.pair(work.names, found), stays="target")
        if self._is_half_split(work, conn):
            message = f"the history of {work.spec.name} is being split; `./inv db.split` goes on with it"
            raise PreconditionError(message)

    def end_acts(self, work: TableWork, conn: Connection, _stays: Stays) -> list[Act]:
        """Return what `end` is going to do, in order; after a rollback nothing is left to drop."""
        extra, found = HistoryNames(work.names), work.migration(conn)
        index = (extra.history[0], extra.back_index)
        if found.state == state.PREPARED:
            acts = list[Act]()
        else:
            text = f"drop index concurrently if exists {quote_ident(index)}"
            lock = "SHARE UPDATE EXCLUSIVE on history: nobody waits"
            acts = [Act(work.spec.name, "the copy of the old primary key", text, lock, 0.1)]
        if found.state == state.SPLIT:
            statements = [*copy_dropping(Names(extra.history)), f"drop table {quote_ident(extra.history)}"]
            lock = "ACCESS EXCLUSIVE on the table and on those that its foreign keys refer to, for milliseconds"
            acts.append(Act(work.spec.name, "the history that was split", ";\n".join(statements), lock, 0.05))
        return acts

    def end(self, work: TableWork, conn: Connection, _stays: Stays, _last: LastLook | None = None) -> str:
        """Drop the copy of the old primary key, or the history that was split.

        Locks: SHARE UPDATE EXCLUSIVE on the history partition. After a split, ACCESS EXCLUSIVE on the table, whose
        capture of changes is dropped, and on the tables that its foreign keys refer to, for milliseconds.
        """
        extra, found = HistoryNames(work.names), work.migration(conn)
        if found.state == state.PREPARED:
            require_no_fence(work, conn)
            with conn.transaction():
                state.forget_table(conn, found)
            return f"{found.source} is no longer registered; it is as it was before `./inv db.migrate`"
        drop_index(conn, (extra.history[0], extra.back_index), work.policy.budget_s)
        if found.state == state.SPLIT:
            self._end_split(work, conn, found)
        else:
            with conn.transaction():
                state.forget_table(conn, found)
        return f"{found.source} stays partitioned; can no longer be rolled back"

    def _end_split(self, work: TableWork, conn: Connection, found: Migration) -> None:
        extra, history = HistoryNames(work.names), work.table(conn, HistoryNames(work.names).history)
        copied = state.read_migration(conn, extra.history)

        def drop(held: Connection) -> None:
            lock_referenced(held, history.foreign_keys)
            forget_copy(held, Names(extra.history), copied.id)
            held.execute(as_query(f"drop table {quote_ident(extra.history)}"))
            state.forget_table(held, found)

        # The functions' triggers stand on the table and on every partition of it, which are in use.
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, work.names.source, extra.history)
        work.locked(conn, f"clean-up of {found.source}", drop, lock=lock)


def _analyze(work: TableWork, conn: Connection) -> None:
    conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*work.names.source)))
