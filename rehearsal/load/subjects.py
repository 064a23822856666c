"""The rows that the load works on: one writer a subject at a time.

Owns who may be written next. A subject whose last write is not certain is never written again: its state could not
be told any more. Pure: must not know databases or files.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rehearsal.load.arrivals import Key
from rehearsal.load.config import KeyRange
from rehearsal.load.ledger import Ledger, allowed_states


@dataclass(slots=True)
class Subject:
    """One row: its number in the run, the id that the database gave it, and its newest version and key."""

    number: int
    table: str
    key: Key
    id: int | str | None = None
    version: int = 0


class Subjects:
    """The subjects that are known to be there and free, by table."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._free: dict[str, list[Subject]] = {}

    def new(self, table: str, key: Key) -> Subject:
        """Return a subject for an insert."""
        self._next += 1
        return Subject(self._next, table, key)

    def take(self, table: str, rng: random.Random) -> Subject | None:
        """Take a free subject at random, or None if there is none."""
        free = self._free.get(table)
        if not free:
            return None
        chosen = rng.randrange(len(free))
        free[chosen], free[-1] = free[-1], free[chosen]
        return free.pop()

    def peek(self, table: str, rng: random.Random) -> Subject | None:
        """Return a free subject without taking it, for a read."""
        free = self._free.get(table)
        return rng.choice(free) if free else None

    def give_back(self, subject: Subject) -> None:
        """Make a subject free; only for one whose state is certain, and which is there."""
        if subject.id is not None:
            self._free.setdefault(subject.table, []).append(subject)

    def adopt(self, ledger: Ledger, ranges: Mapping[str, KeyRange]) -> int:
        """Take over what earlier generators of the run left in a certain state; return how many."""
        adopted = 0
        for subject in _left_behind(ledger, ranges):
            self.give_back(subject)
            adopted += 1
        return adopted


def _left_behind(ledger: Ledger, ranges: Mapping[str, KeyRange]) -> Iterable[Subject]:
    certain = ledger.certain()
    for number, writes in ledger.by_subject().items():
        first, last = writes[0], writes[-1]
        state = allowed_states(writes, certain).states
        known = all(write.outcome in ("ok", "failed") and not write.missing for write in writes)
        if known and len(state) == 1 and state[0] and first.id is not None and first.table in ranges:
            key = ranges[first.table].read(state[0].key)
            yield Subject(number, first.table, key, first.id, last.version)
