"""Advice for a table: by which key, how wide, with which strategy, and what it will cost. Pure.

Owns the rules; every recommendation comes with the facts that it rests on, and with what it cannot know.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from rehearsal.advisor.facts import Candidate, TableFacts
from rehearsal.catalog.bounds import Interval
from rehearsal.catalog.keytypes import EPOCH, INTEGERS, PER_SECOND, TIMES, Epoch, KeyType, as_utc, find_type, time_type
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import TableSpec
from rehearsal.plan.strategies import StrategyName

# Ratios to the copy of one session, from docs/benchmarks.md: copy, one index, vacuum and analyze.
SESSIONS = 1.6
INDEX_PER_COPY = 0.45
STATISTICS_PER_COPY = 1.7
# What the target and its indexes take, and as much WAL again.
ROOM = 2.0
WIDTHS = ("1 day", "1 week", "1 month", "3 months", "1 year")
MAX_LEAVES, MIN_ROWS = 120, 1_000_000
FEW_VALUES = 24
HUGE_BYTES = 500 * 2**30
GOOD_NAMES = ("created", "occurred", "recorded", "inserted", "logged", "event", "time", "at", "ts", "date", "day")


@dataclass(frozen=True, slots=True)
class Choice:
    """A key with the rest of the plan's table, why it, and how good it is; the best has the most points."""

    spec: TableSpec
    candidate: Candidate
    points: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with a table: choices, the best first; `seconds` and `room` are estimates, None without a sample."""

    facts: TableFacts
    choices: tuple[Choice, ...]
    strategy: StrategyName
    why: tuple[str, ...]
    seconds: dict[str, float] | None
    room: int

    @property
    def best(self) -> Choice:
        """The recommended key."""
        return self.choices[0]


def advise(facts: TableFacts, now: datetime) -> Advice:
    """Return advice for a table.

    Raises:
        PreconditionError: no column can be the key of any method.
    """
    found = [choice for candidate in facts.candidates for choice in _choices(facts, candidate, now)]
    if not found:
        message = f"no column of {'.'.join(facts.table.name)} can be a partition key; add one that tells the time"
        raise PreconditionError(message)
    choices = tuple(sorted(found, key=lambda choice: -choice.points))
    strategy, why = _strategy(facts, choices[0])
    room = round(ROOM * (facts.bytes + facts.index_bytes))
    return Advice(facts, choices, strategy, why, _seconds(facts), room)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _choices(facts: TableFacts, candidate: Candidate, now: datetime) -> list[Choice]:
    points, reasons = _points(candidate)
    name = ".".join(facts.table.name)
    if candidate.null_fraction:
        return []
    if clock := clock_of(candidate):
        interval, said = _width(facts, candidate, clock, now)
        spec = TableSpec(name=name, key=candidate.name, interval=interval)
        worth = points + (40 if candidate.key.base in TIMES else 30)
        return [Choice(spec, candidate, worth, (clock.says, *said, *reasons))]
    if candidate.key.base in INTEGERS and (epoch := epoch_of(candidate, now)):
        interval, said = _width(facts, candidate, time_type(candidate.key.base, epoch), now)
        spec = TableSpec(name=name, key=candidate.name, interval=interval, epoch=epoch)
        return [Choice(spec, candidate, points + 25, (f"counts {epoch} since 1970 by its values", *said, *reasons))]
    if candidate.key.base in INTEGERS and candidate.in_primary and isinstance(candidate.newest, int):
        spec = TableSpec(name=name, key=candidate.name, interval=str(_number_width(facts, candidate)))
        return [Choice(spec, candidate, points + 10, ("is a number that grows with the table", *reasons))]
    return _others(facts, candidate, points, reasons)


def _others(facts: TableFacts, candidate: Candidate, points: float, reasons: tuple[str, ...]) -> list[Choice]:
    name = ".".join(facts.table.name)
    few = (
        candidate.distinct is not None
        and 2 <= candidate.distinct <= FEW_VALUES
        and len(candidate.common) >= candidate.distinct
    )
    if few and candidate.key.can_list and candidate.not_null:
        values: dict[str, list[str | int]] = {
            f"v{number}": [value] for number, value in enumerate(sorted(candidate.common))
        }
        spec = TableSpec(name=name, key=candidate.name, method="list", values=values, default_partition=True)
        return [Choice(spec, candidate, points + 5, (f"has {len(candidate.common)} values", *reasons))]
    if candidate.in_primary and candidate.key.can_hash:
        spec = TableSpec(name=name, key=candidate.name, method="hash", modulus=_modulus(facts))
        return [
            Choice(spec, candidate, points + 3, ("is in the primary key, and spreads evenly by its hash", *reasons))
        ]
    return []


def _points(candidate: Candidate) -> tuple[float, tuple[str, ...]]:
    points, reasons, name = 0.0, list[str](), candidate.name.lower()
    for holds, worth, said in (
        (candidate.not_null, 10, "is not null"),
        (candidate.in_primary, 8, "is in the primary key, which need not change"),
        (candidate.is_indexed, 6, "leads an index, so queries ask for it"),
        (abs(candidate.correlation or 0) > 0.9, 4, "grows in the order in which rows lie on disk"),
        (any(word in name.split("_") for word in GOOD_NAMES), 2, ""),
        ("updated" in name or "modified" in name, -30, "changes with every update of a row"),
        ("birth" in name or "expire" in name, -10, "is no time at which rows arrive"),
    ):
        points += worth if holds else 0
        reasons += [said] if holds and said else []
    return points, tuple(reasons)


def clock_of(candidate: Candidate) -> KeyType | None:
    """Return how a candidate tells the time by itself, as far as its known values say; preflight looks at all."""
    clock = find_type(candidate.key.base)
    if clock and clock.misfit:
        known = [clock.read(str(value)) for value in (candidate.oldest, candidate.newest) if value is not None]
        return clock if known and all(clock.fits(key) for key in known) else None
    return clock


def epoch_of(candidate: Candidate, now: datetime) -> Epoch | None:
    """Return what a number counts, if all its values are instants from 2000 to next year in one unit."""
    try:
        oldest, newest = int(candidate.oldest), int(candidate.newest)
    except (TypeError, ValueError):
        return None
    first, last = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH), now + timedelta(days=366) - EPOCH
    for unit in ("s", "ms", "us"):
        scale = PER_SECOND[unit]
        if first.total_seconds() * scale <= oldest <= newest <= last.total_seconds() * scale:
            return unit
    return None


def _width(facts: TableFacts, candidate: Candidate, clock: KeyType, now: datetime) -> tuple[str, tuple[str, ...]]:
    """Return the narrowest interval that makes no more than 120 partitions of a million rows or more each."""
    ends = [_moment(value, clock) for value in (candidate.oldest, candidate.newest)]
    oldest, newest = (ends[0] or now), (ends[1] or now)
    counts = {width: Interval.parse(width).count(oldest, max(oldest, newest)) for width in WIDTHS}
    fit = [width for width, count in counts.items() if count <= MAX_LEAVES and facts.rows / count >= MIN_ROWS]
    width = fit[0] if fit else next((interval for interval in WIDTHS[2:] if counts[interval] <= MAX_LEAVES), WIDTHS[-1])
    said = f"from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}: {counts[width]} partitions of {width}"
    return width, (said,)


def _moment(value: object, clock: KeyType) -> datetime | None:
    try:
        return as_utc(value) if isinstance(value, date) else clock.instant(clock.read(str(value)))
    except (ValueError, PreconditionError):
        return None


def _number_width(facts: TableFacts, candidate: Candidate) -> int:
    span = max(1, int(candidate.newest) - int(candidate.oldest or 0))
    leaves = min(MAX_LEAVES, max(4, facts.rows // (10 * MIN_ROWS)))
    power = 10 ** max(0, len(str(span // leaves)) - 1)
    wide: int = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= span / leaves)
    return max(1_000, wide)


def _modulus(facts: TableFacts) -> int:
    wanted = max(4, (facts.bytes + facts.index_bytes) // (16 * 2**30))
    return min(256, 1 << (wanted - 1).bit_length())


# ── strategy and cost ────────────────────────────────────────────────────────────────────────────────────────────────


def _strategy(facts: TableFacts, choice: Choice) -> tuple[StrategyName, tuple[str, ...]]:
    size = facts.bytes + facts.index_bytes
    short = facts.free_bytes is not None and facts.free_bytes < ROOM * size
    if not short and size < HUGE_BYTES:
        free = (
            "whether the disk has room cannot be seen"
            if facts.free_bytes is None
            else f"{shown(facts.free_bytes)} free"
        )
        return "swap", (
            f"swap: a copy of {shown(size)} is cheap ({free}), and the application keeps one name and notices nothing",
            "take dual-write instead if the application must decide by its flags when it changes over",
        )
    reason = (
        f"{shown(facts.free_bytes or 0)} are free for a copy of {shown(size)}" if short else f"{shown(size)} are much"
    )
    if stands := no_attach(facts, choice):
        return "swap", (f"attach would spare the copy ({reason}), but {stands}", "swap: so room must be made first")
    return "attach", (f"attach: {reason}; no row is copied, the table becomes the history partition",
                      "its rows can be split into partitions later (`./inv db.split`)")  # fmt: skip


def no_attach(facts: TableFacts, choice: Choice) -> str | None:
    """Return what stands in the way of attach, if anything does."""
    if choice.candidate.key.base not in TIMES:
        return f"its key, {choice.candidate.name}, is no time"
    without = [
        index.name for index in facts.table.indexes if index.is_unique and choice.spec.key not in index.key_columns
    ]
    if without:
        return f"the key {choice.spec.key} is not in {', '.join(without)}"
    return None


def _seconds(facts: TableFacts) -> dict[str, float] | None:
    """Estimate the steps of a copy from the sample and the ratios of the benchmarks."""
    if facts.sample is None:
        return None
    copy = facts.rows / facts.sample.rows_per_second / SESSIONS
    return {
        "copy": copy,
        "indexes": copy * INDEX_PER_COPY * len(facts.table.indexes),
        "vacuum and analyze": copy * STATISTICS_PER_COPY,
    }


def shown(size: int) -> str:
    """Show bytes.

    >>> shown(3 * 2**30), shown(10_000)
    ('3.0 GiB', '0.0 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
