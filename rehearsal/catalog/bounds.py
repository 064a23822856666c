"""Bounds of partitions, and the names of leaves. Pure.

Ranges are contiguous. Instants are in UTC and written with an explicit offset, so that they never shift with a
session's time zone; every bound is text of the key's own type.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rehearsal.catalog.keytypes import EPOCH, INTEGERS, Epoch, KeyType, Value, fitting, time_type
from rehearsal.errors import PlanError, PreconditionError
from rehearsal.postgres.sqlfiles import Quoted, quote_literal

MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}
MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
# Planning time and locks grow with the number of leaves; nobody means so many.
MAX_LEAVES = 2_000

Limits = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """Length of a partition: a number of months, of days, or of values of an integer."""

    months: int = 0
    days: int = 0
    values: int = 0

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read a plan's interval.

        >>> Interval.parse("1 month"), Interval.parse("1000000").values
        (Interval(months=1, days=0, values=0), 1000000)

        Raises:
            PlanError: the text is no interval.
        """
        match = re.fullmatch(r"(\d+)(?: (day|week|month|year)s?)?", text)
        if not match or not int(match[1]):
            message = f"interval {text!r} is not one; write it as '1 month', '7 days', '1 year', or '1000000'"
            raise PlanError(message)
        count, unit = int(match[1]), match[2]
        if unit is None:
            return cls(values=count)
        if unit in MONTHS:
            return cls(months=count * MONTHS[unit])
        return cls(days=count * DAYS[unit])

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the period that holds the moment."""
        if self.months:
            index = (moment.year * 12 + moment.month - 1) // self.months * self.months
            return _month(max(index, 12))
        origin = MONDAY if self.days % 7 == 0 else EPOCH
        return origin + (moment - origin) // timedelta(days=self.days) * timedelta(days=self.days)

    def add(self, moment: datetime, periods: int = 1) -> datetime:
        """Return the start of the period `periods` later; `moment` is the start of a period."""
        if self.months:
            return _month(moment.year * 12 + moment.month - 1 + periods * self.months)
        return moment + periods * timedelta(days=self.days)

    def count(self, first: datetime, last: datetime) -> int:
        """Return about how many periods lie between two moments."""
        if self.months:
            return ((last.year - first.year) * 12 + last.month - first.month) // self.months + 1
        return (last - first) // timedelta(days=self.days) + 1

    def suffix(self, start: datetime) -> str:
        """Return the end of a leaf's name.

        >>> Interval.parse("1 month").suffix(datetime(2026, 2, 1, tzinfo=UTC))
        'y2026m02'
        """
        year = f"y{start.year:04d}"
        if self.days:
            return f"{year}m{start:%m}d{start:%d}"
        return year if self.months % 12 == 0 else f"{year}m{start:%m}"


def _month(index: int) -> datetime:
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bound:
    """One leaf to be: its name's end, and its range (None: no limit), its values or its share of the hashes."""

    suffix: str
    lower: str | None = None
    upper: str | None = None
    values: tuple[str, ...] = ()
    modulus: int = 0
    remainder: int = 0

    @property
    def limits(self) -> Limits:
        """What the catalog must say of the leaf, in comparable form."""
        if self.modulus:
            return str(self.modulus), str(self.remainder)
        return tuple(sorted(self.values)) if self.values else (self.lower, self.upper)

    @property
    def sql(self) -> Quoted:
        """The leaf's bound as it stands behind FOR VALUES."""
        if self.modulus:
            return Quoted(f"with (modulus {self.modulus}, remainder {self.remainder})")
        if self.values:
            return Quoted(f"in ({', '.join(quote_literal(value) for value in self.values)})")
        lower = "minvalue" if self.lower is None else quote_literal(self.lower)
        upper = "maxvalue" if self.upper is None else quote_literal(self.upper)
        return Quoted(f"from ({lower}) to ({upper})")


def make_bounds(
    interval: Interval,
    key_type: str,
    oldest: Value | None,
    newest: Value | None,
    *,
    now: datetime,
    premake: int,
    epoch: Epoch | None = None,
) -> tuple[Bound, ...]:
    """Return contiguous bounds from the oldest key's period to `premake` periods after the newest key or now.

    Keys that are numbers and not instants know no present: there it is `premake` periods after the newest key.

    Raises:
        PreconditionError: that would be more than 2,000 partitions, or a key is no instant.
    """
    if interval.values:
        ends = [key if isinstance(key, int) else 0 for key in (oldest, newest)]
        return tuple(_number_bounds(interval.values, key_type, ends[0], ends[1], premake))
    clock = time_type(key_type, epoch)
    begin = min(now, now if oldest is None else clock.instant(oldest))
    latest = max(now, now if newest is None else clock.instant(newest))
    _refuse_many(interval.count(begin, latest) + premake, _wider(begin, latest), oldest, newest)
    with _within_years(oldest, newest):
        last = interval.add(interval.floor(latest), premake)
        return tuple(_time_bounds(interval, clock, interval.floor(begin), last))


@contextmanager
def _within_years(oldest: object, newest: object) -> Generator[None]:
    try:
        yield
    except (ValueError, OverflowError) as exc:
        message = f"keys from {oldest} to {newest}: partitions would reach beyond the years 1 to 9999; correct the rows"
        raise PreconditionError(message) from exc


@dataclass(frozen=True, slots=True)
class Decided:
    """On what the leaves of a target were decided: the moment, and the ends of the keys that there were, in UTC.

    Kept in `rehearsal.migration.detail`, so that the calendar may move on between the target and a look at it.
    """

    at: datetime
    oldest: datetime | None = None
    newest: datetime | None = None

    def to_detail(self) -> dict[str, str | None]:
        """Return it as it is kept in the database."""
        moments = {"at": self.at, "oldest": self.oldest, "newest": self.newest}
        return {
            name: None if moment is None else moment.astimezone(UTC).isoformat() for name, moment in moments.items()
        }


def awaited_bounds(
    interval: Interval, clock: KeyType, then: Decided, now: Decided, *, premake: int
) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
    """Return the leaves that a target must have that was decided `then`, and those that it may have besides.

    It must reach `premake` periods beyond what there was then, take the newest key that there is now, and hold one
    period after that of `now`, which is the start of a run: not the moment of asking, which may lie in the next month.
    It may reach as far as it would if it were decided now, and one period further, since a run may see midnight pass.

    Raises:
        PreconditionError: the keys reach beyond the years 1 to 9999.
    """
    with _within_years(now.oldest, now.newest):
        begin = min(moment for moment in (then.at, then.oldest, now.oldest) if moment)
        ahead = max(moment for moment in (then.at, then.newest) if moment)
        last = max(interval.add(interval.floor(ahead), premake), interval.add(interval.floor(now.at)))
        last = max(last, interval.floor(now.newest)) if now.newest else last
        most = max(moment for moment in (ahead, now.at, now.newest) if moment)
        end = max(last, interval.add(interval.floor(most), premake + 1))
        must = tuple(_time_bounds(interval, clock, interval.floor(begin), last))
        return must, tuple(_time_bounds(interval, clock, interval.add(last), end))


def _time_bounds(interval: Interval, clock: KeyType, start: datetime, last: datetime) -> Iterator[Bound]:
    while start <= last:
        end = interval.add(start)
        lower, upper = clock.text(start), clock.text(end)
        if lower is not None or start < EPOCH:
            yield Bound(interval.suffix(start), lower, upper)
        start = end


def _number_bounds(width: int, key_type: str, oldest: int, newest: int, premake: int) -> Iterator[Bound]:
    first, last = oldest // width * width, newest // width * width + premake * width
    _refuse_many((last - first) // width + 1, _round_up(-(-(newest - oldest) // 1_000)), oldest, newest)
    for start in range(first, last + width, width):
        if start < INTEGERS[key_type]:
            suffix = f"from_{start}" if start >= 0 else f"from_minus_{-start}"
            yield Bound(suffix, fitting(start, key_type), fitting(start + width, key_type))


def _refuse_many(count: int, better: str, oldest: object, newest: object) -> None:
    if count > MAX_LEAVES:
        message = (
            f"keys from {oldest} to {newest} would make {count:,} partitions, and {MAX_LEAVES:,} are the most; "
            f'set interval = "{better}" or more, or look whether the outermost keys are garbage'
        )
        raise PreconditionError(message)


def _round_up(number: int) -> str:
    """Return the next number of the form 1, 2 or 5 times a power of ten.

    >>> _round_up(1_300)
    '2000'
    """
    power = 10 ** (len(str(max(1, number))) - 1)
    return str(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= number))


def _wider(first: datetime, last: datetime) -> str:
    """Return an interval that makes at most half as many partitions as are allowed."""
    days = (last - first).days // (MAX_LEAVES // 2) + 1
    if days < 28:
        return f"{days} days" if days > 1 else "2 days"
    months = -(-days // 28)
    return f"{months} months" if months < 12 else f"{-(-months // 12)} years"


def list_bounds(values: Mapping[str, Sequence[str]]) -> tuple[Bound, ...]:
    """Return one leaf for each named list of values, in the plan's order; the values are texts of the key's type."""
    return tuple(Bound(suffix, values=tuple(listed)) for suffix, listed in values.items())


def hash_bounds(modulus: int) -> tuple[Bound, ...]:
    """Return the leaves of a partitioning by hash.

    >>> [one.suffix for one in hash_bounds(3)]
    ['h0', 'h1', 'h2']
    """
    width = len(str(modulus - 1))
    return tuple(Bound(f"h{number:0{width}d}", modulus=modulus, remainder=number) for number in range(modulus))
