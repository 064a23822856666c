"""Split: the history partition is split into the plan's partitions while writers are at work.

History is a table like any other, so the engine of a swap does the work: keys are captured, rows copied, the log
replayed. Only the end differs: instead of a name, partitions are exchanged. Owns that exchange and the way to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from psycopg import errors, sql

from rehearsal.catalog.bounds import Bound
from rehearsal.catalog.keys import read_key_range
from rehearsal.catalog.tables import Name, dotted
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, drop_index, lock_tables
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import forward_of, replay_to_zero
from rehearsal.switchover.detail import Detail, Split
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_fence import SnapshotFence, refuse_old_snapshots
from rehearsal.switchover.strategies.attach.layout import HistoryNames, fine_bounds
from rehearsal.switchover.strategies.attach.unsplit import finish_split, undo_split
from rehearsal.switchover.target.foreign_keys import kept_key, lock_referenced, weak_keys
from rehearsal.switchover.target.target import Shape, placed, target_values
from rehearsal.switchover.work import TableWork


@dataclass(frozen=True, slots=True)
class Fine:
    """One fine partition: its name, its bounds as text of the key's type, and the check that proves them."""

    name: Name
    lower: str | None
    upper: str
    check: str


@dataclass(frozen=True, slots=True)
class HistorySplit:
    """The split of one attached table's history."""

    work: TableWork

    @property
    def history(self) -> Names:
        """Names around history, which is the source of the copy."""
        return Names(HistoryNames(self.work.names).history)

    @property
    def copying(self) -> Follow:
        """What brings the fine partitions to follow history, which is a table like any other."""
        work = self.work
        spec = work.spec.model_copy(update={"name": dotted(self.history.source), "default_partition": False})
        return Follow(TableWork(work.database, work.files, work.plan, spec, work.run))

    def split(self) -> bool:
        """Split history into partitions of the plan's interval. Returns whether anything was done.

        The old history table is kept, detached, and follows until `./inv db.cleanup`. Resumes after any kill.
        Locks: SHARE ROW EXCLUSIVE on history for milliseconds, then ACCESS EXCLUSIVE on the table for the exchange.

        Raises:
            PreconditionError: the table is not attached.
            LockNotAcquired: a lock was not granted within its budget; what is done is kept, run again.
        """
        work = self.work
        with work.session("split") as conn:
            found = work.migration(conn)
            if found.state not in (state.ATTACHED, state.SPLIT):
                message = f"table {work.spec.name} is {found.state}; history can be split once it is attached"
                raise PreconditionError(message)
            if found.state == state.ATTACHED:
                split = Split.of_detail(found.detail)
                self._give_up_outdated(conn)
                if state.find_migration(conn, self.history.source) is None:
                    work.begin("split target")
                    self.make_target(conn, split)
                self.copy()
                self.check_bounds(conn, split)
                work.begin("exchange")
                self._exchange(conn, found.id)
            finished = self._finish(conn)
            return found.state == state.ATTACHED or finished

    def _give_up_outdated(self, conn: Connection) -> None:
        """Take a split back that broke off before its exchange, if the table was altered since: it begins anew."""
        begun = state.find_migration(conn, self.history.source)
        if begun is not None and begun.state != state.SWAPPED and self.copying.watch(begun).find(conn):
            self.work.run.note(f"{self.work.spec.name} was altered since its split began: the split begins anew")
            undo_split(self.work, conn)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def make_target(self, conn: Connection, split: Split) -> None:
        """Make the fine partitions and the capture of history, in one transaction; writers wait milliseconds."""
        extra = HistoryNames(self.work.names)
        # The copy of the old primary key is unique without the partition key: fine partitions cannot have it.
        drop_index(conn, (extra.history[0], extra.back_index), self.work.policy.budget_s)
        texts = self.target_sql(conn, split)

        def make(held: Connection) -> None:
            for text in texts:
                held.execute(as_query(text))

        lock = lock_tables(Mode.SHARE_ROW_EXCLUSIVE, self.history.source)
        self.work.locked(conn, f"capture on {dotted(self.history.source)}", make, lock=lock)

    def copy(self) -> None:
        """Bring the fine partitions to follow history; one that follows already is left as it is."""
        follow = self.copying
        with follow.work.session("preparation") as conn:
            found = follow.work.migration(conn)
            if found.state in (state.PREPARED, state.COPYING):
                steps = follow.steps(conn, found.id)
                follow.watch(found).look(conn)
                follow.run(conn, found, steps)

    def target_sql(self, conn: Connection, split: Split) -> list[str]:
        """Return the statements that make the fine partitions and the capture of history."""
        work, history, copied = self.work, self.history, self.copying.work
        values = target_values(conn, work.files, copied.plan, copied.spec, datetime.now(UTC))
        oldest, _ = read_key_range(conn, history.source, work.spec.key)
        bounds = fine_bounds(work.spec, split, oldest)
        if bounds[0].lower is not None:
            # One more for rows that are older than every one that was there: none is too old to be written.
            bounds = (Bound("older", upper=bounds[0].lower), *bounds)
        leaves = [{"name": work.names.leaf(bound.suffix), "bound": bound.sql} for bound in bounds]
        shape = Shape.of(work.table(conn, history.source), work.spec.key, history)
        return [
            work.files.render(
                "switchover/target/target.sql.j2", **{**values, **placed(leaves, values["default_leaf"])}
            ),
            work.files.render("switchover/target/mirror.sql.j2", **self.copying.values(shape)),
        ]

    def fine(self, conn: Connection) -> list[Fine]:
        """Return the fine partitions, as they stand under their temporary parent."""
        target = self.work.table(conn, self.history.target)
        return [
            Fine(leaf.name, leaf.lower, leaf.upper or "", fit(leaf.name[1], "_rehearsal_bounds"))
            for leaf in target.partitions
        ]

    def check_sql(self, leaf: Fine, split: Split) -> str:
        """Return the statements that prove the bounds of a fine partition."""
        values = {"leaf": leaf.name, "check": leaf.check, "lower": leaf.lower, "upper": leaf.upper}
        return self.work.files.render(
            "switchover/strategies/attach/split_check.sql.j2", key=self.work.spec.key, key_type=split.key_type, **values
        )

    def check_bounds(self, conn: Connection, split: Split) -> None:
        """Prove the bounds of the fine partitions, so that the exchange need not read their rows."""
        for leaf in self.fine(conn):
            if not any(constraint.name == leaf.check for constraint in self.work.table(conn, leaf.name).constraints):
                with conn.transaction():
                    conn.execute(as_query(self.check_sql(leaf, split)))

    def exchange_sql(self, conn: Connection) -> str:
        """Return the statements of the exchange as the catalog is now."""
        parent, fine = self.work.table(conn), self.fine(conn)
        leaves = [leaf.name for leaf in fine]
        leaves += [partition.name for partition in parent.partitions if partition.name != self.history.source]
        return self.work.files.render(
            "switchover/strategies/attach/split.sql.j2",
            source=self.work.names.source,
            history=self.history.source,
            target=self.history.target,
            fine=[asdict(leaf) for leaf in fine],
            foreign_keys=[key.name for key in parent.foreign_keys],
            weak_keys=weak_keys(parent, leaves),
            capture_trigger=self.history.capture_trigger,
            truncate_trigger=self.history.truncate_trigger,
            reverse_capture_trigger=self.history.reverse_capture_trigger,
            capture_reverse=self.history.function("capture_reverse"),
            refuse_truncate=self.history.function("refuse_truncate"),
        )

    def _exchange(self, conn: Connection, migration: int) -> None:
        work, follow, history = self.work, self.copying, self.history
        sub = state.read_migration(conn, history.source)
        replay = forward_of(work.files, follow.shape(conn))
        watch = follow.watch(sub)
        watch.look(conn)
        between = follow.between(conn, replay, watch)

        def exchange(held: Connection) -> None:
            watch.hold(held)
            refuse_old_snapshots(held)
            replay_to_zero(replay, held)
            parent = work.table(held)
            lock_referenced(held, parent.foreign_keys)
            leaves = [leaf.name for leaf in self.fine(held)]
            self._swap_partitions(held)
            keys = tuple(map(kept_key, parent.foreign_keys))
            fine = tuple(dotted(leaf) for leaf in leaves)
            fence = SnapshotFence(work.files, work.names, migration).move(held)
            state.set_state(held, migration, state.SPLIT, Detail(foreign_keys=keys, fine=fine, guard=fence))
            state.set_state(held, sub.id, state.SWAPPED)
            Sight(work.files, history, history.source, work.names.source).remember(held, work.names.source)

        between()
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, history.target, work.names.source)
        work.locked(conn, f"cutover to the split history of {work.spec.name}", exchange, lock=lock, between=between)

    def _swap_partitions(self, held: Connection) -> None:
        said: list[str] = []

        def listen(notice: errors.Diagnostic) -> None:
            said.append(notice.message_primary or "")

        names = {leaf.name[1] for leaf in self.fine(held)}
        text = self.exchange_sql(held)
        held.add_notice_handler(listen)
        try:
            held.execute(as_query(text))
        finally:
            held.remove_notice_handler(listen)
        read = [name for name in names if f'verifying table "{name}"' in said]
        if read:
            message = (
                f"split of {self.work.spec.name}: rows of {read[0]} were read to check its bounds; nothing was changed"
            )
            raise StepFailed(message)

    def _finish(self, conn: Connection) -> bool:
        """Validate the foreign keys and let the parent adopt them; take the fence off; statistics of the parent."""
        work = self.work
        work.begin("split done")
        done = finish_split(work, conn)
        found = work.migration(conn)
        if state.is_done(conn, found.id, "regrain-statistics"):
            return done > 0
        conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*work.names.source)))
        with conn.transaction():
            state.mark_done(conn, found.id, "regrain-statistics")
        return True
