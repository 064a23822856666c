"""What the database server logs while a phase is at work: lines that nobody may see in the days after a switchover.

Owns which lines those are. The file is `db_log` of the inventory, read here on local and by pyinfra elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rehearsal.hosts.pyinfra import try_pyinfra
from rehearsal.rehearse.context import Context

# For Python and for `grep -E`. An error of a statement is judged where its client was told it; these tell of the
# server: that it went down, a session that it ended, pages, files, disks and catalogs that are not what they must be.
CRITICAL = (
    "(PANIC|FATAL):|was terminated by signal|was terminated by exception|invalid page|page verification failed|"
    "could not (read|write|open|extend|fsync|access|rename|create) |No space left|out of memory|cache lookup failed|"
    "missing chunk number|unexpected (chunk|data|zero page)|is corrupt|out of shared memory"
)
# Lines that are none of it, each with its reason.
ALLOWED = {
    # A server of the app that is started anew breaks its sessions off; whether writes were lost, the ledger says.
    "FATAL:  connection to client lost": "the client went away",
    "FATAL:  terminating connection due to administrator command": "somebody ended a session on purpose",
}


def log_size(context: Context) -> int | None:
    """Return how long the log is just now; None where it cannot be read, or the inventory does not name it."""
    return _look(context, None)[0]


def critical_lines(context: Context, since: int | None) -> list[str] | None:
    """Return the critical lines beyond a place in the log; None where it cannot be read."""
    if since is None:
        return None
    size, lines = _look(context, since)
    return None if size is None else [line for line in lines if not any(text in line for text in ALLOWED)]


def _look(context: Context, since: int | None) -> tuple[int | None, list[str]]:
    path = context.env.settings.get("db_log")
    if not path:
        return None, []
    if context.env.kind == "local":
        return read_lines(Path(path), since)
    data = {"log_pattern": CRITICAL, **({} if since is None else {"log_since": since})}
    reports = try_pyinfra(context.env.inventory, "db-log", plan=context.plan, data=data).reports
    found: dict[str, Any] = next(iter(reports.values()), dict[str, Any]())
    return found.get("size"), found.get("errors", [])


def read_lines(path: Path, since: int | None) -> tuple[int | None, list[str]]:
    """Return size and critical lines of a log of this machine; one that shrank was rotated: all of it is read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(since if since is not None and since <= size else 0)
            text = b"" if since is None else file.read()
    except OSError:
        return None, []
    lines = text.decode("utf-8", errors="replace").splitlines()
    return size, [line for line in lines if re.search(CRITICAL, line)]


def record_db_log(context: Context, gate: str, since: int | None) -> None:
    """Record for a gate what the server logged since; unseen is unseen, but for inventories that name no log."""
    if not context.env.settings.get("db_log"):
        context.run.note("the log of the database is not read: the inventory does not name it as `db_log`")
        return
    lines = critical_lines(context, since)
    seen = "the log cannot be read"
    if lines is not None:
        seen = f"{len(lines)} critical lines" + (f": {lines[0][:200]}" if lines else "")
    context.run.record(gate, "log of the database", None if lines is None else not lines, seen)
