"""Where a life is: which step of the journey, and how many statements of it; shared with the driver, killed or not."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from rehearsal.switchover.work import TableWork

START = "start"
MAX_STEPS = 32
LAYOUT = struct.Struct(f"={1 + MAX_STEPS}i")


@dataclass
class Position:
    """Rank of the step that a life is in, and statements of each step; lives in shared memory."""

    order: tuple[str, ...]
    memory: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, LAYOUT.size))

    def read(self) -> tuple[int, list[int]]:
        """Return the rank and the statements so far by rank."""
        rank, *counts = LAYOUT.unpack(self.memory[: LAYOUT.size])
        return rank, counts[: len(self.order)]

    @property
    def step(self) -> str:
        """Name of the step."""
        return self.order[self.read()[0]]

    def enter(self, step: str) -> None:
        """A step begins; one that is begun again later, such as a replay, belongs to the step that needs it."""
        if step in self.order:
            rank, counts = self.read()
            self._write(max(rank, self.order.index(step)), counts)

    def count(self) -> tuple[int, int]:
        """Count a statement; return the rank and its number within the step."""
        rank, counts = self.read()
        counts[rank] += 1
        self._write(rank, counts)
        return rank, counts[rank]

    def _write(self, rank: int, counts: list[int]) -> None:
        self.memory[: LAYOUT.size] = LAYOUT.pack(rank, *counts, *[0] * (MAX_STEPS - len(counts)))


def follow(position: Position, before: Callable[[int, int, Any], Callable[[], None] | None]) -> None:
    """Keep the position up to date in this process; `before` is called with rank, number and cursor of a statement.

    What it returns, if anything, is called when the statement is done.
    """

    def begin(_: TableWork, step: str) -> None:
        position.enter(step)

    TableWork.begin = begin  # type: ignore[method-assign, assignment]
    plain = psycopg.Cursor.execute

    def execute(self: Any, *args: Any, **more: Any) -> Any:
        after = before(*position.count(), self)
        done = plain(self, *args, **more)
        if after:
            after()
        return done

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]
