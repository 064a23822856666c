"""The strategy itself: from a target that follows to one that has the source's name, and back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rehearsal.catalog.definition import Difference, read_definition
from rehearsal.catalog.tables import Catalog, dotted, split_name
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.plan.strategies import StrategyName
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.acts import Act, CopyProspect, Prospect
from rehearsal.switchover.copy.replay import forward_of, reverse_of
from rehearsal.switchover.definition import find_leftovers, judge_definition, remembered
from rehearsal.switchover.finish import finish_keys, lower_fence
from rehearsal.switchover.follow import Follow, capture_triggers
from rehearsal.switchover.names import Names
from rehearsal.switchover.parity.pair import Stays
from rehearsal.switchover.snapshot_fence import SnapshotFence
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.base import NamedPair
from rehearsal.switchover.strategies.copied import Copied, is_rolled_back
from rehearsal.switchover.strategies.ending import require_equal, require_stable
from rehearsal.switchover.strategies.swap.exchange import Exchange
from rehearsal.switchover.target.composite import BLOCKS, REFERENCES, Composite, Composites
from rehearsal.switchover.target.removal import give_up, removal_acts
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.trigger_states import Wanted
from rehearsal.switchover.unused import LastLook
from rehearsal.switchover.work import Step, TableWork


class Swap(Copied):
    """The partitioned table takes the name; the retired one follows it, so that the name can be given back."""

    name: StrategyName = "swap"
    locks = "SHARE ROW EXCLUSIVE for milliseconds (capture on), then ACCESS EXCLUSIVE for milliseconds (the swap)"
    goal = state.SWAPPED

    def pair(self, names: Names, found: Migration) -> NamedPair:
        """Return both tables; after the swap the unpartitioned one is retired."""
        swapped = found.state == state.SWAPPED
        return NamedPair(names.retired, names.source) if swapped else NamedPair(names.source, names.target)

    def wanted_triggers(self, _conn: Connection, names: Names, found: Migration) -> list[Wanted]:
        """Return every trigger of ours and the state that it must have just now."""
        swapped, pair = found.state == state.SWAPPED, self.pair(names, found)
        return capture_triggers(names, pair.plain, pair.parted, swapped=swapped)

    def more_steps(self, work: TableWork, conn: Connection) -> Sequence[Step]:
        """Give tables that refer to this one the partition key, where the plan says so."""
        composites = Composites(work.files, work.plan, work.spec)
        return [Step(REFERENCES, lambda: composites.prepare(conn, work.tell_lock))]

    def exchange(self, work: TableWork, conn: Connection, follow: Follow, found: Migration) -> None:
        """Give the target the name, in one short transaction."""
        shape = follow.shape(conn)
        watch = self.watch(work, found)
        watch.look(conn)
        between = follow.between(conn, forward_of(work.files, shape), watch)
        work.remember_definition(conn)
        between()
        work.begin("swap")
        work.tell_lock(_exchange(work, shape, found).swap(conn, work.policy, between, watch))

    def go_back(self, work: TableWork, conn: Connection, found: Migration) -> bool:
        """Give the retired table its name again, with every write since."""
        follow = Follow(work)
        shape = follow.shape(conn)
        watch = self.watch(work, found)
        watch.look(conn)
        between = follow.between(conn, reverse_of(work.files, shape), watch)
        between()
        work.begin("rollback of the swap")
        work.tell_lock(_exchange(work, shape, found).roll_back(conn, work.policy, between, watch))
        self.finish(work, conn)
        return True

    def finish(self, work: TableWork, conn: Connection) -> int:
        """Validate foreign keys, the table's and those that point at it; take the snapshot fence off."""
        done = finish_keys(work, conn, work.names.source)
        started, composites = time.monotonic(), Composites(work.files, work.plan, work.spec)
        if pointing := composites.finish(conn, work.migration(conn)):
            work.tell_step("keys of other tables", started, pointing)
        return done + pointing + lower_fence(work, conn)

    def differences(self, conn: Connection, files: SqlFiles, _plan: Plan, spec: TableSpec) -> list[Difference]:
        """Return what the table is not any more; while it is not swapped, what the rollback has left.

        Raises:
            CannotSee: no definition from before was remembered.
        """
        names, catalog = Names(split_name(spec.name)), Catalog(conn, files)
        found = state.read_migration(conn, names.source)
        if found.state != state.SWAPPED:
            return find_leftovers(conn, files, spec)
        live, shape = catalog.read(names.source), Shape.of(catalog.read(names.retired), spec.key)
        return judge_definition(conn, files, spec, live, shape, remembered(found), read_definition(conn, files, live))

    def acts(self, at: Prospect) -> list[Act]:
        """Return what the switchover is going to do, in order."""
        coming = at.copied()
        exchange = Exchange(at.files, at.plan, coming.shape, at.migration)
        fence = exchange.fence
        return [
            *coming.following(*_composites(at, coming, exchange)),
            at.act("swap", _swap_sql(at, coming, exchange), 0.05),
            at.act("snapshot fence, within the swap, with its transaction's number", fence.on_sql("0"), 0.01),
            at.act("end of the snapshot fence", fence.off_sql(coming.shape.names.source), 0.01),
            *coming.finishing(),
        ]

    def require_end(self, work: TableWork, conn: Connection, _stays: Stays) -> None:
        """Refuse to drop the retired table too early, or while a row differs; after a rollback, the target.

        Its partitions were the table's: a job that writes one by its name goes on doing so, and nobody else sees it.

        Raises:
            PreconditionError: says why.
        """
        if is_rolled_back(work.migration(conn)):
            self.finish(work, conn)
            require_equal(work, conn, self, self.pair(work.names, work.migration(conn)), stays="source")
            return
        require_stable(work, conn, self)
        require_equal(work, conn, self, self.pair(work.names, work.migration(conn)), stays="target")

    def end_acts(self, work: TableWork, conn: Connection, _stays: Stays) -> list[Act]:
        """Return what `end` is going to do, in order."""
        found = work.migration(conn)
        if is_rolled_back(found):
            return removal_acts(work)
        lock = "ACCESS EXCLUSIVE on the table, for milliseconds"
        return [
            Act(work.spec.name, "the retired table is dropped", ";\n".join(self._dropping(work, found)), lock, 0.01)
        ]

    def _dropping(self, work: TableWork, found: Migration) -> list[str]:
        names = work.names
        live = quote_ident(names.source)
        return [
            *(f"drop trigger if exists {quote_ident(trigger)} on {live}"
              for trigger in (names.reverse_capture_trigger, names.truncate_trigger)),
            SnapshotFence(work.files, names, found.id).off_sql(names.source).strip().removesuffix(";"),
            *(f"drop table {quote_ident(name)}" for name in (names.retired, names.forward_log, names.reverse_log)),
            *(f"drop function if exists {quote_ident(names.function(role))}()"
              for role in ("capture_forward", "capture_reverse", "refuse_truncate")),
        ]  # fmt: skip

    def end(self, work: TableWork, conn: Connection, _stays: Stays, _last: LastLook | None = None) -> str:
        """Drop the retired table, its logs and the capture, in one short transaction; after a rollback, the target.

        Locks: ACCESS EXCLUSIVE on the table for the time of the drop.
        """
        names, found = work.names, work.migration(conn)
        if is_rolled_back(found):
            give_up(work, conn)
            return f"{found.source} stays as it was before `./inv db.migrate`; its target is removed"

        def drop(held: Connection) -> None:
            held.execute(as_query(";\n".join(self._dropping(work, found))))
            state.forget_table(held, found)

        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, names.source)
        work.locked(conn, f"clean-up of {found.source}", drop, lock=lock)
        return f"{dotted(names.retired)} dropped"


def _exchange(work: TableWork, shape: Shape, found: Migration) -> Exchange:
    return Exchange(work.files, work.plan, shape, found.id)


def _composites(at: Prospect, coming: CopyProspect, exchange: Exchange) -> list[Act]:
    acts: list[Act] = []
    for reference in exchange.moves(at.conn, coming.source).references:
        if reference.decision == "composite":
            work = Composite(at.files, reference, coming.source.name, at.spec.key)
            text = work.prepare_sql(coming.source.column(at.spec.key).type)
            acts.append(at.act(f"partition key for {reference.label}", text, 0.05))
            acts.append(at.act("fill it, the first blocks", work.fill_sql(0, BLOCKS), 0.5))
    return acts


def _swap_sql(at: Prospect, coming: CopyProspect, exchange: Exchange) -> str:
    moved = exchange.moves(at.conn, coming.source)
    locks = "".join(f"{statement};\n" for statement in moved.locks)
    open_again = exchange.guard.off_sql(coming.target)
    return locks + open_again + exchange.swap_sql(at.conn, coming.source, coming.target, moved)
