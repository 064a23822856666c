"""What the application logs on its servers while a phase is at work.

Owns how a log is read: here on local, by pyinfra elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehearsal.application.smoke import scan_log
from rehearsal.hosts.pyinfra import try_pyinfra
from rehearsal.rehearse.context import Context


def record_log_errors(context: Context, sizes: dict[str, int], gate: str, what: str = "") -> None:
    """Record for a gate what each server logged since its log had these sizes; `what` stands before its name."""
    for server, lines in log_errors(context, sizes).items():
        seen = "the log cannot be read, or the inventory does not name it"
        if lines is not None:
            seen = f"{len(lines)} error lines" + (f": {lines[0][:200]}" if lines else "")
        context.run.record(gate, f"{what}{server}", None if lines is None else not lines, seen)


def log_sizes(context: Context) -> dict[str, int]:
    """Return how long each server's log is just now; a log that cannot be read is left out."""
    servers = [server for server in context.env.app_servers if server.log]
    if context.env.kind == "local":
        paths = {server.name: Path(server.log or "") for server in servers}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
    if not servers:
        return {}
    reports = try_pyinfra(context.env.inventory, "app-log", plan=context.plan).reports
    return {name: report["size"] for name, report in reports.items() if report["size"] is not None}


def _scan(log: str | None, size: int) -> list[str] | None:
    try:
        return scan_log(Path(log), size) if log else None
    except OSError:
        return None  # said by whoever records it


def log_errors(context: Context, sizes: dict[str, int]) -> dict[str, list[str] | None]:
    """Return the error lines of each server's log beyond its size before; None where it cannot be read."""
    servers = {server.name: server.log for server in context.env.app_servers}
    if context.env.kind == "local":
        return {name: _scan(log, sizes.get(name, 0)) for name, log in servers.items()}
    reports: dict[str, Any] = {}
    if sizes:
        data = {"log_sizes": sizes}
        reports = try_pyinfra(context.env.inventory, "app-log", plan=context.plan, data=data).reports
    seen = {name: report["errors"] for name, report in reports.items() if report["size"] is not None and name in sizes}
    return {name: seen.get(name) for name in servers}
