"""Key types: each tells the time that it was made for, and a bound is the least key of its instant."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.catalog.keytypes import BY_NAME, INTEGERS, RANGES, Epoch, KeyType, find_type, place_of, time_type
from rehearsal.errors import PreconditionError

INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis
UNITS: tuple[Epoch, ...] = ("s", "ms", "us")
TYPES = [*(time_type(base) for base in BY_NAME), *(time_type("int8", unit) for unit in UNITS)]
MILLISECOND = 1_000


def named(kind: KeyType) -> str:
    """Return a name for a test."""
    return f"{kind.base} {getattr(kind, 'unit', '')}".strip()


@pytest.mark.parametrize("kind", TYPES, ids=named)
@given(moment=INSTANTS)
def test_a_drawn_key_tells_its_instant(kind: KeyType, moment: datetime) -> None:
    """To the second, or to the day; its text is read as the same key."""
    moment = moment.replace(microsecond=moment.microsecond // MILLISECOND * MILLISECOND)
    key = kind.read(str(kind.draw(moment, random.Random(1))))
    told = kind.instant(key)
    assert kind.fits(key)
    assert told <= moment
    assert told.date() == moment.date()
    if kind.base != "date":
        assert (moment - told).total_seconds() < 1


@pytest.mark.parametrize("kind", TYPES, ids=named)
@given(moment=INSTANTS)
def test_a_bound_is_the_least_key_of_its_instant(kind: KeyType, moment: datetime) -> None:
    """No key drawn from then on lies below it, and it tells that instant itself."""
    begin = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    text = kind.text(begin)
    assert text is not None
    bound, drawn = kind.read(text), kind.read(str(kind.draw(moment.replace(microsecond=0), random.Random(2))))
    assert bound <= drawn  # type: ignore[operator]  # of one type
    assert kind.instant(bound) == begin


@pytest.mark.parametrize("kind", TYPES, ids=named)
def test_another_key_close_by_lies_in_range(kind: KeyType) -> None:
    """Where one can be told it is another one, and not below the least."""
    least = datetime(2026, 3, 1, tzinfo=UTC)
    for moment in (least, datetime(2026, 3, 9, 12, tzinfo=UTC)):
        key = kind.draw(moment, random.Random(3))
        other = kind.beside(key, least)
        assert (other == key) is isinstance(key, str)
        assert kind.instant(kind.read(str(other))) >= least


def test_types_that_tell_no_time_are_known() -> None:
    """A number without a unit has a place all the same; text has neither."""
    assert [find_type(base) for base in (*INTEGERS, "text")] == [None] * (len(INTEGERS) + 1)
    assert all("{0}" in place_of(base) for base in RANGES)
    with pytest.raises(PreconditionError, match="text tell no time"):
        time_type("text")
    with pytest.raises(PreconditionError, match="no instant when it is read as s"):
        time_type("int8", "s").instant(2**60)


def test_a_uuid_of_another_version_fits_not() -> None:
    """It is fresh, and tells no time."""
    kind = time_type("uuid")
    assert kind.makes_fresh
    assert not kind.fits(kind.read(str(kind.fresh(random.Random(4)))))
    assert not time_type("date").makes_fresh
    assert time_type("date").read("2026-03-01") == date(2026, 3, 1)
