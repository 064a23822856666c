"""The types that a partition key may have, and all that differs from one to the next. Pure.

A type that is added is a class here and a line in `BY_NAME`. Whoever makes bounds, looks at the keys of a table or
draws new ones asks the class, and knows no type by its name. Instants are in UTC.
"""

from __future__ import annotations

import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Literal

from rehearsal.errors import PreconditionError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TIMES = frozenset({"timestamptz", "timestamp", "date"})
INTEGERS: Mapping[str, int] = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}

Epoch = Literal["s", "ms", "us"]
Value = datetime | date | int | uuid.UUID
Drawn = datetime | date | int | str


@dataclass(frozen=True, slots=True)
class KeyType(ABC):
    """How the keys of one type tell the time; `base` is PostgreSQL's name of the type, below all domains."""

    base: str
    says: ClassVar[str] = "tells the time"
    # SQL of a key's place among the others, a float8; {0} is the column.
    place: ClassVar[str] = "case when pg_catalog.isfinite({0}) then pg_catalog.date_part('epoch', {0}) end"
    # SQL that is true of a key that tells no time; empty where each of them does.
    misfit: ClassVar[str] = ""
    # Whether chance alone makes a key that no row has.
    makes_fresh: ClassVar[bool] = False

    @abstractmethod
    def instant(self, key: Value) -> datetime:
        """Return the instant that a key stands for.

        Raises:
            PreconditionError: it lies outside the years 1 to 9999.
        """

    @abstractmethod
    def text(self, moment: datetime) -> str | None:
        """Write an instant as text of the key's own type, the least key of that instant; None beyond the type."""

    @abstractmethod
    def read(self, text: str) -> Value:
        """Read a key from its text.

        Raises:
            ValueError: the text is no key of this type.
        """

    @abstractmethod
    def draw(self, moment: datetime, rng: random.Random) -> Drawn:
        """Return a new key of an instant as an application makes it, in a type that driver and JSON take."""

    def beside(self, key: Drawn, least: datetime) -> Drawn:
        """Return another key close by, none before `least`; the same one where none can be told."""
        del least
        return key

    def fits(self, key: Value) -> bool:
        """Return whether a key tells the time at all."""
        del key
        return True

    def fresh(self, rng: random.Random) -> Drawn:
        """Return a key that no row has, whatever its time.

        Raises:
            PreconditionError: chance alone cannot make one of this type.
        """
        del rng
        message = f"chance alone cannot make a key of type {self.base} that no row has"
        raise PreconditionError(message)


class Moment(KeyType):
    """timestamptz, and timestamp, which is taken as UTC."""

    __slots__ = ()
    step: ClassVar[timedelta] = timedelta(milliseconds=1)

    def instant(self, key: Value) -> datetime:
        """See KeyType."""
        if isinstance(key, date):
            return as_utc(key)
        message = f"key {key} is no {self.base}"
        raise PreconditionError(message)

    def text(self, moment: datetime) -> str | None:
        """See KeyType."""
        return key_text(moment, self.base)

    def read(self, text: str) -> Value:
        """See KeyType; a text without an offset is in UTC."""
        moment = datetime.fromisoformat(text)
        return as_utc(moment) if self.base == "timestamptz" else moment.replace(tzinfo=None)

    def draw(self, moment: datetime, rng: random.Random) -> Drawn:
        """See KeyType."""
        del rng
        return moment if self.base == "timestamptz" else moment.replace(tzinfo=None)

    def beside(self, key: Drawn, least: datetime) -> Drawn:
        """See KeyType."""
        if not isinstance(key, date):
            return key
        return key + self.step if as_utc(key) <= least else key - self.step


class Day(Moment):
    """A date, which begins at midnight UTC."""

    __slots__ = ()
    step: ClassVar[timedelta] = timedelta(days=1)

    def read(self, text: str) -> Value:
        """See KeyType."""
        return datetime.fromisoformat(text).date()

    def draw(self, moment: datetime, rng: random.Random) -> Drawn:
        """See KeyType."""
        del rng
        return moment.date()

    def beside(self, key: Drawn, least: datetime) -> Drawn:
        """See KeyType."""
        return super().beside(key, least.replace(hour=0, minute=0, second=0, microsecond=0))


@dataclass(frozen=True, slots=True)
class Count(KeyType):
    """An integer that counts seconds, milliseconds or microseconds since 1970."""

    unit: Epoch = "s"
    place: ClassVar[str] = "{0}::float8"

    def instant(self, key: Value) -> datetime:
        """See KeyType."""
        return since_1970(int(str(key)), self.unit)

    def text(self, moment: datetime) -> str | None:
        """See KeyType."""
        return fitting(self._count(moment), self.base)

    def read(self, text: str) -> Value:
        """See KeyType."""
        return int(text)

    def draw(self, moment: datetime, rng: random.Random) -> Drawn:
        """See KeyType."""
        del rng
        return self._count(moment)

    def beside(self, key: Drawn, least: datetime) -> Drawn:
        """See KeyType."""
        del least
        return key + 1 if isinstance(key, int) else key

    def _count(self, moment: datetime) -> int:
        return (moment - EPOCH) // MICROSECOND * PER_SECOND[self.unit] // 1_000_000


class Uuid(KeyType):
    """A uuid of version 7, whose first 48 bits count milliseconds since 1970 (RFC 9562, 5.7)."""

    __slots__ = ()
    says: ClassVar[str] = "is a uuid of version 7, which begins with the time"
    place: ClassVar[str] = (
        "('x' || pg_catalog.left(pg_catalog.replace({0}::text, '-', ''), 12))::bit(48)::bigint::float8"
    )
    makes_fresh: ClassVar[bool] = True
    misfit: ClassVar[str] = "pg_catalog.get_byte(pg_catalog.uuid_send({0}), 6) >> 4 <> 7"

    def instant(self, key: Value) -> datetime:
        """See KeyType."""
        return since_1970(uuid.UUID(str(key)).int >> 80, "ms")

    def text(self, moment: datetime) -> str | None:
        """See KeyType: the lowest of the millisecond, version and variant zero, since uuids are ordered as bytes."""
        millis = (moment - EPOCH) // timedelta(milliseconds=1)
        return str(uuid.UUID(int=millis << 80)) if 0 <= millis < 2**48 else None

    def read(self, text: str) -> Value:
        """See KeyType."""
        return uuid.UUID(text)

    def draw(self, moment: datetime, rng: random.Random) -> Drawn:
        """See KeyType."""
        millis = (moment - EPOCH) // timedelta(milliseconds=1)
        low = rng.getrandbits(80) & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
        return str(uuid.UUID(int=millis << 80 | low))

    def fits(self, key: Value) -> bool:
        """See KeyType."""
        return uuid.UUID(str(key)).int >> 76 & 0xF == 7

    def fresh(self, rng: random.Random) -> Drawn:
        """See KeyType; of version 4."""
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))


BY_NAME: Mapping[str, Callable[[str], KeyType]] = {
    "timestamptz": Moment,
    "timestamp": Moment,
    "date": Day,
    "uuid": Uuid,
}
RANGES = (*BY_NAME, *INTEGERS)
"""Names of the types that ranges can be made over."""


def find_type(base: str, epoch: Epoch | None = None) -> KeyType | None:
    """Return how keys of a type tell the time; None where they do not.

    >>> find_type("int8"), find_type("int8", "ms").text(datetime(1970, 1, 2, tzinfo=UTC))
    (None, '86400000')
    """
    if base in INTEGERS:
        return Count(base, epoch) if epoch else None
    make = BY_NAME.get(base)
    return make(base) if make else None


def time_type(base: str, epoch: Epoch | None = None) -> KeyType:
    """Return how keys of a type tell the time.

    Raises:
        PreconditionError: they do not.
    """
    found = find_type(base, epoch)
    if found is None:
        message = f"keys of type {base} tell no time"
        raise PreconditionError(message)
    return found


def place_of(base: str) -> str:
    """Return SQL of the place of a key that a range is made over, a float8; {0} is the column."""
    found = find_type(base)
    return found.place if found else Count.place


def since_1970(count: int, unit: Epoch) -> datetime:
    """Return the instant so many units after 1970 began.

    Raises:
        PreconditionError: it lies outside the years 1 to 9999.
    """
    try:
        return EPOCH + count * (1_000_000 // PER_SECOND[unit]) * MICROSECOND
    except OverflowError as exc:
        message = f"key {count} is no instant when it is read as {unit} since 1970; correct the row or the plan's epoch"
        raise PreconditionError(message) from exc


def fitting(number: int, base: str) -> str | None:
    """Return a number as text; None where the type cannot hold it, so that the bound is MINVALUE or MAXVALUE."""
    most = INTEGERS[base]
    return str(number) if -most <= number < most else None


def as_utc(moment: datetime | date) -> datetime:
    """Return a key as an instant; one without a zone is taken as UTC."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def key_text(moment: datetime, base: str) -> str:
    """Write an instant as text of the key's own type.

    >>> key_text(datetime(2026, 2, 1, tzinfo=UTC), "date")
    '2026-02-01'
    """
    day = f"{moment.year:04d}-{moment:%m-%d}"
    if base == "date":
        return day
    return f"{day} {moment:%H:%M:%S}" + ("+00" if base == "timestamptz" else "")
