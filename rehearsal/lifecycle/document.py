"""A retention that was decided and not done: kept as JSON, and done later only if it would be decided again.

Owns the file that `lifecycle.retain --save` writes and `--apply` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rehearsal.errors import PreconditionError, UsageError
from rehearsal.lifecycle.reading import LeafAct
from rehearsal.postgres.connection import Connection

VERSION = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """Acts by table, and the database for which they were decided."""

    version: int
    database: str
    system_identifier: int
    decided_at: str
    acts: Mapping[str, Sequence[LeafAct]]

    def to_json(self) -> str:
        """Return it as it is kept."""
        return json.dumps(asdict(self), indent=2) + "\n"


def decision_of(conn: Connection, acts: Mapping[str, Sequence[LeafAct]]) -> Decision:
    """Return what was decided, with the place for which it was."""
    query = """
        select pg_catalog.current_database(), (select system_identifier from pg_catalog.pg_control_system()),
               rehearsal.lifecycle_now()::text
    """
    (database, system, at) = conn.execute(query).fetchone() or ("", 0, "")
    return Decision(VERSION, database, system, at, acts)


def read_decision(path: Path) -> Decision:
    """Read a decision from its file.

    Raises:
        UsageError: there is no such file, or it is no decision of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        message = f"--apply {path}: cannot be read: {exc}"
        raise UsageError(message) from exc
    try:
        found: Decision = TypeAdapter(Decision).validate_json(text)
    except ValidationError as exc:
        message = f"--apply {path}: is no decision that lifecycle.retain --save wrote: {exc.errors()[0]['msg']}"
        raise UsageError(message) from exc
    if found.version != VERSION:
        message = f"--apply {path}: is of version {found.version}, this is {VERSION}; save it again"
        raise UsageError(message)
    return found


def require_same(saved: Decision, now: Decision) -> None:
    """Refuse a decision that would not be the same now.

    Raises:
        PreconditionError: it is of another database, or the catalog has changed since; names the first difference.
    """
    if (saved.database, saved.system_identifier) != (now.database, now.system_identifier):
        message = (
            f"it was decided for database {saved.database} of cluster {saved.system_identifier}, and this is "
            f"{now.database} of {now.system_identifier}; save it there"
        )
        raise PreconditionError(message)
    for table in sorted({*saved.acts, *now.acts}):
        then, today = list(saved.acts.get(table, ())), list(now.acts.get(table, ()))
        if then != today:
            gone = [act.leaf for act in then if act not in today]
            new = [act.leaf for act in today if act not in then]
            message = (
                f"table {table} has changed since {saved.decided_at}: no more to do: {', '.join(gone) or 'nothing'}; "
                f"new: {', '.join(new) or 'nothing'}. Save it again, and look at it"
            )
            raise PreconditionError(message)
