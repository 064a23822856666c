"""When a worker may go on: the seam between those who work (copy, indexes) and what decides ((throttle, pause))."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rehearsal.postgres.connection import Connection


class Turns(Protocol):
    """Hands out turns; a turn is one chunk or one index."""

    @property
    def shared(self) -> bool:
        """Whether somebody else is at work on the server, for whom a turn should be short."""
        ...

    def turn(self, conn: Connection, stop: threading.Event) -> AbstractContextManager[bool]:
        """Wait until the worker may go on, and hold its permit for the block; false when it was told to stop.

        Raises:
            StepFailed: a limit was passed; nothing more may be done.
        """
        ...


class _Free:
    shared = False

    @contextmanager
    def turn(self, conn: Connection, stop: threading.Event) -> Generator[bool]:
        yield not (conn.closed or stop.is_set())


FREE: Turns = _Free()
"""Everybody may always go on."""
