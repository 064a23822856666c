"""What kills: our process, a backend of ours, the server.

fsync is off: SIGKILL of a process leaves what it wrote in the system's page cache, so nothing that was acknowledged can
vanish by it. full_page_writes stays on: SIGKILL may cut a write of a block in two.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from fleet.cluster import Cluster, ClusterError
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, connect
from tests.waiting import eventually

SETTINGS = {"fsync": "off", "full_page_writes": "on", "max_prepared_transactions": "10", "shared_buffers": "'64MB'"}
KINDS = (
    "engine before",  # SIGKILL of the engine, a statement not yet sent
    "engine after",  # SIGKILL of the engine, a statement done and not yet committed, or just so
    "engine inside",  # SIGKILL of the engine while the server works on its statement, or somewhere after it
    "backend ended",  # pg_terminate_backend
    "backend killed",  # SIGKILL of one backend: the server throws everybody out and recovers
    "server stopped",  # pg_ctl stop -m immediate
    "server killed",  # SIGKILL of the postmaster
)
LONGEST_INSIDE_S = 0.04
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Arms:
    """The server and how to bring it back."""

    cluster: Cluster
    server: Database
    chance: random.Random

    def strike(self, kind: str, child: int, backend: int) -> None:
        """Strike now, or at a random moment shortly after; a server that was brought down is up again on return."""
        if kind == "engine inside":
            time.sleep(self.chance.uniform(0, LONGEST_INSIDE_S))
            _kill(child)
        elif kind == "backend ended":
            with connect(self.server, role="killer") as conn:
                conn.execute("select pg_terminate_backend(%s)", [backend])
        elif kind == "backend killed":
            self._kill_backend(backend)
        elif kind == "server stopped":
            self.cluster.stop("immediate")
            self.start()
        elif kind == "server killed":
            postmaster = self._postmaster()
            _kill(postmaster)
            eventually(lambda: not _is_there(postmaster), PATIENCE_S, pause=0.005)
            self.start()

    def _kill_backend(self, backend: int) -> None:
        """Kill a backend, and wait until the server has noticed: until then it would let somebody in only to end it."""
        with contextlib.suppress(psycopg.OperationalError), connect(self.server, role="killer") as witness:
            if _kill(backend):
                witness.execute("select pg_sleep(%s)", [PATIENCE_S])

    def _postmaster(self) -> int:
        return int((self.cluster.data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start the server; backends of a killed one may keep its memory for a moment."""
        eventually(self._started, PATIENCE_S, not_yet=(ClusterError,), pause=0.05)

    def _started(self) -> bool:
        self.cluster.start()
        return True

    def open(self, database: Database) -> Connection:
        """Return a session, once the server lets somebody in."""
        early = (PreconditionError, psycopg.OperationalError)
        return eventually(lambda: connect(database, role="judge"), PATIENCE_S, not_yet=early)


def _kill(pid: int) -> bool:
    """Kill a process; return whether there was one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start_cluster(base: Path, major: int | None = None) -> tuple[Cluster, Database]:
    """Start a throwaway cluster."""
    base.chmod(0o711)
    cluster = Cluster(base)
    cluster.start(major=major, settings=SETTINGS)
    return cluster, Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())
