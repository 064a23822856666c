"""Archives that are noted in the database, and whether their files are still what was proven.

Owns how a file that was damaged, moved or lost is found before its leaf is dropped: the note is taken back, so that the
leaf waits for its archive again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from psycopg.rows import class_row

from rehearsal.lifecycle.manifest import file_sum
from rehearsal.postgres.connection import Connection

NOTED = """
select a.leaf_oid::bigint, a.leaf, a.manifest, a.manifest_sha256, a.sha256
from rehearsal.lifecycle_archived as a
join rehearsal.lifecycle_detached as d on d.leaf_oid = a.leaf_oid
where d.parent::oid = %s::oid and d.state = 'held' order by d.since, a.leaf
"""


@dataclass(frozen=True, slots=True)
class NotedArchive:
    """An archive of a held leaf, as it was noted when it was proven."""

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


def read_noted(conn: Connection, table: int) -> list[NotedArchive]:
    """Return the noted archives of the held leaves of a table."""
    with conn.cursor(row_factory=class_row(NotedArchive)) as cursor:
        return cursor.execute(NOTED, [table]).fetchall()


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
