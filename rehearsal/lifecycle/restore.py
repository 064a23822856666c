"""Makes an archived leaf anew: a table like its parent with the rows of the file, compared by digest, then attached.

Owns what a restore demands of the table of today. The table and its rows come in one transaction: a run that is killed
leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg.rows import class_row

from rehearsal.catalog.tables import Catalog, Table, dotted
from rehearsal.errors import PreconditionError, StepFailed, UsageError
from rehearsal.lifecycle.archive import PLACE, name_of, run_made
from rehearsal.lifecycle.content import copy_in, read_content
from rehearsal.lifecycle.manifest import ArchiveManifest, file_sum
from rehearsal.lifecycle.parquet import read_parquet
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import read_to_reattach
from rehearsal.lifecycle.work import LeafWorker
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query

THERE = """
select c.oid::bigint as oid, i.inhparent::bigint as parent, coalesce(i.inhparent::regclass::text, '') as parent_name,
       coalesce(i.inhdetachpending, false) as pending,
       exists (select from rehearsal.lifecycle_detached as d
               where d.leaf_oid = c.oid and d.state in ('detaching', 'held') and i.inhparent is null) as held,
       c.relkind = 'r' and exists (select from rehearsal.lifecycle_history as h
               where h.act = 'restore' and h.leaf_oid = c.oid and h.said = %(sum)s) as restored
from pg_catalog.pg_class as c
left join lateral (select * from pg_catalog.pg_inherits where inhrelid = c.oid order by inhseqno limit 1) as i on true
where c.oid = pg_catalog.to_regclass(%(leaf)s)::oid
"""
NOTED = """
select a.manifest, a.manifest_sha256, a.sha256, rehearsal.lifecycle_archived_of(a.leaf_oid)::bigint
from rehearsal.lifecycle_archived as a where a.leaf_oid = %s::oid
"""
REMADE = "select rehearsal.lifecycle_remade(%s::oid::regclass, %s)"
LOADING = "select rehearsal.lifecycle_loading(%s::oid::regclass, %s)"
LOADED = "select rehearsal.lifecycle_loaded(%s::oid::regclass, %s)"
OVERLAPS = "select array(select rehearsal.lifecycle_overlaps(%s::oid::regclass, %s, %s))"
RESTORED = """
insert into rehearsal.lifecycle_history (parent, act, leaf, leaf_oid, lower, upper, said, at)
values (%s, 'restore', %s, %s::regclass::oid, %s, %s, %s, rehearsal.lifecycle_now())
"""
PAST = """
select exists (select from rehearsal.lifecycle_expired(%s::oid::regclass, rehearsal.lifecycle_now()) where leaf = %s)
"""


@dataclass(frozen=True, slots=True)
class TableThere:
    """The table that has the leaf's name: its parent, whether its rows are to go, whether it was restored from here."""

    oid: int
    parent: int | None
    parent_name: str
    pending: bool
    held: bool
    restored: bool


def parent_proven(conn: Connection, path: Path, manifest: ArchiveManifest) -> int | None:
    """Return the OID of the table that an archive is of, where the database's own note proves it; None: no such note.

    Names may be others by now: of the table, and of the database.

    Raises:
        PreconditionError: the archive is of another database or cluster, or not the one that was noted of its leaf.
    """
    row = conn.execute(NOTED, [manifest.leaf_oid]).fetchone()
    noted, manifest_sum, wanted, parent = row or ("", "", "", None)
    proven = (manifest_sum, wanted) == (file_sum(path), manifest.sha256)
    database, system, *_ = conn.execute(PLACE).fetchone() or ("", 0)
    if system != manifest.system_identifier or (database != manifest.database and not proven):
        message = (
            f"{path} is of database {manifest.database} of cluster {manifest.system_identifier}, "
            f"and this is {database} of {system}; restore it there"
        )
        raise PreconditionError(message)
    if row and not proven:
        message = (
            f"{path} is not the archive that was proven of {dotted(manifest.leaf)} and noted as {noted}: its SHA-256 "
            "or that of its file is another; nothing was restored. Take both files from a backup"
        )
        raise PreconditionError(message)
    return None if parent is None else int(parent)


@dataclass(frozen=True, slots=True)
class Restorer:
    """Restores one archive into one table's database, in one session; the caller holds the lock of archives."""

    conn: Connection
    files: SqlFiles
    policy: Policy
    worker: LeafWorker
    path: Path
    manifest: ArchiveManifest
    tell: Callable[[str], None]

    def restore(self, *, attach: bool) -> bool:
        """Remake the leaf, and attach it if that is asked for; return whether all was done. Again: no change.

        Raises:
            PreconditionError: the archive is of another database, the name is taken, the table has other columns now,
                or has leaves with keys of that range.
            StepFailed: the file is not what the manifest says, or what was loaded is not what was archived.
        """
        parent_proven(self.conn, self.path, self.manifest)
        there = self._there()
        if there:
            self._require_ours(there, attach=attach)
            self._require_rows()
            if there.parent or not attach:
                self.tell(f"{self._leaf}: no change")
                return True
        else:
            self._require_table()
        if attach:
            self._require_room()
        if not there:
            self._load()
        return self._attach() if attach else self._say_alone()

    @property
    def _leaf(self) -> str:
        """Return the leaf's name as the functions in the database write it."""
        return str(scalar(self.conn, "select pg_catalog.format('%%I.%%I', %s::text, %s::text)", self.manifest.leaf))

    @property
    def _columns(self) -> list[str]:
        return [column.name for column in self.manifest.columns]

    @property
    def _bounds(self) -> tuple[str | None, str | None]:
        return self.manifest.lower, self.manifest.upper

    def _there(self) -> TableThere | None:
        """Return the table that has the leaf's name."""
        with self.conn.cursor(row_factory=class_row(TableThere)) as cursor:
            return cursor.execute(THERE, {"leaf": self._leaf, "sum": self.manifest.sha256}).fetchone()

    def _require_ours(self, there: TableThere, *, attach: bool) -> None:
        """Refuse a table that is not what this archive was restored into, or is where it was not asked for.

        Raises:
            PreconditionError: says which it is, and what to do.
        """
        name = dotted(self.manifest.leaf)
        if not there.restored:
            message = (
                f"there is a table {name} that was not restored from {self.path}: if it is the leaf itself, it was not "
                "dropped yet; otherwise rename it, then run again"
            )
        elif there.parent not in (None, self.policy.oid):
            message = f"{name} is attached to {there.parent_name}: detach it or rename it, then run again"
        elif there.pending:
            message = f"{name} is being detached: run `./inv lifecycle.retain`, then run again"
        elif there.held and not attach:
            message = (
                f"{name} is there, and held to be dropped, since retention detached it anew: lengthen the retention by "
                "`./inv lifecycle.adopt`, then run again with --attach"
            )
        else:
            return
        raise PreconditionError(message)

    def _require_table(self) -> None:
        """Refuse a table of other columns, and a file that is not what the manifest says."""
        table = Catalog(self.conn, self.files).read(name_of(self.conn, self.policy.oid))
        if different := list(_unlike(self.manifest, table)):
            message = (
                f"{dotted(table.name)} has other columns now than when {dotted(self.manifest.leaf)} was archived: "
                f"{'; '.join(different)}. Read the file by other means, or change the table for as long"
            )
            raise PreconditionError(message)
        try:
            found = file_sum(self._file)
        except OSError as exc:
            message = f"--from {self.path}: {self._file} cannot be read: {exc.strerror}"
            raise UsageError(message) from exc
        if found != self.manifest.sha256:
            message = (
                f"{self._file} is not what was archived: its SHA-256 is {found}, the manifest says "
                f"{self.manifest.sha256}; nothing was restored. Take it from a backup"
            )
            raise StepFailed(message)

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.manifest.file)

    def _require_room(self) -> None:
        taken: list[str] = scalar(self.conn, OVERLAPS, [self.policy.oid, *self._bounds])
        if taken:
            low, high = self._bounds
            message = (
                f"{dotted(self.manifest.leaf)} cannot be attached from {low or 'minvalue'} to {high or 'maxvalue'}: "
                f"{', '.join(taken)} has keys of that range; restore it without --attach"
            )
            raise PreconditionError(message)

    def _require_rows(self) -> None:
        content = read_content(self.conn, self.files, self.manifest.leaf, self._columns)
        if (content.rows, content.digest) != (self.manifest.rows, self.manifest.digest):
            message = (
                f"table {dotted(self.manifest.leaf)} was restored before and has other rows now ({content.rows:,}, "
                f"archived were {self.manifest.rows:,}); drop or rename it, then run again"
            )
            raise PreconditionError(message)

    def _load(self) -> None:
        """Make the table and its rows in one transaction, which is undone unless they are those of the archive."""
        columns = self._columns
        with self.conn.transaction():
            self.conn.execute(as_query(scalar(self.conn, REMADE, [self.policy.oid, self._leaf])))
            run_made(self.conn, LOADING, [self.policy.oid, self._leaf])
            table = Catalog(self.conn, self.files).read(self.manifest.leaf)
            stored = [name for name in columns if name in table.stored_columns]
            copy_in(self.conn, table.name, stored, read_parquet(self._file, stored))
            content = read_content(self.conn, self.files, table.name, columns)
            if (content.rows, content.digest) != (self.manifest.rows, self.manifest.digest):
                message = (
                    f"what was loaded from {self._file} is not what was archived: {content.rows:,} rows, digest "
                    f"{content.digest}, and the manifest says {self.manifest.rows:,}, digest {self.manifest.digest}; "
                    "nothing was restored. A generated column of the table may have another expression now"
                )
                raise StepFailed(message)
            run_made(self.conn, LOADED, [self.policy.oid, self._leaf])
            values = [self.policy.table, self._leaf, self._leaf, *self._bounds, self.manifest.sha256]
            self.conn.execute(RESTORED, values)
        self.tell(f"{self._leaf}: restored {self.manifest.rows:,} rows, digest as archived")

    def _say_alone(self) -> bool:
        self.tell(f"{self._leaf} is a table of its own, which no run drops; --attach makes it a partition again")
        return True

    def _attach(self) -> bool:
        """Attach it, act by act; what a lock or a foreign key refuses leaves it restored, and the next run goes on."""
        for act in read_to_reattach(self.conn, self.policy.oid, self._leaf, *self._bounds):
            if not self.worker.do(act):
                return False
        if scalar(self.conn, PAST, [self.policy.oid, self._leaf]):
            self.tell(
                f"{self._leaf} is past the retention of {self.policy.retention}: the next `./inv lifecycle.retain` "
                "detaches it anew; to keep it, lengthen the retention by `./inv lifecycle.adopt`"
            )
        return True


def _unlike(manifest: ArchiveManifest, table: Table) -> list[str]:
    """Return what columns differ in, by name."""
    then = {column.name: (column.type, column.collation, column.generated) for column in manifest.columns}
    now = {column.name: (column.type, column.collation, bool(column.generated)) for column in table.columns}
    found = [f"{name} is gone" for name in then if name not in now]
    found += [f"{name} is new" for name in now if name not in then]
    return found + [
        f"{name} was {_said(then[name])} and is {_said(now[name])}"
        for name in then
        if name in now and then[name] != now[name]
    ]


def _said(column: tuple[str, str | None, bool]) -> str:
    kind, collation, generated = column
    return f"{kind}{f' collate {collation}' if collation else ''}{' generated' if generated else ''}"
