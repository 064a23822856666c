"""Swap of names and its way back, each in one short transaction under lock.

Owns what moves with the name: indexes, sequences, foreign keys, capture. Under the lock the log is drained to zero,
so the table that takes the name has every acknowledged write; after the commit the other one follows by the log of
the opposite direction, so that the way back loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Constraint, Name, Table, dotted
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, LockPolicy, LockReport, TryAgain, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident, quote_literal
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import Drain, drain_to_zero
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.strategies.swap.dependents import Moves, read_moves
from rehearsal.switchover.target.carry import exchange_values, read_carried, statistics_names
from rehearsal.switchover.target.indexes import foreign_key_sql, plan_indexes
from rehearsal.switchover.target.references import require_prepared, stored
from rehearsal.switchover.target.target import Shape


@dataclass(frozen=True, slots=True)
class Exchange:
    """The two directions of a swap of one table."""

    files: SqlFiles
    plan: Plan
    shape: Shape
    migration: int

    @property
    def forward(self) -> Drain:
        """Source to twin, before the swap."""
        names = self.shape.names
        return Drain(self.files, self.shape, names.forward_log, names.source, names.target)

    @property
    def reverse(self) -> Drain:
        """Partitioned table (which has the source's name) to the retired one, after the swap."""
        names = self.shape.names
        return Drain(self.files, self.shape, names.reverse_log, names.source, names.retired)

    @property
    def guard(self) -> Guard:
        """Guard against snapshots from before the exchange."""
        return Guard(self.files, self.shape.names, self.migration)

    def swap_sql(self, conn: Connection, source: Table, target: Table, moved: Moves) -> str:
        """Return the statements of the swap; `moved` goes along."""
        values = self._values(conn, source, moved)
        values["indexes"] = self._index_names(source)
        values["statistics"] = self._statistics_names(conn, source)
        values["weak_keys"] = [
            f"alter table {quote_ident(leaf.name)} add constraint {quote_ident(key.name)} {_strong(key)} not valid"
            for key in source.foreign_keys
            for leaf in target.partitions
        ]
        return self.files.render("steps/swap.sql.j2", **values)

    def swap_back_sql(self, conn: Connection, moved: Moves) -> str:
        """Return the statements of the way back as the catalog is now; `moved` goes along."""
        catalog, names = Catalog(conn, self.files), self.shape.names
        parted = catalog.read(names.source)
        stored = state.read_migration(conn, names.source).detail
        values = self._values(conn, parted, moved)
        values["indexes"] = stored["indexes"]
        values["statistics"] = stored.get("statistics", [])
        values["weak_keys"] = stored["foreign_keys"]
        values["leaf_keys"] = leaf_keys(conn, parted)
        return self.files.render("steps/swap_back.sql.j2", **values)

    def _statistics_names(self, conn: Connection, source: Table) -> list[dict[str, Name]]:
        return statistics_names(read_carried(conn, self.files, source.oid)["statistics"])

    def _values(self, conn: Connection, live: Table, moved: Moves) -> dict[str, Any]:
        names = self.shape.names
        return {
            "before": moved.before,
            "after": moved.after,
            "source": names.source,
            "target": names.target,
            "retired": names.retired,
            "foreign_keys": [key.name for key in live.foreign_keys],
            "capture_trigger": names.capture_trigger,
            "reverse_capture_trigger": names.reverse_capture_trigger,
            "truncate_trigger": names.truncate_trigger,
            **exchange_values(conn, self.files, live),
        }

    def _index_names(self, source: Table) -> list[dict[str, Name | None]]:
        """Return the three names of each index: as the source's, as the twin's (if it has one), as the retired's."""
        schema, target = self.shape.names.source[0], self.shape.names.target
        return [
            {
                "source": (schema, plan.source_name),
                "target": (schema, plan.parent_name(target)) if plan.on_parent else None,
                "retired": (schema, fit(plan.source_name, "_old")),
            }
            for plan in plan_indexes(source, self.shape)
        ]

    def swap(self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch) -> LockReport:
        """Give the twin the source's name. Second run: see `rehearsal.migration.state`.

        `watch` has looked; what was altered since gives the lock back.

        Locks: ACCESS EXCLUSIVE on views, rules' and policies' tables that point at the source, then on the source,
        for the final drain and the renames; the referenced tables for milliseconds.

        Raises:
            LockNotAcquired: the budget is spent; nothing changed.
            PreconditionError: something points at the source that cannot be moved; nothing changed.
            StepFailed: something would be left behind; nothing changed.
        """
        # The twin is ours alone, so it is read before anybody waits; the source may have changed until the lock.
        target = Catalog(conn, self.files).read(self.shape.names.target)

        def work(held: Connection) -> None:
            watch.hold(held)
            drain_to_zero(self.forward, held)
            source = Catalog(held, self.files).read(self.shape.names.source)
            moved = self.moves(held, source)
            require_prepared(moved.references, self.shape.key)
            lock_referenced(held, source.foreign_keys)
            statistics = self._statistics_names(held, source)
            held.execute(as_query(self.swap_sql(held, source, target, moved)))
            moved.check(held, self.files, source, target)
            detail = {
                "foreign_keys": [kept_key(key) for key in source.foreign_keys],
                "indexes": self._index_names(source),
                "statistics": statistics,
                "references": stored(moved.references),
                "guard": self.guard.move(held, self.shape.names.retired),
            }
            state.set_state(held, self.migration, state.SWAPPED, **detail)
            watch.remember(held, self._sight(swapped=True))

        return self._locked(conn, "swap", self.shape.names.target, work, policy, between)

    def swap_back(self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch) -> LockReport:
        """Give the retired table its name again; it has every write acknowledged so far.

        Locks and errors as for `swap`. Afterwards the partitioned table follows, ready for the next swap.
        """

        def work(held: Connection) -> None:
            watch.hold(held)
            drain_to_zero(self.reverse, held)
            catalog, names = Catalog(held, self.files), self.shape.names
            parted, retired = catalog.read(names.source), catalog.read(names.retired)
            moved = self.moves(held, parted)
            lock_referenced(held, parted.foreign_keys)
            held.execute(as_query(self.swap_back_sql(held, moved)))
            moved.check(held, self.files, parted, retired)
            state.set_state(held, self.migration, state.FOLLOWING, guard=self.guard.move(held, names.target))
            watch.remember(held, self._sight(swapped=False))

        return self._locked(conn, "swap back", self.shape.names.retired, work, policy, between)

    def _sight(self, *, swapped: bool) -> Sight:
        names = self.shape.names
        tables = (names.retired, names.source) if swapped else (names.source, names.target)
        return Sight(self.files, names, *tables)

    def moves(self, conn: Connection, live: Table) -> Moves:
        """Return what goes along when the table that has the name just now gives it away."""
        return read_moves(conn, self.files, self.plan, self.shape.names.source, live)

    def _locked(
        self,
        conn: Connection,
        what: str,
        other: Name,
        work: Callable[[Connection], None],
        policy: LockPolicy,
        between: Callable[[], None],
    ) -> LockReport:
        live = Catalog(conn, self.files).read(self.shape.names.source)
        # The other table first: whoever reads it is waited for while the application still has its table.
        tables = f"lock table {quote_ident(other)}, {quote_ident(live.name)} in access exclusive mode"
        lock = as_query(";\n".join([*self.moves(conn, live).locks, tables]))
        title = f"{what} of {'.'.join(self.shape.names.source)}"

        def guarded(held: Connection) -> None:
            refuse_old_snapshots(held)
            work(held)

        _, report = with_lock(conn, title, guarded, lock=lock, policy=policy, between=between)
        return report


OLD_SNAPSHOTS = """
select format('pid %s (%s, %s, snapshot held since %s)', pid, application_name, state, xact_start)
from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null
      and state like 'idle in transaction%'
"""


def refuse_old_snapshots(conn: Connection) -> None:
    """Refuse an exchange while a transaction that has not touched the table keeps a snapshot from before.

    Under REPEATABLE READ it would work on the other table after the exchange and not see what was drained into it
    since: its UPDATE or DELETE of such a row would find nothing and say so without an error (trap 4). Under READ
    COMMITTED an idle transaction keeps no snapshot.

    Raises:
        TryAgain: there is one; names it.
    """
    if old := [row[0] for row in conn.execute(OLD_SNAPSHOTS)]:
        message = "; ".join(old[:3])
        raise TryAgain(message)


def kept_key(key: Constraint) -> dict[str, str | None]:
    """Return what is kept of a foreign key while it is off: name, definition, comment."""
    return {"name": key.name, "definition": _strong(key), "comment": key.comment}


def _strong(key: Constraint) -> str:
    return key.definition.removesuffix(" NOT VALID")


def lock_referenced(conn: Connection, keys: tuple[Constraint, ...], mode: LiteralString = "access exclusive") -> None:
    """Lock the tables that foreign keys point at, in one order: dropping a key takes ACCESS EXCLUSIVE on both ends."""
    tables = sorted({key.other for key in keys if key.other})
    if tables:
        listed = sql.SQL(", ").join(sql.Identifier(*name) for name in tables)
        conn.execute(sql.SQL("lock table {} in " + mode + " mode").format(listed))


def leaf_keys(conn: Connection, parted: Table) -> list[dict[str, Any]]:
    """Return foreign keys that stand on leaves alone: a swap that was killed before the parent adopted them."""
    rows = conn.execute(
        "select n.nspname, c.relname, con.conname from pg_catalog.pg_constraint as con "
        "join pg_catalog.pg_class as c on c.oid = con.conrelid "
        "join pg_catalog.pg_namespace as n on n.oid = c.relnamespace "
        "where con.contype = 'f' and con.conparentid = 0 and con.conrelid = any(%s::oid[]) order by 1, 2, 3",
        [[leaf.oid for leaf in parted.partitions]],
    )
    return [{"table": (schema, name), "name": key} for schema, name, key in rows]


def adopt_sql(table: Name, key: dict[str, str | None]) -> str:
    """Return the statements by which a parent adopts the foreign key of its leaves, comment included."""
    name, where = quote_ident(key["name"] or ""), quote_ident(table)
    text = f"alter table {where} add constraint {name} {key['definition']}"
    comment = key.get("comment")
    return text + (f"; comment on constraint {name} on {where} is {quote_literal(comment)}" if comment else "")


UNVALIDATED = """
select n.nspname, c.relname, con.conname from pg_catalog.pg_constraint as con
join pg_catalog.pg_class as c on c.oid = con.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where con.contype = 'f' and not con.convalidated and con.conrelid = any(%s::oid[])
order by con.conname, n.nspname, c.relname  -- two sessions meet on different leaves
"""


def validations(conn: Connection, table: Table) -> list[str]:
    """Return what validates the foreign keys of a table, or of its leaves, that are not validated yet."""
    oids = [leaf.oid for leaf in table.partitions] or [table.oid]
    return [
        f"alter table {quote_ident((schema, name))} validate constraint {quote_ident(key)}"
        for schema, name, key in conn.execute(UNVALIDATED, [oids])
    ]


def finish_foreign_keys(
    conn: Connection,
    files: SqlFiles,
    table: Name,
    keys: list[dict[str, str | None]],
    policy: LockPolicy,
    validate: Callable[[list[str]], None],
) -> int:
    """Validate the foreign keys of a table and of its leaves, and let the parent adopt those of the leaves.

    `validate` runs the validations, which may go on side by side. Locks: SHARE UPDATE EXCLUSIVE on each leaf while it
    is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    Returns how many statements were needed; a second run needs none.
    """
    found = Catalog(conn, files).read(table)
    done = len(statements := validations(conn, found))
    validate(statements)
    there = {one.name for one in found.foreign_keys}
    for key in keys:
        if found.partitions and key["name"] not in there:
            text = adopt_sql(table, key)

            def adopt(held: Connection, text: str = text) -> None:
                held.execute(as_query(text))

            with_lock(conn, f"adopt foreign key {key['name']}", adopt, policy=policy)
            done += 1
    return done


def add_weak_keys(conn: Connection, files: SqlFiles, names: Names, policy: LockPolicy) -> LockReport:
    """Add the source's foreign keys to the leaves of its target, NOT VALID, all in one short transaction.

    Locks: SHARE ROW EXCLUSIVE on the referenced tables, milliseconds. A second run adds none.
    """
    catalog = Catalog(conn, files)
    source, target = catalog.read(names.source), catalog.read(names.target)
    there = {key.name for leaf in target.partitions for key in catalog.read(leaf.name).foreign_keys}
    weak, _, _ = foreign_key_sql(source, target)
    keys = [kept_key(key) for key in source.foreign_keys]

    def work(held: Connection) -> None:
        if source.foreign_keys and not there:
            lock_referenced(held, source.foreign_keys, "share row exclusive")
            held.execute(as_query(";\n".join(weak)))
        found = state.read_migration(held, names.source)
        state.set_state(held, found.id, found.state, foreign_keys=keys)

    _, report = with_lock(conn, f"foreign keys of {dotted(names.target)}", work, policy=policy)
    return report
