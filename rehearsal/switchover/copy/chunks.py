"""How large a chunk of the copy may be: by rows, by bytes, and by the time that the last ones took.

Owns the sizes; knows neither databases nor sessions. A chunk is the unit of a transaction: what it writes is what a
standby replays at once, what a kill repeats, and how long its snapshot is held.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from rehearsal.plan.model import Copy

BLOCK = 8_192
# One quick or slow chunk says little: the estimate moves a third of the way.
WEIGHT = 0.3
MAX_GROWTH = 2.0
# What failed is not tried again at once: each chunk that passes raises the ceiling by so much.
RECOVERY = 1.05
# A short chunk takes so many times what its ledger and its commit take: a quarter of the time goes into those.
WORTH = 3.0
# Blocks of a short chunk at least, and of the first one: fewer would do little but begin and end.
SHORTEST = 16.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a chunk may be; see `[copy]` in the plan."""

    rows: int = 50_000
    bytes: int = 16 << 20
    seconds: float = 1.0
    timeout_s: float = 30.0
    attempts: int = 12

    @classmethod
    def of(cls, copying: Copy) -> Limits:
        """Return the limits of a plan."""
        return cls(
            copying.chunk_rows,
            copying.chunk_mb << 20,
            copying.chunk_s,
            copying.chunk_timeout_s,
            copying.chunk_attempts,
        )

    def most_blocks(self, rows: float, blocks: int, bytes_: int = 0) -> int:
        """Return how many blocks a chunk has at most, in a table of so many rows, blocks and bytes with TOAST.

        >>> Limits(rows=1000, bytes=80 * 8192).most_blocks(rows=50_000, blocks=1_000)
        20
        >>> Limits(rows=1000, bytes=80 * 8192).most_blocks(rows=1_000, blocks=1_000)
        80
        >>> Limits(rows=1000, bytes=80 * 8192).most_blocks(rows=1_000, blocks=1_000, bytes_=8_192_000 * 8)
        10
        """
        per_block = max(1.0, rows / blocks) if blocks and rows > 0 else 50.0
        wide = max(BLOCK, bytes_ / blocks) if blocks else BLOCK
        return max(1, min(round(self.rows / per_block), int(self.bytes / wide)))


class ChunkSize:
    """Blocks of the next chunk, of all workers together; never more than `most`.

    A short chunk is one that others must not feel: what they commit waits until the WAL of our chunk is on the disk as
    well. It is as small as can be while most of the time still goes into copying.

    >>> size = ChunkSize(most=100, seconds=1.0)
    >>> size.blocks()
    100
    >>> size.took(100, 4.0); size.blocks()
    25
    >>> size.took(25, 0.25); size.blocks()
    32
    >>> size.blocks(short=True)
    16
    >>> size.took(16, 0.02, around=0.3); size.blocks(short=True)
    32
    >>> size.failed(); size.blocks()
    16
    >>> size.took(16, 0.01); size.blocks()
    16
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._last = self._ceiling = float(most)
        self._grown = float(most)
        self._per_block: float | None = None
        self._around: float | None = None
        self._lock = threading.Lock()

    @property
    def last(self) -> int:
        """How many blocks the last chunk might have."""
        return max(1, int(self._last))

    def blocks(self, *, short: bool = False) -> int:
        """Return how many blocks the next chunk may have."""
        with self._lock:
            self._last = max(1.0, min(self._ceiling, self._grown, self._wanted(short=short)))
            return int(self._last)

    def _wanted(self, *, short: bool) -> float:
        if not self._per_block:
            return SHORTEST if short else self.most
        wanted = self.seconds / self._per_block
        return min(wanted, max(SHORTEST, WORTH * (self._around or 0) / self._per_block)) if short else wanted

    def took(self, blocks: int, seconds: float, around: float | None = None) -> None:
        """Learn from a chunk that was copied: seconds for its rows, and `around` them for ledger and commit."""
        with self._lock:
            self._per_block = _moved(self._per_block, seconds / max(1, blocks))
            if around is not None:
                self._around = _moved(self._around, around)
            self._ceiling = min(self.most, self._ceiling * RECOVERY)
            self._grown = self._last * MAX_GROWTH

    def failed(self) -> None:
        """Learn from a chunk that timed out or failed: the next one is half as large."""
        with self._lock:
            self._ceiling = self._grown = max(1.0, self._last / 2)


def _moved(known: float | None, seen: float) -> float:
    return seen if known is None else known + WEIGHT * (seen - known)
