"""A target that its source has grown away from: brought up to date, or removed so that it is made anew.

Owns which of the two. Only before the application uses the target: afterwards nothing here touches it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Catalog, Table
from rehearsal.postgres.connection import Connection, told_clearly
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.changes import names_of_changes, read_applied
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.carry import read_carried
from rehearsal.switchover.target.removal import refuse_strangers, remove_target

COLUMN_COMMENTS = """
select attname, pg_catalog.col_description(attrelid, attnum)
from pg_catalog.pg_attribute where attrelid = %s and attnum > 0 and not attisdropped
"""


@dataclass(frozen=True, slots=True)
class Outdated:
    """One table whose target may not fit any more."""

    work: Switchover

    def mend(self, conn: Connection) -> str | None:
        """Bring the target up to date, or remove it; return what was done, None if it fits or is in use.

        Rights, comments and defaults are said again; anything else is in the rows or the indexes, so the target is
        made and filled anew. Locks: ACCESS EXCLUSIVE on the source for milliseconds, where the target is removed.

        Raises:
            PreconditionError: somebody added a partition to the target; it is not ours to drop.
            LockNotAcquired: the budget is spent; nothing changed.
        """
        work = self.work
        found = state.find_migration(conn, work.names.source)
        if found is None or not work.plan.traits.copies or found.state not in state.UNUSED or not self._is_whole(conn):
            return None
        if Catalog(conn, work.files).find(work.names.target) is None:
            return self._remove(conn, "it was gone")
        differing = work.watch(conn).find(conn)
        if not differing:
            return None
        refuse_strangers(self.work, differing)
        told = "; ".join(difference.id for difference in differing[:5])
        if all(_is_light(difference) for difference in differing):
            self._refresh(conn)
            return f"the target of {self.work.spec.name} was brought up to date: {told}"
        return self._remove(conn, told)

    def _is_whole(self, conn: Connection) -> bool:
        """Return whether all changes of the table were applied; a run that was killed between them is gone on with."""
        return names_of_changes(self.work.plan, self.work.spec).keys() <= read_applied(conn).keys()

    def refresh_sql(self, conn: Connection) -> str:
        """Return the statements that say rights, comments and defaults of the source again of the target."""
        catalog = Catalog(conn, self.work.files)
        source, target = catalog.read(self.work.names.source), catalog.read(self.work.names.target)
        return self.work.files.render("switchover/refresh_target.sql.j2", **self._said_again(conn, source, target))

    def _refresh(self, conn: Connection) -> None:
        work, text = self.work, self.refresh_sql(conn)

        def refresh(held: Connection) -> None:
            held.execute(as_query(text))

        # Before its copy a target may be mirrored: then the application's writes hold locks on it, and wait for ours.
        title = f"target of {work.spec.name}"
        with told_clearly(title):
            work.locked(conn, title, refresh, lock=lock_tables(Mode.ACCESS_EXCLUSIVE, work.names.target))

    def _said_again(self, conn: Connection, source: Table, target: Table) -> dict[str, Any]:
        ours, theirs = read_carried(conn, self.work.files, source.oid), read_carried(conn, self.work.files, target.oid)
        return {
            "target": target.name,
            "owner": target.owner,
            "revoked": sorted({quote_ident(target.owner), *(grant["grantee"] for grant in theirs["grants"])}),
            "has_grants": ours["has_grants"],
            "grants": ours["grants"],
            "comment": source.comment,
            "comments": [
                {"column": (*target.name, name), "comment": comment}
                for name, comment in conn.execute(COLUMN_COMMENTS, [source.oid])
            ],
            "defaults": [
                column
                for column in source.columns
                if not column.generated
                and not column.identity
                and column.default_sql != target.column(column.name).default_sql
            ],
        }

    def _remove(self, conn: Connection, why: str) -> str:
        remove_target(self.work, conn)
        text = f"the target of {self.work.spec.name} did not fit any more ({why})"
        return f"{text}: it is made anew, `./inv db.switchover` fills it"


def _is_light(difference: Difference) -> bool:
    if difference.subject.startswith("grant to "):
        return True
    if difference.subject.startswith("column "):
        return difference.facet in ("comment", "default")
    return difference.subject == "table" and difference.facet == "comment"


def mend_targets(conn: Connection, tables: Iterable[Switchover]) -> None:
    """Bring targets that do not fit their source any more up to date, or remove them to be made anew; says so."""
    for work in tables:
        if done := Outdated(work).mend(conn):
            work.note(done)
