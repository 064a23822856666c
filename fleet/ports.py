"""Ports of the environment `local`: free ones, chosen once for each checkout and remembered beside what it makes.

Owns `<base>/ports.json`. Two checkouts rehearse side by side, since each begins to look at a place of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

# Below 32768, where systems take the ports of outgoing connections from: one of those, even just closed, bars a server.
FIRST, LAST, STEP = 20_000, 32_000, 16


class NoFreePorts(RuntimeError):
    """No run of ports is free; says what to do."""


def local_ports(base: Path, apps: int) -> tuple[int, int]:
    """Return the port of the database and of the first app server, of which there are `apps` in a row.

    They stay what they are while anything of ours may be running, and as long as nobody else listens there.

    Raises:
        NoFreePorts: there are not enough of them.
    """
    base.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (base / "ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = base / "ports.json"
        known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        if known.get("apps", 0) >= apps and (_is_up(base) or _are_free(known["database"], known["apps"] + 1)):
            return known["database"], known["database"] + 1
        chosen = next((port for port in _places(base) if _are_free(port, apps + 1)), None)
        if chosen is None:
            message = (
                f"no {apps + 1} ports in a row are free between {FIRST} and {LAST}; set REHEARSAL_LOCAL_DB_PORT and "
                "REHEARSAL_LOCAL_APP_PORT to ports that are"
            )
            raise NoFreePorts(message)
        file.write_text(json.dumps({"database": chosen, "apps": apps}) + "\n")
        return chosen, chosen + 1


def _places(base: Path) -> Iterator[int]:
    """Yield where to look, in an order of this folder's own."""
    places = range(FIRST, LAST, STEP)
    begin = int.from_bytes(hashlib.sha256(str(base).encode()).digest()[:4]) % len(places)
    return (places[(begin + number) % len(places)] for number in range(len(places)))


def _is_up(base: Path) -> bool:
    """Whether something of ours may be running below the folder: a server leaves its pid file until it has ended."""
    return any((base / name).exists() for name in ("cluster/data/postmaster.pid", "supervisor/supervisord.pid"))


def _are_free(first: int, count: int) -> bool:
    return all(_is_free(port) for port in range(first, first + count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
