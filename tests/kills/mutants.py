"""Defects of an engine that is not safe to kill; the driver must find each."""

from __future__ import annotations

from collections.abc import Callable

from rehearsal import state
from rehearsal.copying import Copier
from rehearsal.postgres import Connection, connect


def ledger_first() -> None:
    """A chunk is written off in a transaction before that of its rows."""
    plain = Copier._chunk

    def chunk(self: Copier, conn: Connection, skip: str) -> int | None:
        with connect(self.database) as own:
            own.execute(
                "update rehearsal.chunk set done_at = now(), rows = 0 where migration = %s and done_at is null "
                "and number = (select min(number) + 1 from rehearsal.chunk where done_at is null)",
                [self.migration],
            )
        return plain(self, conn, skip)

    Copier._chunk = chunk  # type: ignore[method-assign]


def state_apart() -> None:
    """The state `swapped` is not written with the swap."""
    plain = state.set_state

    def set_state(conn: Connection, migration: int, wanted: str, **detail: object) -> None:
        if wanted == state.SWAPPED:
            conn.execute("update rehearsal.migration set detail = detail || '{}' where id = %s", [migration])
            return
        plain(conn, migration, wanted, **detail)

    state.set_state = set_state


MUTANTS: dict[str, Callable[[], None]] = {"ledger-first": ledger_first, "state-apart": state_apart}
