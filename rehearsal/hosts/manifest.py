"""The manifest of changes: how rendered SQL is handed to the host layer.

Owns `manifest.json`, version 1, and the files beside it. Must not know hosts or databases: who applies the changes
checks every checksum before the first one runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rehearsal.errors import SqlFileError
from rehearsal.postgres.sqlfiles import checksum

VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*")
# Comments, strings, quoted names and dollar-quoted bodies: no statement begins in them.
OPAQUE = re.compile(
    r"--[^\n]*|/\*.*?\*/|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$", re.DOTALL
)
TRANSACTION_CONTROL = re.compile(r"(?:^|;)\s*(begin(?!\s+atomic)|start\s+transaction|commit|rollback(?!\s+to)|abort)\b")


@dataclass(frozen=True, slots=True)
class Change:
    """One unit of SQL; a transactional one commits together with its row in the registry.

    `transactional=False` is for CONCURRENTLY work, alone in its change.
    """

    name: str
    body: str
    transactional: bool = True

    @property
    def checksum(self) -> str:
        """SHA-256 of the body, in hexadecimal."""
        return checksum(self.body)


def find_transaction_control(body: str) -> str | None:
    """Return the first statement of a body that would begin or end a transaction.

    >>> find_transaction_control("select 1; -- commit;")
    >>> find_transaction_control("create table t (); COMMIT;")
    'commit'
    """
    found = TRANSACTION_CONTROL.search(OPAQUE.sub(" ", body).lower())
    return found[1] if found else None


def write_manifest(folder: Path, database: str, changes: Sequence[Change]) -> Path:
    """Write the changes, in order, and the manifest that lists them; return the manifest's path.

    Raises:
        SqlFileError: a name is used twice or cannot be a file's, or a transactional body ends its own transaction.
    """
    _check(changes)
    files = [_write_body(folder, change) for change in changes]
    listed = [
        {"name": change.name, "file": file, "checksum": change.checksum, "transactional": change.transactional}
        for change, file in zip(changes, files, strict=True)
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps({"version": VERSION, "database": database, "changes": listed}, indent=2) + "\n")
    return path


def _check(changes: Sequence[Change]) -> None:
    names = [change.name for change in changes]
    for change in changes:
        if not NAME.fullmatch(change.name) or ".." in PurePosixPath(change.name).parts:
            message = f"change {change.name!r} cannot be named so; use lower-case words, digits, '_' and '/'"
            raise SqlFileError(message)
        if names.count(change.name) > 1:
            message = f"change {change.name} is listed twice; give each change a name of its own"
            raise SqlFileError(message)
        if change.transactional and (word := find_transaction_control(change.body)):
            message = (
                f"change {change.name} has the statement {word!r}; each change is one transaction already, remove it"
            )
            raise SqlFileError(message)


def _write_body(folder: Path, change: Change) -> str:
    file = f"sql/{change.name}.sql"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    # Bytes: a checksum must not depend on how this system ends a line.
    path.write_bytes(change.body.encode())
    return file
