"""Archives that are noted in the database, and whether their files are still what was proven.

Owns how a file that was damaged, moved or lost is found before its leaf is dropped: the note is taken back, so that the
leaf waits for its archive again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psycopg.rows import class_row

from rehearsal.errors import StepFailed
from rehearsal.lifecycle.manifest import file_sum
from rehearsal.lifecycle.reading import LeafAct
from rehearsal.postgres.connection import Connection

NOTED = """
select a.leaf_oid::bigint, a.leaf, a.manifest, a.manifest_sha256, a.sha256
from rehearsal.lifecycle_archived as a
join rehearsal.lifecycle_detached as d on d.leaf_oid = a.leaf_oid
where d.parent::oid = %s::oid and d.state = 'held' order by d.since, a.leaf
"""

DROPPED = """
select a.leaf_oid::bigint, a.leaf, a.manifest, a.manifest_sha256, a.sha256
from rehearsal.lifecycle_archived as a
where rehearsal.lifecycle_archived_of(a.leaf_oid) = %s::oid
      and not exists (select from pg_catalog.pg_class as c where c.oid = a.leaf_oid)
order by a.archived_at, a.leaf
"""
OBJECTED = "select leaf, objection from rehearsal.lifecycle_objected(%s::oid::regclass)"


@dataclass(frozen=True, slots=True)
class NotedArchive:
    """An archive of a leaf, as it was noted when it was proven."""

    leaf_oid: int
    leaf: str
    manifest: str
    manifest_sha256: str
    sha256: str

    def fault(self) -> str | None:
        """Return what is wrong with its files, which are read whole; None if they are what was proven."""
        manifest = Path(self.manifest)
        for path, wanted in ((manifest, self.manifest_sha256), (manifest.with_suffix(".parquet"), self.sha256)):
            try:
                found = file_sum(path)
            except OSError as exc:
                return f"{path} cannot be read: {exc.strerror or exc}"
            if found != wanted:
                return f"{path} is not what was proven: its SHA-256 is {found}, noted is {wanted}"
        return None

    def stamps(self) -> tuple[object, ...]:
        """Return what differs once one of its files was written, replaced or removed; nothing is read."""
        manifest = Path(self.manifest)
        try:
            found = [path.stat() for path in (manifest, manifest.with_suffix(".parquet"))]
        except OSError as exc:
            return (str(exc),)
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)


def read_noted(conn: Connection, table: int) -> list[NotedArchive]:
    """Return the noted archives of the held leaves of a table."""
    with conn.cursor(row_factory=class_row(NotedArchive)) as cursor:
        return cursor.execute(NOTED, [table]).fetchall()


def read_dropped(conn: Connection, table: int) -> list[NotedArchive]:
    """Return the noted archives of leaves that are there no more: these files alone have their rows."""
    with conn.cursor(row_factory=class_row(NotedArchive)) as cursor:
        return cursor.execute(DROPPED, [table]).fetchall()


def read_objected(conn: Connection, table: int) -> dict[str, str]:
    """Return why held leaves will be neither archived nor dropped, by leaf: somebody altered or renamed them."""
    return dict(conn.execute(OBJECTED, [table]).fetchall())


@dataclass(frozen=True, slots=True)
class DropWatch:
    """Looks at the files of an archived leaf: at all of them right before its drop, at their stamps under its lock."""

    conn: Connection
    table: int

    def __call__(self, act: LeafAct) -> Callable[[], None] | None:
        """Look at the files of a leaf that is to be dropped.

        Raises:
            StepFailed: they are not what was proven; the note is taken back. Under the lock: they changed meanwhile.
        """
        if act.act != "drop":
            return None
        noted = next((found for found in read_noted(self.conn, self.table) if found.leaf_oid == act.leaf_oid), None)
        if noted is None:
            return None
        before = noted.stamps()
        if why := lose_faulty(self.conn, self.table, {noted.leaf_oid}).get(noted.leaf):
            message = f"{noted.leaf} is not dropped: {why}; run `./inv lifecycle.archive`"
            raise StepFailed(message)
        return partial(_require_stamps, noted, before)


def _require_stamps(noted: NotedArchive, before: tuple[object, ...]) -> None:
    if noted.stamps() != before:
        message = (
            f"{noted.leaf} is not dropped: {noted.manifest} or its file was changed while the lock was waited for; "
            "run `./inv lifecycle.archive`"
        )
        raise StepFailed(message)


def lose_faulty(conn: Connection, table: int, leaves: Collection[int] | None = None) -> dict[str, str]:
    """Take back the notes of archives whose files are not what was proven; return why, by leaf.

    `leaves` are the OIDs of those to look at (all that are held). A second run finds nothing more.
    """
    lost: dict[str, str] = {}
    for noted in read_noted(conn, table):
        if (leaves is None or noted.leaf_oid in leaves) and (why := noted.fault()):
            conn.execute(
                "select rehearsal.lifecycle_lose_archive(%s::oid, %s, %s)", [noted.leaf_oid, noted.sha256, why]
            )
            lost[noted.leaf] = why
    return lost
