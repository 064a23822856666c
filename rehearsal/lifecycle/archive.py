"""Archives a held leaf: closed to writers, written as Parquet, read back and compared, and only then noted as archived.

Owns the order of these, by which a run that is killed anywhere leaves nothing that counts as archived and is not; the
next one begins the leaf anew. Nothing is dropped here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from rehearsal.catalog.tables import STATE_SCHEMA, Name, dotted
from rehearsal.errors import PreconditionError, RehearsalError, StepFailed
from rehearsal.lifecycle.content import LeafContent, copy_in, copy_out, read_content
from rehearsal.lifecycle.manifest import (
    MANIFEST_VERSION,
    ArchiveManifest,
    archive_stem,
    file_sum,
    free_path,
    write_whole,
)
from rehearsal.lifecycle.parquet import read_parquet
from rehearsal.lifecycle.policy import Policy
from rehearsal.lifecycle.reading import LeafAct
from rehearsal.lifecycle.work import LeafWorker
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, checksum, quote_ident

# How sessions and the lock of this work are called.
ARCHIVING = "lifecycle.archive"
NAME = """
select n.nspname, c.relname from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where c.oid = %s::oid
"""
PLACE = """
select pg_catalog.current_database(), (select system_identifier from pg_catalog.pg_control_system()),
       pg_catalog.current_setting('server_version'), rehearsal.lifecycle_now()::text
"""
NOTE = "select rehearsal.lifecycle_note_archive(%s::oid, %s, %s, %s, %s, %s, %s)"
# Columns with xml below an array, a composite or a range; a column of xml itself, or of a domain over it, is none.
XML_INSIDE = """
with recursive inside (name, type, is_whole) as (
    select a.attname, a.atttypid, true from pg_catalog.pg_attribute as a
    where a.attrelid = %s::oid and a.attnum > 0 and not a.attisdropped
    union
    select i.name, n.type, i.is_whole and n.is_whole
    from inside as i join pg_catalog.pg_type as t on t.oid = i.type
    cross join lateral (
        select t.typbasetype, true where t.typtype = 'd'
        union all select t.typelem, false where t.typelem <> 0
        union all select a.atttypid, false from pg_catalog.pg_attribute as a
                  where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        union all select r.rngsubtype, false from pg_catalog.pg_range as r where t.oid in (r.rngtypid, r.rngmultitypid)
    ) as n (type, is_whole)
)
select distinct name from inside where type = 'pg_catalog.xml'::regtype and not is_whole order by name
"""
PRIVATE = "select rehearsal.lifecycle_private(%s::regclass)"
CLOSING = "select rehearsal.lifecycle_closing(%s::oid)"


@dataclass(frozen=True, slots=True)
class LeafArchiver:
    """Archives leaves of one table into a folder, in one session; the caller holds the table's lock of this work."""

    conn: Connection
    files: SqlFiles
    policy: Policy
    worker: LeafWorker
    folder: Path
    tell: Callable[[str], None]

    def archive(self, act: LeafAct) -> bool:
        """Close one leaf and archive it; return whether it is archived. A leaf that is closed already stays so.

        Raises:
            PreconditionError: a column has xml inside its values, whose comparison would prove nothing.
            StepFailed: the folder cannot be written, or what was read back is not what the leaf holds; the leaf is
                noted as archived in no such case.
        """
        oid = int(act.leaf_oid or 0)
        _require_comparable(self.conn, oid, act.leaf)
        if act.statements and not self.worker.do(act):
            return False
        name, closing = name_of(self.conn, oid), scalar(self.conn, CLOSING, [oid])
        with self._told(act.leaf):
            content = read_content(self.conn, self.files, name)
            manifest = self._write(name, act, content)
            self._prove(name, content, manifest)
            self._note(oid, closing, manifest)
        size = manifest.bytes / 2**20
        self.tell(
            f"archive {act.leaf}: {manifest.rows:,} rows, {size:,.1f} MiB in {self.folder / manifest.file}, proven"
        )
        return True

    def clear(self) -> None:
        """Drop the scratch table that a killed run left."""
        self.conn.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*self._scratch)))

    @property
    def _scratch(self) -> Name:
        return STATE_SCHEMA, f"lifecycle_proof_{self.policy.oid}"

    @contextmanager
    def _told(self, leaf: str) -> Generator[None]:
        """Say of a file that cannot be written where it is and that nothing is dropped."""
        try:
            yield
        except RehearsalError:
            raise  # a lost connection is an OSError too, and no fault of the folder
        except OSError as exc:
            message = (
                f"archive of {leaf} into {self.folder}: {exc.strerror or exc}; it is not noted as archived, so "
                "nothing is dropped. Make room or mend the folder, then run again"
            )
            raise StepFailed(message) from exc

    def _write(self, name: Name, act: LeafAct, content: LeafContent) -> ArchiveManifest:
        (database, system, server, at) = self.conn.execute(PLACE).fetchone() or ("", 0, "", "")
        stem = archive_stem(database, system, name, int(act.leaf_oid or 0))
        wanted = ArchiveManifest(
            version=MANIFEST_VERSION,
            database=database,
            system_identifier=system,
            server_version=server,
            table=name_of(self.conn, self.policy.oid),
            leaf=name,
            leaf_oid=int(act.leaf_oid or 0),
            lower=act.lower,
            upper=act.upper,
            columns=content.columns,
            rows=content.rows,
            digest=content.digest,
            file="",
            bytes=0,
            sha256="",
            archived_at=at,
        )
        path = free_path(self.folder, stem, wanted)
        # A manifest of before would speak of another file.
        path.with_suffix(".json").unlink(missing_ok=True)
        write_whole(
            path, lambda target: _require_rows(copy_out(self.conn, name, content.columns, target), content, name)
        )
        return replace(wanted, file=path.name, bytes=path.stat().st_size, sha256=file_sum(path))

    def _prove(self, name: Name, content: LeafContent, manifest: ArchiveManifest) -> None:
        """Read the file back into a scratch table, and compare it with the leaf as it is now.

        Raises:
            StepFailed: they differ; the file is removed.
        """
        path = self.folder / manifest.file
        made = sql.SQL("create unlogged table {} (like {})")
        self.clear()
        try:
            with self.conn.transaction():
                self.conn.execute(made.format(sql.Identifier(*self._scratch), sql.Identifier(*name)))
                run_made(self.conn, PRIVATE, [quote_ident(self._scratch)])
            copy_in(self.conn, self._scratch, content.names, read_parquet(path, content.names))
            back = read_content(self.conn, self.files, self._scratch, content.names)
            now = read_content(self.conn, self.files, name, content.names)
        finally:
            if not self.conn.closed:
                self.clear()
        found = {(seen.rows, seen.digest) for seen in (content, back, now)}
        if len(found) > 1:
            path.unlink()
            message = (
                f"the archive of {dotted(name)} is not proven: the leaf has {now.rows:,} rows, digest {now.digest}, "
                f"what was read back from {path} has {back.rows:,}, digest {back.digest}. The file is removed, nothing "
                "is dropped; see whether somebody writes to the leaf, then run again. Where nobody does, a value reads "
                "back as another: xml that begins with an XML declaration does so; save it by other means"
            )
            raise StepFailed(message)

    def _note(self, oid: int, closing: str, manifest: ArchiveManifest) -> None:
        path, text = (self.folder / manifest.file).with_suffix(".json"), manifest.to_json()
        write_whole(path, lambda target: target.write(text.encode()))
        values = [oid, closing, manifest.rows, manifest.digest, str(path), checksum(text), manifest.sha256]
        self.conn.execute(NOTE, values)


def run_made(conn: Connection, query: LiteralString, params: list[object]) -> None:
    """Run the statements that a function in the database returns, in order."""
    for (text,) in conn.execute(query, params).fetchall():
        conn.execute(as_query(text))


def name_of(conn: Connection, oid: int) -> Name:
    """Return the name of a table by its OID.

    Raises:
        PreconditionError: it is gone.
    """
    row = conn.execute(NAME, [oid]).fetchone()
    if row is None:
        message = f"the table of OID {oid} is gone"
        raise PreconditionError(message)
    return row[0], row[1]


def _require_comparable(conn: Connection, oid: int, leaf: str) -> None:
    """Refuse, before it is closed, a leaf with xml of which the server writes a part only, and compares that part."""
    if found := [row[0] for row in conn.execute(XML_INSIDE, [oid]).fetchall()]:
        message = (
            f"{leaf} is not archived: {', '.join(found)} has xml inside an array, a composite or a range, which loses "
            "its XML declaration when it is read, unseen by any comparison. It was not closed and is not dropped; "
            "change the column to one of xml or text, or save the leaf by other means and drop it by hand"
        )
        raise PreconditionError(message)


def _require_rows(written: int, content: LeafContent, name: Name) -> None:
    if written != content.rows:
        message = (
            f"{dotted(name)} had {content.rows:,} rows when they were counted and {written:,} when they were written: "
            "somebody writes to it; nothing is dropped. Run again"
        )
        raise StepFailed(message)
