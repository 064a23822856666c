"""Range bounds of partitions, and the names of leaves. Pure.

Bounds are contiguous, in UTC and written with an explicit offset, so that they never shift with a session's time
zone (research: partitioning.md, traps 34 and 35).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from rehearsal.errors import PlanError

MONTHS = {"month": 1, "year": 12}
DAYS = {"day": 1, "week": 7}
MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """Length of a partition: a number of months or of days."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read a plan's interval.

        >>> Interval.parse("1 month")
        Interval(months=1, days=0)

        Raises:
            PlanError: the text is no interval.
        """
        match = re.fullmatch(r"(\d+) (day|week|month|year)s?", text)
        if not match or not int(match[1]):
            message = f"interval {text!r} is not one; write it as '1 month', '7 days', '1 year'"
            raise PlanError(message)
        count, unit = int(match[1]), match[2]
        if unit in MONTHS:
            return cls(months=count * MONTHS[unit])
        return cls(days=count * DAYS[unit])

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the period that holds the moment."""
        if self.months:
            index = (moment.year * 12 + moment.month - 1) // self.months * self.months
            return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
        origin = MONDAY if self.days % 7 == 0 else EPOCH
        return origin + (moment - origin) // timedelta(days=self.days) * timedelta(days=self.days)

    def add(self, moment: datetime, periods: int = 1) -> datetime:
        """Return the start of the period `periods` later; `moment` is the start of a period."""
        if self.months:
            index = moment.year * 12 + moment.month - 1 + periods * self.months
            return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
        return moment + periods * timedelta(days=self.days)

    def suffix(self, start: datetime) -> str:
        """Return the end of a leaf's name.

        >>> Interval.parse("1 month").suffix(datetime(2026, 2, 1, tzinfo=UTC))
        'y2026m02'
        """
        if self.days:
            return f"y{start:%Y}m{start:%m}d{start:%d}"
        return f"y{start:%Y}" if self.months % 12 == 0 else f"y{start:%Y}m{start:%m}"


@dataclass(frozen=True, slots=True)
class Bound:
    """One leaf to be: its name's end and its bounds as SQL literals' text, lower inclusive, upper exclusive."""

    suffix: str
    lower: str
    upper: str


def make_bounds(
    interval: Interval,
    key_type: str,
    oldest: datetime | date | None,
    newest: datetime | date | None,
    *,
    now: datetime,
    premake: int,
) -> tuple[Bound, ...]:
    """Return contiguous bounds from the oldest key's period to `premake` periods after the newest key or now."""
    first = interval.floor(as_utc(oldest) if oldest else now)
    last = interval.add(interval.floor(max(as_utc(newest) if newest else now, now)), premake)
    bounds: list[Bound] = []
    start = min(first, interval.floor(now))
    while start <= last:
        end = interval.add(start)
        bounds.append(Bound(interval.suffix(start), key_text(start, key_type), key_text(end, key_type)))
        start = end
    return tuple(bounds)


def as_utc(moment: datetime | date) -> datetime:
    """Return a key as an instant; one without a zone is taken as UTC."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def key_text(moment: datetime, key_type: str) -> str:
    """Write an instant as text of the key's own type.

    >>> key_text(datetime(2026, 2, 1, tzinfo=UTC), "date")
    '2026-02-01'
    """
    if key_type == "date":
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M:%S}" + ("+00" if key_type == "timestamptz" else "")
