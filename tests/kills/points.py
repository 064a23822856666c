"""Where a life is: which step of the journey, and how many statements of it; shared with the driver, killed or not."""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import psycopg

from rehearsal.switchover import table as switchover
from rehearsal.switchover.strategies.attach.cutover import Attached
from rehearsal.switchover.strategies.attach.prepare import Attach
from rehearsal.switchover.strategies.attach.split import Regrain
from rehearsal.switchover.strategies.dual_write import Barrier
from rehearsal.switchover.table import Switchover

START = "start"
# What begins a step, and what the step is called.
STEPS: tuple[tuple[type | ModuleType, str, str], ...] = (
    (Switchover, "_capture_on", "capture on"),
    (Switchover, "_plan_copy", "plan copy"),
    (Switchover, "_copy", "copy"),
    (Switchover, "_settle", "settle"),
    (Switchover, "_indexes", "indexes"),
    (Switchover, "_drain", "drain"),
    (Switchover, "_statistics", "statistics"),
    (Switchover, "_swap", "swap"),
    (Switchover, "_swap_back", "swap back"),
    (Barrier, "raise_sync", "barrier"),
    (Barrier, "end_capture", "end of capture"),
    (switchover, "add_weak_keys", "weak keys"),
    (Switchover, "_finish_keys", "foreign keys"),
    (Switchover, "_lower_guard", "guard"),
    (Attach, "_build_parent", "parent"),
    (Attach, "_unique_indexes", "unique indexes"),
    (Attach, "_bound", "bound"),
    (Attach, "_validate", "validate"),
    (Attach, "_not_null", "not null"),
    (Attached, "cut_over", "cut-over"),
    (Attach, "_analyze", "parent statistics"),
    (Attached, "way_back", "way back"),
    (Regrain, "_make_twin", "fine twin"),
    (Regrain, "_exchange", "exchange"),
    (Regrain, "_finish", "split done"),
)
MOST_STEPS = 32
LAYOUT = struct.Struct(f"={1 + MOST_STEPS}i")


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
        """A step begins; one that is begun again later, such as a drain, belongs to the step that needs it."""
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
        self.memory[: LAYOUT.size] = LAYOUT.pack(rank, *counts, *[0] * (MOST_STEPS - len(counts)))


def follow(position: Position, before: Callable[[int, int, Any], Callable[[], None] | None]) -> None:
    """Keep the position up to date in this process; `before` is called with rank, number and cursor of a statement.

    What it returns, if anything, is called when the statement is done.
    """
    for owner, method, step in STEPS:
        setattr(owner, method, _entering(getattr(owner, method), position, step))
    plain = psycopg.Cursor.execute

    def execute(self: Any, *args: Any, **more: Any) -> Any:
        after = before(*position.count(), self)
        done = plain(self, *args, **more)
        if after:
            after()
        return done

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]


def _entering(method: Callable[..., Any], position: Position, step: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def entered(*args: Any, **more: Any) -> Any:
        position.enter(step)
        return method(*args, **more)

    return entered
