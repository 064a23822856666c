"""The end of dual-write that keeps the target: the source is dropped once nobody uses it, and nothing points at it.

Owns what goes along to the target (identity, sequences, views, functions, policies, publications, foreign keys of other
tables) and what is refused by name. All that is dropped goes in one transaction, so a kill leaves both tables mirrored
or the target alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import errors

from rehearsal.catalog.dependents import Dependents, check_moved, lock_statements, read_dependents, require_movable
from rehearsal.catalog.tables import Catalog, Name, Table, dotted
from rehearsal.catalog.words import mentions_table
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.policy import rename_history
from rehearsal.postgres.connection import Connection, scalar, told_clearly
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.acts import Act, lock_of
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.kept import IndexNames
from rehearsal.switchover.names import fit, trigger_names
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.dual_write.keys import AS_IS, decide, going_along
from rehearsal.switchover.target.carry import exchange_values, identity_sql, read_carried, statistics_names
from rehearsal.switchover.target.foreign_keys import lock_referenced
from rehearsal.switchover.target.indexes import plan_indexes
from rehearsal.switchover.target.references import (
    Reference,
    References,
    lock_children,
    loosened_sql,
    read_references,
    validate_references,
)
from rehearsal.switchover.target.removal import ROLES
from rehearsal.switchover.target.target import Shape
from rehearsal.switchover.unused import LastLook
from rehearsal.switchover.work import TableWork

TEXTS = """
select f.oid::regprocedure::text, f.prosrc from pg_catalog.pg_proc as f
join pg_catalog.pg_namespace as n on n.oid = f.pronamespace
join pg_catalog.pg_language as l on l.oid = f.prolang
where l.lanname not in ('internal', 'c') and f.prosqlbody is null
      and pg_catalog.strpos(pg_catalog.lower(f.prosrc), pg_catalog.lower(%s)) > 0
      and n.nspname not in ('information_schema', 'rehearsal') and n.nspname !~ '^pg_'
      and not exists (select from pg_catalog.pg_depend as d
                      where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = f.oid and d.deptype = 'e')
order by 1
"""
BRIDGE = "For whoever names {target} still: it is {source} now. Drop it once nobody does"


@dataclass(frozen=True, slots=True)
class Going:
    """The source that is about to go, the target that stays, and what points at the source just now."""

    source: Table
    target: Table
    dependents: Dependents
    references: References

    @property
    def loose(self) -> list[Reference]:
        """Foreign keys that triggers replace: nothing else can stand for them."""
        return [reference for reference in self.references if reference.decision != AS_IS]


@dataclass(frozen=True, slots=True)
class TargetStays:
    """One table's end of dual-write, after which the target is the only one."""

    work: TableWork

    @property
    def takes_name(self) -> bool:
        """Whether the target gets the name of the source, as the plan says."""
        return self.work.spec.after_cleanup == "takes_name"

    @property
    def final(self) -> Name:
        """The name that the target has afterwards."""
        names = self.work.names
        return names.source if self.takes_name else names.target

    def read(self, conn: Connection) -> Going:
        """Return what is about to go, and what goes along.

        Raises:
            PreconditionError: something points at the source that cannot go along; names it, and what to do.
        """
        catalog, names, spec = Catalog(conn, self.work.files), self.work.names, self.work.spec
        source, target = catalog.read(names.source), catalog.read(names.target)
        found = read_dependents(conn, self.work.files, source.oid, spec.key)
        dependents = require_movable(found, names.source, "be dropped")
        references = decide(read_references(conn, self.work.files, source.oid), target, spec)
        return Going(source, target, dependents, references)

    def require(self, conn: Connection) -> None:
        """Refuse, before anything is changed, what would refuse the end or what it would break.

        Raises:
            PreconditionError: says which, and what to do.
        """
        going = self.read(conn)
        self._require_one_table(conn, going)
        if self.takes_name:
            self._require_no_column_rights(conn, going)
        retired = self.work.names.retired
        if Catalog(conn, self.work.files).find(retired) is not None:
            message = f"{dotted(retired)} exists: the name is needed for a moment; rename that relation, then run again"
            raise PreconditionError(message)
        if not self.takes_name:
            self._require_no_text(conn)

    def _require_one_table(self, conn: Connection, going: Going) -> None:
        """Refuse what names both tables: its text is said again when there is one table."""
        pair = {"source": going.source.oid, "target": going.target.oid}
        if both := [
            row[0]
            for row in conn.execute(self.work.files.query("switchover/strategies/dual_write/names_both.sql"), pair)
        ]:
            source, target = dotted(going.source.name), dotted(going.target.name)
            message = (
                f"{source} cannot be dropped while {'; '.join(both)} names both {source} and {target}: drop it, or let "
                "it name one of them, then run again. Nothing was dropped"
            )
            raise PreconditionError(message)

    def _require_no_column_rights(self, conn: Connection, going: Going) -> None:
        """Refuse rights on columns: through a view they no longer are what they were on a table."""
        grants = read_carried(conn, self.work.files, going.target.oid)["grants"]
        if told := [
            f"{grant['privilege']} ({grant['column']}) to {grant['grantee']}" for grant in grants if grant["column"]
        ]:
            message = (
                f"{dotted(going.target.name)} has rights on columns, which the view that stays under its name does not "
                f'bear as a table does: {"; ".join(told)}. Leave out after_cleanup = "takes_name", or grant rights '
                "on the whole table, then run again. Nothing was dropped"
            )
            raise PreconditionError(message)

    def _require_no_text(self, conn: Connection) -> None:
        """Refuse functions whose text names the source: the server knows only bodies that it has parsed."""
        source, target = self.work.names.source, self.work.names.target
        texts = [
            f"function {name}: names {dotted(source)}"
            for name, text in conn.execute(TEXTS, [source[1].replace('"', '""')])
            if mentions_table(text, *source, besides=target[1], deep=True)
        ]
        if stuck := [said for said in texts if said not in self.work.spec.accepted]:
            message = (
                f"{dotted(source)} cannot be dropped while functions name it in their text, which would fail: "
                f"{'; '.join(stuck)}. Let them name {dotted(self.work.names.target)}, or accept by name in the plan's "
                f"table: accepted = [{', '.join(map(repr, stuck))}]. Nothing was dropped"
            )
            raise PreconditionError(message)

    def acts(self, conn: Connection) -> list[Act]:
        """Return what is going to be done, in order; changes nothing.

        Raises:
            PreconditionError: as `read`.
        """
        self.require(conn)
        going, names = self.read(conn), self.work.names
        taking, dropping = self.statements(conn, going)
        return [
            Act(dotted(names.source), "everything goes along to the target", taking, lock_of(taking), 0.05),
            Act(dotted(names.source), "the source is dropped", dropping, lock_of(dropping), 0.01),
        ]

    def end(self, conn: Connection, found: Migration, watch: Watch, last: LastLook | None = None) -> str:
        """Drop the source in one short transaction, with mirrors, logs and state.

        Locks: ACCESS EXCLUSIVE on what points at the source, the target, the source, then on the tables that its
        foreign keys refer to, for milliseconds. Foreign keys of other tables are validated afterwards: SHARE UPDATE
        EXCLUSIVE on them.

        Raises:
            PreconditionError: something came meanwhile that would be lost; nothing was dropped.
            LockNotAcquired: a lock was not granted within its budget; nothing was dropped.
        """
        names = self.work.names
        watch.look(conn)

        def drop(held: Connection) -> None:
            watch.hold(held)
            if last:
                last(held, names.source)
            going = self.read(held)
            self._require_one_table(held, going)
            lock_referenced(held, going.source.foreign_keys)
            taking, dropping = self.statements(held, going)
            _execute(held, taking)
            # Under the name that all texts were read by.
            moved = tuple(dependent for dependent in going.dependents if dependent.after_sql)
            key = self.work.spec.key
            check_moved(held, self.work.files, moved, going.source.oid, going.target.oid, key)
            _execute(held, dropping)
            rename_history(held, names.target, self.final)
            state.forget_table(held, found)

        self.work.begin("end of the source")
        title = f"clean-up of {found.source}"
        as_were = self.read(conn).references
        with told_clearly(title):
            self.work.locked(conn, title, drop, lock=self._lock(conn), between=lambda: watch.again(conn))
            validate_references(conn, self.work.files, Catalog(conn, self.work.files).read(self.final).oid, as_were)
        stays = f"{dotted(self.final)} is the only table now"
        bridge = f"; {dotted(names.target)} is a view of it, for whoever names it still" if self.takes_name else ""
        return f"{found.source} dropped with its mirrors and logs; {stays}{bridge}"

    def _lock(self, conn: Connection) -> Any:
        going, names = self.read(conn), self.work.names
        # As the application does: what points at the tables, the target, then by its mirror the source.
        tables = lock_tables(Mode.ACCESS_EXCLUSIVE, names.target, names.source).as_string(conn)
        children = lock_children(going.references)
        return as_query(";\n".join([*children, *lock_statements(going.dependents), tables]))

    def statements(self, conn: Connection, going: Going) -> tuple[str, str]:
        """Return the statements that take everything along under the source's name, and those that drop the source."""
        files, names = self.work.files, self.work.names
        exchange = {**exchange_values(conn, files, going.source), "source": names.source}
        off, on = identity_sql(files, exchange)
        loosening = [
            f"alter table {quote_ident(reference.child)} drop constraint {quote_ident(reference.name)}"
            for reference in going.loose
        ]
        keys = going_along(conn, going.references, names.target)
        taking = files.render(
            "switchover/strategies/dual_write/keep_target.sql.j2",
            **exchange,
            target=names.target,
            retired=names.retired,
            ours=[*trigger_names(names), names.fence_trigger],
            before=[*loosening, *keys, *(moved.before_sql for moved in going.dependents if moved.before_sql)],
            after=self._after(conn, going),
            identity_off=off,
            identity_on=on,
        )
        return taking, self._dropping(conn, going)

    def _after(self, conn: Connection, going: Going) -> list[str]:
        """Return what is said again of the target; a publication may have it already."""
        there = read_dependents(conn, self.work.files, going.target.oid, self.work.spec.key)
        published = {dependent.name for dependent in there if dependent.kind == "publication"}
        return [
            moved.after_sql
            for moved in going.dependents
            if moved.after_sql and not (moved.kind == "publication" and moved.name in published)
        ]

    def _dropping(self, conn: Connection, going: Going) -> str:
        files, names = self.work.files, self.work.names
        carried = read_carried(conn, files, going.target.oid)
        owner = going.target.owner
        return files.render(
            "switchover/strategies/dual_write/drop_source.sql.j2",
            source=names.source,
            target=names.target,
            retired=names.retired,
            takes_name=self.takes_name,
            indexes=self._indexes(going),
            statistics=statistics_names(read_carried(conn, files, going.source.oid)["statistics"]),
            secure=conn.info.server_version >= 150000,
            columns=[column.name for column in going.target.columns],
            comment=BRIDGE.format(target=dotted(names.target), source=dotted(names.source)),
            owner=owner if owner != scalar(conn, "select current_user") else None,
            grants=carried["grants"],
            loosened=[loosened_sql(files, reference, self.final) for reference in going.loose],
            functions=[names.function(role) for role in ROLES],
            forward_log=names.forward_log,
            reverse_log=names.reverse_log,
        )

    def _indexes(self, going: Going) -> list[IndexNames]:
        """Return the indexes of the target that take the name of the source's; partitions have names of their own."""
        target, schema = self.work.names.target, self.work.names.source[0]
        there = {index.name for index in going.target.indexes}
        shape = Shape.of(going.source, self.work.spec.key, uniques=self.work.spec.uniques)
        return [
            IndexNames((schema, plan.source_name), (schema, name), (schema, fit(plan.source_name, "_old")))
            for plan in plan_indexes(going.source, shape)
            if plan.on_parent and (name := plan.parent_name(target)) in there
        ]


def _execute(held: Connection, text: str) -> None:
    try:
        held.execute(as_query(text))
    except errors.DependentObjectsStillExist as exc:
        message = (
            f"something needs what is about to go: {exc.diag.message_detail or exc.diag.message_primary}. "
            "Drop it, or let it use the target, then run again. Nothing was dropped"
        )
        raise PreconditionError(message) from exc
