"""When operations arrive, and with which keys: pure functions of the seed.

Arrivals are Poisson and do not wait for anything: that is what makes the load open-loop.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from rehearsal.catalog.keytypes import Drawn
from rehearsal.load.config import KeyRange
from rehearsal.plan.model import Operation

Key = Drawn
_NOW_SHARE = 0.5


def arrivals(operation: Operation, rng: random.Random, rate: float = 1.0) -> Iterator[float]:
    """Yield the seconds after the start at which the operation arrives, for ever."""
    at = 0.0
    while True:
        at += rng.expovariate(operation.rate * rate)
        yield at


def merged(operations: Sequence[Operation], seed: str, rate: float = 1.0) -> Iterator[tuple[float, int]]:
    """Yield (seconds after the start, number of the operation) in order of time."""

    def numbered(number: int) -> Iterator[tuple[float, int]]:
        name = operations[number].name
        rng = random.Random(f"{seed}:{name}")  # noqa: S311 -- a schedule, not a secret
        return ((at, number) for at in arrivals(operations[number], rng, rate))

    return heapq.merge(*(numbered(number) for number in range(len(operations))))


def edges(lower: datetime, upper: datetime) -> list[datetime]:
    """Return the instants where partitioning goes wrong first: month starts, the last moments before, middles.

    >>> [str(moment)[:19] for moment in edges(datetime(2026, 1, 20, tzinfo=UTC), datetime(2026, 2, 10, tzinfo=UTC))]
    ['2026-01-31 23:59:59', '2026-02-01 00:00:00']
    """
    found: list[datetime] = []
    month = lower.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= upper:
        found += [month - timedelta(milliseconds=1), month, month + timedelta(days=14, hours=12)]
        month = (month + timedelta(days=32)).replace(day=1)
    return [moment for moment in found if lower <= moment <= upper]


class KeyChooser:
    """Draws keys of one table: half of them now, as an application writes, half at the edges of months.

    Keys that tell no time are drawn evenly from those that have a place.
    """

    def __init__(self, wanted: KeyRange, rng: random.Random) -> None:
        self._wanted = wanted
        self._rng = rng
        self._edges = edges(_aware(wanted.lower), _aware(wanted.upper) if wanted.upper else datetime.now(UTC))

    def draw(self, *, other_than: Key | None = None) -> Key:
        """Return a key, in the type of the column; never `other_than` if there is any other."""
        for _ in range(20):
            key = self._any_key()
            if key != other_than:
                return key
        if other_than is None or self._wanted.how != "time":
            return self._any_key() if other_than is None else other_than
        return self._wanted.type.beside(other_than, _aware(self._wanted.lower))

    def _any_key(self) -> Key:
        wanted = self._wanted
        if wanted.how == "number":
            return self._rng.randint(*wanted.numbers)
        if wanted.how == "choice":
            return self._rng.choice(wanted.choices)
        if wanted.how == "fresh":
            return wanted.type.fresh(self._rng)
        return wanted.type.draw(self._instant(), self._rng)

    def _instant(self) -> datetime:
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        within = self._wanted.upper is None or now <= _aware(self._wanted.upper)
        recent = not self._edges or (within and self._rng.random() < _NOW_SHARE)
        if not recent:
            return self._rng.choice(self._edges)
        return now if within else _aware(self._wanted.lower)


def _aware(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
