"""What stands beside a Parquet file: whose rows it holds, what proves them, and what a restore needs.

Owns the manifest, how files of an archive are named, and how a file comes into being whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from rehearsal.catalog.tables import Name, dotted
from rehearsal.errors import UsageError

MANIFEST_VERSION = 1
KEPT = (
    "kept: columns in order with types and collations, all values (those of generated columns too), the bounds. Not "
    "kept: defaults, constraints, indexes, rights, triggers; a restore takes them from the table of that day"
)


@dataclass(frozen=True, slots=True)
class ArchivedColumn:
    """A column as the leaf had it: `form` is its type in the file, `base` the type below all domains."""

    name: str
    type: str
    collation: str | None
    generated: bool
    form: str


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """An archive of one leaf; `digest` is the server's over whole rows, `sha256` that of the Parquet file."""

    version: int
    database: str
    system_identifier: int
    server_version: str
    table: Name
    leaf: Name
    leaf_oid: int
    lower: str | None
    upper: str | None
    columns: tuple[ArchivedColumn, ...]
    rows: int
    digest: str
    file: str
    bytes: int
    sha256: str
    archived_at: str
    kept: str = KEPT

    def to_json(self) -> str:
        """Return it as it is kept."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_manifest(path: Path) -> ArchiveManifest:
    """Read a manifest from its file.

    Raises:
        UsageError: there is no such file, or it is no manifest of this version.
    """
    require_utf8("--from", str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        message = f"--from {path}: cannot be read: {exc}"
        raise UsageError(message) from exc
    try:
        found: ArchiveManifest = TypeAdapter(ArchiveManifest).validate_json(text)
    except ValidationError as exc:
        message = f"--from {path}: is no manifest that lifecycle.archive wrote: {exc.errors()[0]['msg']}"
        raise UsageError(message) from exc
    if found.version != MANIFEST_VERSION:
        message = f"--from {path}: is of version {found.version}, this program reads {MANIFEST_VERSION}"
        raise UsageError(message)
    said = (*found.table, *found.leaf, found.lower, found.upper, *(column.name for column in found.columns))
    if not 0 < found.leaf_oid < 2**32 or any("\0" in (text or "") for text in said):
        message = f"--from {path}: has a name, a bound or an OID that no database has"
        raise UsageError(message)
    if {"/", "\0"} & set(found.file) or found.file in ("", ".", ".."):
        message = f"--from {path}: names the file {found.file!r}, which is not beside it"
        raise UsageError(message)
    return found


def require_utf8(option: str, path: str) -> None:
    """Refuse a path that the database cannot note.

    Raises:
        UsageError: it has a NUL, or bytes that are no UTF-8; it is said as ASCII, since no terminal shows it.
    """
    try:
        found = path.encode()
    except UnicodeEncodeError:
        found = b"\0"
    if b"\0" in found:
        message = f"{option} {path!a}: the path is no UTF-8 text without NUL, so it cannot be noted; use another one"
        raise UsageError(message)


def archive_stem(database: str, system: int, leaf: Name, oid: int) -> str:
    """Return how the files of a leaf's archive begin: readable, and another one for any other leaf.

    >>> archive_stem("shop", 7, ("public", "orders 2026"), 16384)
    'public.orders_2026-16384-3fbd4e7e'
    """
    readable = re.sub(r"[^A-Za-z0-9_.]", "_", dotted(leaf)).lstrip(".")[:80]
    whole = json.dumps([database, system, *leaf, oid])
    return f"{readable}-{oid}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def free_path(folder: Path, stem: str, wanted: ArchiveManifest) -> Path:
    """Return where the file of an archive may be written: no other archive is replaced by it.

    A database that was put back to an earlier time has leaves of the same names and OIDs, with other rows. Only a file
    without a manifest, as a killed run leaves it, and an archive of the very same rows are written anew.
    """
    for number in count(1):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.parquet"
        manifest = path.with_suffix(".json")
        if not os.path.lexists(manifest) or _is_same(manifest, wanted):
            return path
    raise AssertionError


def _is_same(path: Path, wanted: ArchiveManifest) -> bool:
    """Return whether a manifest speaks of these rows; one that cannot be read may speak of any."""
    try:
        found = read_manifest(path)
    except UsageError:
        return False
    apart: dict[str, Any] = {"server_version": "", "archived_at": "", "file": "", "bytes": 0, "sha256": "", "kept": ""}
    return replace(found, **apart) == replace(wanted, **apart)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that is there as a whole, on disk, or not at all; for its owner's eyes. One of before is replaced.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    with _removed_if_it_fails(part):
        # A killed run left one, or somebody put a link or a pipe there: never written through, never waited for.
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            write(target)
            target.flush()
            os.fsync(descriptor)
        part.replace(path)
        _sync_folder(path.parent)


@contextmanager
def _removed_if_it_fails(part: Path) -> Generator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
