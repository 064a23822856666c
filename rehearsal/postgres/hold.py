"""How long a lock may be held, all statements under it together.

`statement_timeout` begins anew with each statement, and `transaction_timeout` (from 17 on) ends the session. So whoever
waits for us is protected by a clock on our side, which cancels what runs; `statement_timeout` stays as the server's
own limit, should this process stand still.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from dataclasses import dataclass

import psycopg

from rehearsal.postgres.connection import Connection

# A cancel that comes between two statements is lost: it is said again until somebody hears it.
AGAIN_S = 0.05
CANCEL_S = 1


@dataclass
class Hold:
    """Whether the limit was passed, so that its cancel is told from anybody else's."""

    passed: bool = False


@contextlib.contextmanager
def held_at_most(conn: Connection, hold_ms: int) -> Generator[Hold]:
    """Cancel what the session runs within this block once `hold_ms` have passed; it raises QueryCanceled there.

    No cancel is sent after the block has ended, so the commit that follows is not meant by one.
    """
    hold, ended = Hold(), threading.Event()

    def watch() -> None:
        wait_s = hold_ms / 1e3
        while not ended.wait(wait_s):
            hold.passed, wait_s = True, AGAIN_S
            # Where the server cannot be reached the statement ends by itself, and says so.
            with contextlib.suppress(psycopg.Error):
                conn.cancel_safe(timeout=CANCEL_S)

    clock = threading.Thread(target=watch, name="hold limit", daemon=True)
    clock.start()
    try:
        yield hold
    finally:
        ended.set()
        clock.join()
