"""Backup of the tables that change shape, and a drill that restores it and compares what came back.

Owns the folder of a backup: `data/` (pg_dump's directory format), `schema.dump` (the whole schema, so that types and
functions are there when tables are restored), `content.json` (rows and digests in the snapshot of the dump) and
`MANIFEST.sha256`, written last. Restores into scratch databases only, never over a live table.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Catalog, Name, dotted
from rehearsal.checks.scratch import scratch_database
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.programs import find_client, require_version, run_client
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.digest import open_snapshot
from rehearsal.switchover.parity.pair import read_encodings

MANIFEST = "MANIFEST.sha256"
COMMON = ("--no-owner", "--no-acl", "--no-publications", "--no-subscriptions")


@dataclass(frozen=True, slots=True)
class Content:
    """Rows of a table and the digest of their content, which means the same in another database."""

    rows: int
    digest: int


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup."""

    folder: Path
    content: dict[Name, Content]
    snapshot: str
    client: str
    bytes: int
    seconds: float

    @property
    def tables(self) -> tuple[Name, ...]:
        """Tables in the backup, partitions counted as part of theirs."""
        return tuple(self.content)


@dataclass(frozen=True, slots=True)
class RestoreDrill:
    """What came back. `restore_seconds` is the measured time of a rollback by restore, indexes and keys included."""

    restored: dict[Name, Content]
    differences: tuple[str, ...]
    restore_seconds: float
    seconds: float

    @property
    def is_equal(self) -> bool:
        """Whether every table came back with the same rows."""
        return bool(self.restored) and not self.differences


def backup(
    database: Database,
    files: SqlFiles,
    tables: Sequence[Name],
    folder: Path,
    client_bin: Path | None = None,
    *,
    jobs: int = 2,
) -> Backup:
    """Dump the tables, and those that they reference, into a new folder; their digests are of the same snapshot.

    The folder appears when all of it is written and never half done. Takes ACCESS SHARE on the tables.

    Raises:
        PreconditionError: no pg_dump, one that is older than the server, no room, or a folder that is there already.
    """
    started = time.monotonic()
    program = find_client("pg_dump", client_bin)
    with open_snapshot(database, role="backup") as (conn, snapshot), _new_folder(folder) as partial:
        version = require_version(program, conn.info.server_version)
        wanted = _with_referenced(conn, files, tables)
        options = ["--schema-only", "--format=custom", f"--file={partial / 'schema.dump'}"]
        run_client(program, database, [*COMMON, *options], "dump the schema")
        options = ["--format=directory", f"--jobs={jobs}", f"--file={partial / 'data'}", f"--snapshot={snapshot}"]
        options += ["--lock-wait-timeout=10s", "--strict-names", *(f"--table={_pattern(name)}" for name in wanted)]
        run_client(program, database, [*COMMON, *options], "dump the tables")
        content = read_content(conn, files, [name for name, is_leaf in wanted.items() if not is_leaf])
        _write_content(partial / "content.json", content)
        size = _write_manifest(partial)
    return Backup(folder, content, snapshot, version, size, time.monotonic() - started)


def restore_drill(
    database: Database,
    files: SqlFiles,
    made: Backup,
    scratch_name: str,
    client_bin: Path | None = None,
    *,
    jobs: int = 2,
) -> RestoreDrill:
    """Restore a backup into a scratch database beside `database`, compare content, and drop it again.

    Raises:
        PreconditionError: a file of the backup is not as it was written, or a database of that name is there and is not
            ours.
        CannotSee: the role may not make databases, or is not let into this one; says what to do.
    """
    started = time.monotonic()
    verify_files(made.folder)
    with scratch_database(database, scratch_name) as scratch:
        restore_seconds = restore_dump(scratch, made.folder, client_bin, jobs=jobs)
        with connect(scratch, role="restore drill") as conn:
            restored = read_content(conn, files, made.tables)
    differences = content_differences(made.content, restored)
    return RestoreDrill(restored, differences, restore_seconds, time.monotonic() - started)


def restore_dump(scratch: Database, folder: Path, client_bin: Path | None = None, *, jobs: int = 2) -> float:
    """Restore schema, rows, indexes and keys into an empty database; return the seconds it took."""
    program = find_client("pg_restore", client_bin)
    started = time.monotonic()
    # What the tables do not need may fail here (a comment on an extension, say); what they need shows in the next step.
    options = [*COMMON, "--section=pre-data", str(folder / "schema.dump")]
    run_client(program, scratch, options, "restore the schema", accept=(0, 1))
    options = [*COMMON, "--section=data", "--section=post-data", "--exit-on-error", f"--jobs={jobs}"]
    run_client(program, scratch, [*options, str(folder / "data")], "restore the tables")
    return time.monotonic() - started


def read_content(conn: Connection, files: SqlFiles, tables: Sequence[Name]) -> dict[Name, Content]:
    """Count and digest tables as the session sees them; a table that is not there is left out."""
    catalog = Catalog(conn, files)
    found: dict[Name, Content] = {}
    for name in tables:
        if table := catalog.find(name):
            columns = read_encodings(conn, files, table, portable=True)
            ((rows, digest),) = conn.execute(
                files.query("checks/content.sql.j2", table=name, columns=columns)
            ).fetchall()
            found[name] = Content(rows, int(digest))
    return found


def content_differences(wanted: Mapping[Name, Content], found: Mapping[Name, Content]) -> tuple[str, ...]:
    """Say of each table that is not as it was what is different."""
    said: list[str] = []
    for name, content in wanted.items():
        got = found.get(name)
        if got is None:
            said.append(f"{dotted(name)} is missing")
        elif got.rows != content.rows:
            said.append(f"{dotted(name)} has {got.rows} rows instead of {content.rows}")
        elif got != content:
            said.append(f"{dotted(name)} has {got.rows} rows with other content")
    return tuple(said)


def verify_files(folder: Path) -> int:
    """Check every file against the manifest, and that there is no other; return how many there are.

    Raises:
        PreconditionError: a file is missing, changed or new.
    """
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        message = f"{folder} has no {MANIFEST}: {exc.strerror}; the backup was never finished, make a new one"
        raise PreconditionError(message) from exc
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _checksums(folder)
    wrong = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if wrong:
        message = f"the backup in {folder} is not as it was written: {', '.join(wrong)}; do not use it, make a new one"
        raise PreconditionError(message)
    return len(wanted)


def _with_referenced(conn: Connection, files: SqlFiles, tables: Sequence[Name]) -> dict[Name, bool]:
    """Return the names of all tables to dump, and whether each is a partition."""
    catalog = Catalog(conn, files)
    oids = [catalog.read(name).oid for name in tables]
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(files.query("checks/backup_tables.sql"), {"oids": oids}).fetchall()
    return {(row["schema"], row["name"]): row["is_leaf"] for row in rows}


def _pattern(name: Name) -> str:
    """Quote a name as a pattern of pg_dump that matches itself only."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    if folder.exists():
        message = f"the folder of the backup already exists: {folder}; choose a new one"
        raise PreconditionError(message)
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        yield partial
        partial.rename(folder)
    except OSError as exc:
        message = f"cannot write the backup {folder}: {exc.strerror}; free room or fix its rights"
        raise PreconditionError(message) from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_content(path: Path, content: Mapping[Name, Content]) -> None:
    rows = [
        {"schema": schema, "name": name, "rows": table.rows, "digest": table.digest}
        for (schema, name), table in content.items()
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _write_manifest(folder: Path) -> int:
    """Write the manifest; return the bytes of all files in it."""
    sums = _checksums(folder)
    (folder / MANIFEST).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    return sum((folder / name).stat().st_size for name in sums)


def _checksums(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in paths}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
