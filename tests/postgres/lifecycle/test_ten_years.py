"""Ten years month by month through the one door of now: no gap, nothing dropped early, creation never late.

What is expected is computed by Python's calendar and zones; what runs computes by PostgreSQL's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from psycopg.errors import CheckViolation

from rehearsal.postgres.connection import scalar
from tests.postgres.lifecycle.kept import Kept

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
FIRST = (2024, 1)
PREMAKE, RETENTION = 3, 12


def month(index: int, zone: str) -> datetime:
    """Return the first instant of the so manieth month since January of 2024 in a zone."""
    year, number = divmod(FIRST[0] * 12 + FIRST[1] - 1 + index, 12)
    return datetime(year, number + 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def back(moment: datetime, months: int, zone: str) -> datetime:
    """Return the instant so many months before, on the last day of a shorter month."""
    here = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    year, number = divmod(here.year * 12 + here.month - 1 - months, 12)
    for day in range(here.day, 0, -1):
        try:
            then = here.replace(year=year, month=number + 1, day=day)
        except ValueError:
            continue
        return then.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    raise AssertionError(moment)


REFUSING = """
create or replace function rehearsal.lifecycle_detaching(
    of_table regclass, leaf text, meant oid, lower text, upper text
) returns void language plpgsql as $$ begin raise exception 'full'; end $$
"""


@dataclass
class Years:
    """A table that lives for years: rows are written at each step, runs come when they come."""

    kept: Kept
    zone: str = "UTC"
    written: list[datetime] = field(default_factory=list[datetime])

    def begin(self) -> None:
        """January 2024, with one leaf."""
        first, second = month(0, self.zone), month(1, self.zone)
        text = f"""
            create table public.t (at timestamptz not null, v int) partition by range (at);
            create table public.t_first partition of public.t for values from ('{first}') to ('{second}');
        """
        now = first + timedelta(days=3)
        retention = f"{RETENTION} months"
        self.kept.setup(text, now=now, zone=self.zone, premake=PREMAKE, retention=retention, most=24, hold="0 days")
        self.kept.premake()

    def write(self) -> None:
        """Write a row of now; there is always a leaf for it."""
        self.kept.write(self.kept.now)
        self.written.append(self.kept.now)

    def check(self) -> None:
        """After both ran: exactly the leaves that the calendar says, and each row that is not past its retention."""
        bounds = [(lower, upper) for lower, upper in self.kept.bounds()]
        expected = list(self.leaves())
        assert [(str(lower), str(upper)) for lower, upper in bounds] == expected
        cutoff = back(self.kept.now, RETENTION, self.zone)
        oldest = next(lower for lower, _ in expected)
        must = [moment for moment in self.written if moment >= datetime.fromisoformat(oldest)]
        assert scalar(self.kept.conn, "select count(*) from public.t") == len(must)
        assert datetime.fromisoformat(oldest) <= cutoff or oldest == str(month(0, self.zone)).replace("+00:00", "+00")

    def leaves(self) -> Iterator[tuple[str, str]]:
        """Yield the bounds that there must be now."""
        cutoff = back(self.kept.now, RETENTION, self.zone)
        current = next(index for index in range(1_000) if month(index + 1, self.zone) > self.kept.now)
        for index in range(current + PREMAKE + 1):
            lower, upper = month(index, self.zone), month(index + 1, self.zone)
            if upper > cutoff:
                yield str(lower).replace("+00:00", "+00"), str(upper).replace("+00:00", "+00")


def pass_months(years: Years, rng: random.Random, count: int) -> Iterator[datetime]:
    """Let months pass, at any day and hour of each, the last of February and the hours of summer time among them."""
    for index in range(count):
        begin, end = month(index, years.zone), month(index + 1, years.zone)
        odd = [end - timedelta(minutes=30), begin, begin + (end - begin) * rng.random()]
        years.kept.pass_to(max(rng.choice(odd), years.kept.now))
        yield years.kept.now


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlin", *(pytest.param(zone, marks=pytest.mark.hours) for zone in ZONES if zone != "Europe/Berlin")],
)
def test_ten_years_of_runs(kept: Kept, zone: str) -> None:
    """Each month both run; retention is away for up to two months, and premake for as long as its leaves last."""
    years, rng = Years(kept, zone), random.Random(zone)
    years.begin()
    away = 0
    for _ in pass_months(years, rng, 120):
        years.write()
        away = away + 1 if away < PREMAKE - 1 and rng.random() < 0.4 else 0
        if not away:
            kept.premake()
            kept.retain()
            kept.retain()
            years.check()
    assert len(years.written) == 120


def test_a_retention_that_fails_each_night_for_a_year_holds_up_no_leaf(kept: Kept) -> None:
    """Creation depends on nothing of it."""
    years, rng = Years(kept), random.Random(1)
    years.begin()
    kept.run_sql("create table public.child (at timestamptz)")
    for number, _ in enumerate(pass_months(years, rng, 40)):
        years.write()
        kept.premake()
        if number > 20:
            # Somebody has every old leaf in use: another manager does not let it go.
            kept.run_sql("set lock_timeout = 0")
            acts = kept.to_retire()
            kept.run_sql(REFUSING)
            assert not kept.worker.retire(acts) or not acts
        assert kept.standing().ready >= PREMAKE
    assert scalar(kept.conn, "select count(*) from public.t") == 40


def test_a_runner_that_was_away_for_four_months_finds_rows_refused_and_no_gap_after(kept: Kept) -> None:
    """What it makes is what the calendar says; months past retention are left out."""
    years = Years(kept)
    years.begin()
    kept.premake()
    for gap in (4, 7, 30):
        kept.pass_to(back(kept.now, -gap, "UTC"))
        kept.premake()
        years.write()
        kept.retain()
        kept.retain()
        years.check()


@pytest.mark.parametrize("jump", [timedelta(days=-70), timedelta(days=70), timedelta(days=400), timedelta(days=9000)])
def test_a_jump_of_the_clock_drops_nothing(kept: Kept, jump: timedelta) -> None:
    """Back or forth, in the server and in the runner: the rows and the history tell."""
    years, rng = Years(kept), random.Random(2)
    years.begin()
    for _ in pass_months(years, rng, 20):
        years.write()
        kept.premake()
        kept.retain()
    before, rows = kept.bounds(), scalar(kept.conn, "select count(*) from public.t")
    kept.pass_to(kept.now + jump)
    assert [act.act for act in kept.to_retire() if act.act.startswith("det")] == []
    assert kept.bounds() == before
    assert scalar(kept.conn, "select count(*) from public.t") == rows


MUTANTS = {
    "dropped early": (
        "lifecycle_cutoff(of_table regclass, moment timestamptz) returns numeric",
        "select rehearsal.lifecycle_step(rehearsal.lifecycle_place(moment), '9 months', -1, 'UTC')",
    ),
    "one too few": (
        "lifecycle_place(moment timestamptz) returns numeric",
        "select extract(epoch from moment - interval '40 days' * (moment = rehearsal.lifecycle_now())::int) * 1000000",
    ),
    "months in UTC": (
        "lifecycle_step(place numeric, every text, periods integer, zone text) returns numeric",
        "select rehearsal.lifecycle_place(rehearsal.lifecycle_moment(place) + periods * every::interval)",
    ),
    "a gap": (
        "lifecycle_step(place numeric, every text, periods integer, zone text) returns numeric",
        (
            "select rehearsal.lifecycle_place(((rehearsal.lifecycle_moment(place) at time zone zone) "
            "+ periods * every::interval) at time zone zone) "
            "+ case when every = '1 month' and periods = 1 and place > 1.75e15 then 86400000000 else 0 end"
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_found(kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these makes one of the promises untrue, and the ten years find it."""
    head, body = MUTANTS[name]
    setup = kept.setup

    def mutated(text: str, **how: object) -> None:
        setup(text, **how)  # type: ignore[arg-type]
        kept.run_sql(
            f"create or replace function rehearsal.{head} language sql stable set timezone = 'UTC' "
            f"set search_path = pg_catalog, pg_temp as $$ {body} $$"
        )

    monkeypatch.setattr(kept, "setup", mutated)
    with pytest.raises((AssertionError, CheckViolation)):
        test_ten_years_of_runs(kept, "Europe/Berlin")
