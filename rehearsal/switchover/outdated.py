"""A target that its source has grown away from: brought up to date, or removed so that it is made anew.

Owns which of the two. Only before the application uses the target: afterwards nothing here touches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Catalog, Table, dotted, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.evidence import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, LockPolicy, told_clearly, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.names import Names, trigger_names
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.target import change_name
from rehearsal.switchover.watches import copy_watch

COLUMN_COMMENTS = """
select attname, pg_catalog.col_description(attrelid, attnum)
from pg_catalog.pg_attribute where attrelid = %s and attnum > 0 and not attisdropped
"""
ROLES = ("capture_forward", "capture_reverse", "refuse_truncate", "sync_to_partitioned", "sync_from_partitioned",
         "snapshot_guard")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outdated:
    """One table whose target may not fit any more."""

    database: Database
    files: SqlFiles
    plan: Plan
    spec: TableSpec

    @property
    def names(self) -> Names:
        """Names around the table."""
        return Names(split_name(self.spec.name))

    @property
    def policy(self) -> LockPolicy:
        """Budget of each lock."""
        return LockPolicy(**self.plan.locks.model_dump())

    def mend(self, conn: Connection) -> str | None:
        """Bring the target up to date, or remove it; return what was done, None if it fits or is in use.

        Rights, comments and defaults are said again; anything else is in the rows or the indexes, so the target is
        made and filled anew. Locks: ACCESS EXCLUSIVE on the source for milliseconds, where the target is removed.

        Raises:
            PreconditionError: somebody added a partition to the target; it is not ours to drop.
            LockNotAcquired: the budget is spent; nothing changed.
        """
        found = state.find_migration(conn, self.names.source)
        if found is None or found.strategy == "attach" or found.state not in state.UNUSED:
            return None
        if Catalog(conn, self.files).find(self.names.target) is None:
            return self._remove(conn, "it was gone")
        differing = copy_watch(self.database, self.files, self.spec, found).find(conn)
        if not differing:
            return None
        self._refuse_strangers(differing)
        told = "; ".join(one.id for one in differing[:5])
        if all(_is_light(one) for one in differing):
            self._refresh(conn)
            return f"the target of {self.spec.name} was brought up to date: {told}"
        return self._remove(conn, told)

    def _refuse_strangers(self, differing: list[Difference]) -> None:
        partitions = [one for one in differing if one.subject.startswith("partition ") and not one.facet]
        if came := [one.subject for one in partitions if one.before is None]:
            message = (
                f"the target of {self.spec.name} has what was not made here: {', '.join(came)}; detach it, or drop it "
                "if its rows are not needed, then run `invoke db.migrate` again. Nothing was changed"
            )
            raise PreconditionError(message)

    def refresh_sql(self, conn: Connection) -> str:
        """Return the statements that say rights, comments and defaults of the source again of the target."""
        catalog = Catalog(conn, self.files)
        source, target = catalog.read(self.names.source), catalog.read(self.names.target)
        return self.files.render("steps/refresh_target.sql.j2", **self._said_again(conn, source, target))

    def _refresh(self, conn: Connection) -> None:
        text = self.refresh_sql(conn)
        with told_clearly(f"target of {self.spec.name}"), conn.transaction():
            conn.execute(as_query(text))

    def _said_again(self, conn: Connection, source: Table, target: Table) -> dict[str, Any]:
        ours, theirs = read_carried(conn, self.files, source.oid), read_carried(conn, self.files, target.oid)
        return {
            "target": target.name,
            "owner": target.owner,
            "revoked": sorted({quote_ident(target.owner), *(one["grantee"] for one in theirs["grants"])}),
            "has_grants": ours["has_grants"],
            "grants": ours["grants"],
            "comment": source.comment,
            "comments": [
                {"column": (*target.name, name), "comment": comment}
                for name, comment in conn.execute(COLUMN_COMMENTS, [source.oid])
            ],
            "defaults": [
                one
                for one in source.columns
                if not one.generated and not one.identity and one.default_sql != target.column(one.name).default_sql
            ],
        }

    def remove_sql(self) -> str:
        """Return the statements that remove the target with all that was made for it."""
        names = self.names
        return self.files.render(
            "steps/remove_target.sql.j2",
            source=names.source,
            source_text=dotted(names.source),
            target=names.target,
            triggers=[*trigger_names(names), names.guard_trigger],
            functions=[names.function(role) for role in ROLES],
            forward_log=names.forward_log,
            reverse_log=names.reverse_log,
            changes=f"{self.plan.name}/{change_name(names.source)}/",
        )

    def _remove(self, conn: Connection, why: str) -> str:
        names, text = self.names, self.remove_sql()

        def work(held: Connection) -> None:
            held.execute(as_query(text))

        lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*names.source))
        title = f"removal of the target of {self.spec.name}"
        with told_clearly(title):
            with_lock(conn, title, work, lock=lock, policy=self.policy)
        text = f"the target of {self.spec.name} did not fit any more ({why})"
        return f"{text}: it is made anew, `invoke db.switchover` fills it"


def _is_light(one: Difference) -> bool:
    if one.subject.startswith("grant to "):
        return True
    if one.subject.startswith("column "):
        return one.facet in ("comment", "default")
    return one.subject == "table" and one.facet == "comment"


def mend_targets(conn: Connection, database: Database, files: SqlFiles, plan: Plan, run: Run) -> None:
    """Bring targets that do not fit their source any more up to date, or remove them to be made anew; says so."""
    for spec in plan.tables:
        done = Outdated(database, files, plan, spec).mend(conn)
        if done:
            run.event("note", text=done)
