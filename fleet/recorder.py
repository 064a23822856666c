"""Record what pyinfra does: one JSON line per operation and host, written as it happens.

Owns the stream that `REHEARSAL_EVENTS` names. It exists since pyinfra's own `--json` is empty whenever a run aborts
and its exit code is 0 after Ctrl-C or a `--limit` that matches nothing. Must not record data of hosts: it holds
secrets.

Lines: `expected` (hosts of this run), `op` (an operation that ended), `report` (values that a task file read on
purpose), `host` (a host is done, all its operations).
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from pyinfra import host as current_host
from pyinfra import state as current_state
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback, State

VARIABLE = "REHEARSAL_EVENTS"
STDERR_CHARACTERS = 2_000


class Recorder(BaseStateCallback):
    """Callbacks that write lines; an operation's line is written once pyinfra knows whether it changed anything."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._started: dict[tuple[str, str], float] = {}
        self._ended: dict[str, list[tuple[str, float]]] = {}

    def put(self, **line: Any) -> None:
        """Write one line."""
        self._file.write(json.dumps(line) + "\n")

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:  # type: ignore[override]  # untyped
        """Remember when the operation began, and write the line of the one before it."""
        self._write_ended(state, host)
        self._started[host.name, op_hash] = time.monotonic()

    def operation_host_success(  # type: ignore[override]  # untyped
        self,
        state: State,  # noqa: ARG002 -- pyinfra's signature
        host: Host,
        op_hash: str,
        retry_count: int = 0,  # noqa: ARG002 -- pyinfra's signature
    ) -> None:
        """Remember that the operation ended; whether it changed anything is known only after this call."""
        self._end(host, op_hash)

    def operation_host_error(  # type: ignore[override]  # untyped
        self,
        state: State,  # noqa: ARG002 -- pyinfra's signature
        host: Host,
        op_hash: str,
        retry_count: int = 0,  # noqa: ARG002 -- pyinfra's signature
        max_retries: int = 0,  # noqa: ARG002 -- pyinfra's signature
    ) -> None:
        """Remember that the operation ended."""
        self._end(host, op_hash)

    def host_disconnect(self, state: State, host: Host) -> None:  # type: ignore[override]  # untyped
        """Write the host's own line; this is called after aborts too."""
        self._write_ended(state, host)
        planned = [_planned(state, host, op_hash) for op_hash in state.ops[host]]
        self.put(ev="host", host=host.name, failed=host in state.failed_hosts, ops=planned)

    def _end(self, host: Host, op_hash: str) -> None:
        seconds = time.monotonic() - self._started.pop((host.name, op_hash), time.monotonic())
        self._ended.setdefault(host.name, []).append((op_hash, seconds))

    def _write_ended(self, state: State, host: Host) -> None:
        for op_hash, seconds in self._ended.pop(host.name, []):
            data = state.ops[host].get(op_hash)
            if data is None:
                continue
            meta = data.operation_meta
            ok = bool(meta.is_complete() and (meta.did_succeed() or data.global_arguments["_ignore_errors"]))
            self.put(
                ev="op",
                host=host.name,
                op=_name(state, op_hash),
                ok=ok,
                changed=ok and meta.did_change(),
                seconds=round(seconds, 3),
                stderr="" if ok else meta.stderr[-STDERR_CHARACTERS:],
            )


def _name(state: State, op_hash: str) -> str:
    # Task files are included by deploy.py, and pyinfra puts their names before the operation's: "tasks/x.py | Name".
    return " / ".join(sorted(name.rpartition(" | ")[2] for name in state.get_op_meta(op_hash).names))


def _planned(state: State, host: Host, op_hash: str) -> dict[str, Any]:
    data = state.ops[host][op_hash]
    meta = data.operation_meta
    return {
        "op": _name(state, op_hash),
        "ran": meta.is_complete(),
        "would_change": bool(meta._maybe_is_change),  # noqa: SLF001 -- the only place where --dry leaves its answer
        "conditional": bool(data.global_arguments["_if"]),
    }


def _installed() -> Recorder | None:
    return next((handler for handler in current_state.callback_handlers if isinstance(handler, Recorder)), None)


def install() -> None:
    """Record this run if the caller asks for it; the first line of every deploy file."""
    path = os.environ.get(VARIABLE)
    if path and not _installed():
        recorder = Recorder(Path(path))
        current_state.add_callback_handler(recorder)  # type: ignore[no-untyped-call]  # pyinfra's
        wanted = current_state.limit_hosts if current_state.limit_hosts is not None else current_state.inventory
        recorder.put(ev="expected", hosts=sorted(host.name for host in wanted))


def report(**values: Any) -> None:
    """Hand values that were read from the current host to whoever started the run; never a secret."""
    if recorder := _installed():
        recorder.put(ev="report", host=current_host.name, values=values)


def no_delay() -> None:
    """Turn Nagle's algorithm off on an SSH connection: 10 ms a command instead of 64 (paramiko leaves it on)."""
    client = getattr(current_host.connector, "client", None)
    connection = client.get_transport().sock if client and client.get_transport() else None
    # Through a jump host it is a channel of the connection to that, and through a ProxyCommand a pipe.
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
