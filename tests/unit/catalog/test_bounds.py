"""Bounds: contiguous, without a gap, a place for every key, and refused where there would be too many."""

from __future__ import annotations

import itertools
import re
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.catalog.bounds import MAX_LEAVES, Bound, Interval, hash_bounds, list_bounds, make_bounds
from rehearsal.catalog.keytypes import INTEGERS, PER_SECOND, Epoch, Value, time_type
from rehearsal.errors import PlanError, PreconditionError

NOW = datetime(2026, 3, 15, 12, 30, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(1995, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis
INTERVALS = st.sampled_from(["1 month", "3 months", "1 year", "5 weeks", "40 days", "13 months"])


def spell(moment: datetime, kind: str, epoch: Epoch | None) -> Value:
    """Write an instant as a key of a type."""
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if kind == "uuid":
        return uuid.UUID(int=(micros // 1000) << 80 | 0x7 << 76 | 0xABC << 64 | 0x2 << 62 | micros)
    if epoch:
        return micros * PER_SECOND[epoch] // 1_000_000
    return moment.date() if kind == "date" else moment if kind == "timestamptz" else moment.replace(tzinfo=None)


def read(text: str, kind: str) -> Value:
    """Read a bound as PostgreSQL would compare it."""
    if kind == "uuid":
        return uuid.UUID(text)
    if kind in INTEGERS:
        return int(text)
    return date.fromisoformat(text) if kind == "date" else datetime.fromisoformat(text)


def homes(bounds: tuple[Bound, ...], key: Value, kind: str) -> list[str]:
    """Return the leaves that a key belongs into."""
    return [
        bound.suffix
        for bound in bounds
        if (bound.lower is None or read(bound.lower, kind) <= key)  # type: ignore[operator]  # of one kind
        and (bound.upper is None or key < read(bound.upper, kind))  # type: ignore[operator]
    ]


def check_contiguous(bounds: tuple[Bound, ...]) -> None:
    """Each leaf begins where the one before ends; names are of their own."""
    assert all(before.upper == after.lower is not None for before, after in itertools.pairwise(bounds))
    assert len({bound.suffix for bound in bounds}) == len(bounds)


KINDS: list[tuple[str, Epoch | None]] = [
    ("timestamptz", None), ("timestamp", None), ("date", None), ("uuid", None),
    ("int8", "s"), ("int8", "ms"), ("int8", "us"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "epoch"), KINDS)
@settings(max_examples=30, deadline=None)
@given(moments=st.lists(INSTANTS, min_size=2, max_size=5), interval=INTERVALS, premake=st.integers(0, 4))
def test_every_key_that_tells_time_has_exactly_one_leaf(
    kind: str, epoch: Epoch | None, moments: list[datetime], interval: str, premake: int
) -> None:
    """Whatever the type, the zone and the interval; now and the periods made ahead have a place as well."""
    keys = [spell(moment, kind, epoch) for moment in moments]
    width = Interval.parse(interval)
    oldest, newest = min(keys), max(keys)
    bounds = make_bounds(width, kind, oldest, newest, now=NOW, premake=premake, epoch=epoch)
    check_contiguous(bounds)
    ahead = width.add(width.floor(max(NOW, *moments)), premake)
    for key in (*keys, spell(NOW, kind, epoch), spell(ahead, kind, epoch)):
        assert len(homes(bounds, key, kind)) == 1


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(INTEGERS)),
    ends=st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)),
    width=st.integers(1, 2**62),
    premake=st.integers(0, 4),
)
def test_every_number_has_exactly_one_leaf_or_the_width_that_would_do_is_said(
    kind: str, ends: tuple[int, int], width: int, premake: int
) -> None:
    """Up to both ends of the type; a width that would make thousands of leaves is refused, with one that works."""
    most = INTEGERS[kind]
    oldest, newest = sorted(limit % (2 * most) - most for limit in ends)
    try:
        bounds = make_bounds(Interval(values=width), kind, oldest, newest, now=NOW, premake=premake)
    except PreconditionError as exc:
        assert (newest - oldest) // width + premake + 2 > MAX_LEAVES
        found = re.search(r'interval = "(\d+)"', str(exc))
        assert found
        bounds = make_bounds(Interval(values=int(found[1])), kind, oldest, newest, now=NOW, premake=premake)
    check_contiguous(bounds)
    assert [len(homes(bounds, key, kind)) for key in (oldest, newest, (oldest + newest) // 2)] == [1, 1, 1]
    limits = [int(limit) for bound in bounds for limit in (bound.lower, bound.upper) if limit is not None]
    assert all(-most <= limit < most for limit in limits)


def test_names_and_literals_are_as_people_expect() -> None:
    """Names tell where a leaf begins; a bound beyond the type is MINVALUE or MAXVALUE."""
    width = Interval.parse("1000")
    assert [(bound.suffix, bound.sql) for bound in make_bounds(width, "int8", -5, 1_500, now=NOW, premake=0)] == [
        ("from_minus_1000", "from ('-1000') to ('0')"),
        ("from_0", "from ('0') to ('1000')"),
        ("from_1000", "from ('1000') to ('2000')"),
    ]
    top = make_bounds(Interval.parse("30000"), "int2", 31_000, 32_767, now=NOW, premake=3)
    assert [bound.sql for bound in top] == ["from ('30000') to (maxvalue)"]
    (march,) = make_bounds(Interval.parse("1 month"), "uuid", None, None, now=NOW, premake=0)
    assert (march.suffix, march.lower) == ("y2026m03", "019ca6b1-dc00-0000-0000-000000000000")
    assert march.lower is not None
    assert time_type("uuid").instant(uuid.UUID(march.lower)) == datetime(2026, 3, 1, tzinfo=UTC)
    assert [bound.sql for bound in list_bounds({"eu": ["o'neill", "de"]})] == ["in ('o''neill', 'de')"]
    assert [(bound.suffix, bound.sql) for bound in hash_bounds(11)[-2:]] == [
        ("h09", "with (modulus 11, remainder 9)"),
        ("h10", "with (modulus 11, remainder 10)"),
    ]


@pytest.mark.parametrize(
    ("interval", "kind", "oldest", "epoch", "reason"),
    [
        (
            "1 day",
            "timestamptz",
            datetime(1970, 1, 1, tzinfo=UTC),
            None,
            r"20,5\d\d partitions.*interval = \"21 days\"",
        ),
        ("1 month", "date", date(1, 1, 1), None, r"24,3\d\d partitions.*interval = \"3 years\""),
        ("1 month", "int8", -(2**62), "s", "no instant when it is read as s since 1970"),
        ("1 month", "int8", 2**62, "us", "no instant when it is read as us|2,000 are the most"),
    ],
)
def test_garbage_keys_do_not_make_thousands_of_partitions(
    interval: str, kind: str, oldest: Value, epoch: Epoch | None, reason: str
) -> None:
    """The message has the keys, the number, and an interval that would do."""
    with pytest.raises(PreconditionError, match=reason):
        make_bounds(Interval.parse(interval), kind, oldest, None, now=NOW, premake=3, epoch=epoch)


def test_the_last_years_are_refused_in_words() -> None:
    """Python and PostgreSQL part ways after 9999."""
    newest = datetime(9999, 12, 31, tzinfo=UTC)
    with pytest.raises(PreconditionError, match="beyond the years 1 to 9999"):
        make_bounds(Interval.parse("10 years"), "timestamptz", None, newest, now=NOW, premake=3)


@pytest.mark.parametrize("text", ["", "0", "0 months", "1 hour", "-1", "1 month ago", "1_000"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    """With the forms that are."""
    with pytest.raises(PlanError, match="write it as '1 month'"):
        Interval.parse(text)
