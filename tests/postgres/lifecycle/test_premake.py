"""Leaves are made ahead: contiguous from the catalog's bounds, like their siblings, never late."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.errors import CheckViolation

from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.work import LeafWorker
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.postgres.lifecycle.kept import TABLE, Kept

JULY = datetime(2026, 7, 15, tzinfo=UTC)
MONTHS = [f"2026-{month:02d}-01 00:00:00+00" for month in range(1, 13)]
WITH_DEFAULT = f"{TABLE}create table public.t_rest partition of public.t default;"


def parted(key: str, first: str, more: str = "") -> str:
    """Return a table by ranges of `at`, of a type, with one leaf."""
    return f"create table public.t (at {key}, v int) partition by range (at); \
        create table public.t_first partition of public.t for values from {first}; {more}"


def test_it_makes_what_is_due_and_then_nothing(kept: Kept) -> None:
    """Three ahead of the current month, each in one transaction of its own."""
    kept.setup()
    assert [act.act for act in kept.premake()] == ["premake"] * 3
    assert kept.bounds() == list(itertools.pairwise(MONTHS[:5]))
    assert not kept.standing().wrong, kept.standing().text
    assert kept.standing().ready == 3


def test_a_runner_that_was_away_catches_up(kept: Kept) -> None:
    """Without a retention no period is left out."""
    kept.setup(now=JULY)
    assert len(kept.premake()) == 9
    assert kept.bounds()[-1] == (MONTHS[9], MONTHS[10])
    assert kept.ids() == []


def test_catching_up_makes_nothing_that_would_go_at_once(kept: Kept) -> None:
    """Months that are past their retention are left out; the gap lies wholly there, so it is none."""
    kept.setup(now=JULY, retention="2 months")
    kept.premake()
    assert kept.bounds()[:2] == [(MONTHS[0], MONTHS[1]), (MONTHS[4], MONTHS[5])]
    assert kept.bounds()[-1] == (MONTHS[9], MONTHS[10])
    assert "gap" not in kept.ids()


def test_a_name_that_is_taken_is_none_of_its_business(kept: Kept) -> None:
    """A leaf that is held, or any other table, may have the name."""
    kept.setup(f"{TABLE}create table public.t_y2026m02 (x int);")
    assert kept.premake()[0].leaf == "public.t_y2026m02_2"


LIKE_ITS_SIBLING = """
create role reader_{n}; create role other_{n}; grant create, usage on schema public to other_{n};
alter table public.t_first set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = off);
grant select, insert on public.t_first to reader_{n} with grant option; grant update (v) on public.t_first to public;
alter table public.t_first alter v set statistics 500; alter table public.t_first alter v set (n_distinct = -0.5);
alter table public.t_first replica identity using index t_first_pkey;
alter table public.t_first enable row level security;
create index only_here on public.t_first using brin (at) with (pages_per_range = 16);
comment on column public.t.v is 'a comment'; alter table public.t alter v set storage plain;
create publication p_{n} for table public.t_first (id, at) where (v > 1);
alter default privileges grant delete on tables to reader_{n};
alter table public.t_first owner to other_{n}; alter table public.t owner to other_{n};
"""


def test_a_new_leaf_has_what_its_sibling_has(kept: Kept) -> None:
    """Indexes, rights, options, comments, replica identity, publications, owner: by the machine diff."""
    number = kept.conn.info.backend_pid
    kept.setup(TABLE + LIKE_ITS_SIBLING.format(n=number))
    try:
        kept.premake()
        assert kept.standing().differences == []
        published = "select count(*) from pg_catalog.pg_publication_rel"
        assert scalar(kept.conn, published) == 4
        columns = "select array_agg(distinct prattrs::text || pg_get_expr(prqual, prrelid)) from pg_publication_rel"
        assert scalar(kept.conn, columns) == ["1 2(v > 1)"]
    finally:
        for role in (f"reader_{number}", f"other_{number}"):
            kept.run_sql(f"drop owned by {role} cascade; drop role {role}")


@pytest.mark.parametrize(
    "less",
    [
        "drop index public.only_here_2",
        "alter table public.t_y2026m04 reset (fillfactor)",
        "revoke select on public.t_y2026m04 from public",
        "alter table public.t_y2026m04 replica identity nothing",
        "alter table public.t_y2026m04 alter v set statistics 7",
    ],
)
def test_a_leaf_that_lacks_something_is_named(kept: Kept, less: str) -> None:
    """The mutant: what the diff is for is seen by it."""
    more = "alter table public.t_first set (fillfactor = 70); grant select on public.t_first to public; \
        create index only_here on public.t_first (v, at);"
    kept.setup(TABLE + more)
    kept.premake()
    assert kept.standing().differences == []
    own = scalar(
        kept.conn,
        "select indexrelid::regclass::text from pg_index where indrelid = 'public.t_y2026m04'::regclass "
        "and not exists (select from pg_inherits where inhrelid = indexrelid)",
    )
    kept.run_sql(less.replace("public.only_here_2", own))
    assert kept.standing().differences
    assert "WRONG" in kept.standing().text


def test_a_bound_that_a_sibling_says_as_a_check_is_none_of_the_next_ones(kept: Kept) -> None:
    """It was there for its ATTACH; on another leaf it would refuse every row."""
    bound = "check (at >= '2026-01-01+00' and at < '2026-02-01+00')"
    kept.setup(f'{TABLE}alter table public.t_first add constraint "its bound" {bound};')
    kept.premake()
    kept.write(datetime(2026, 2, 3, tzinfo=UTC))
    assert kept.standing().differences == []


TYPES: list[tuple[str, str, dict[str, Any], list[tuple[str | None, str | None]]]] = [
    ("date", "('2026-01-01') to ('2026-02-01')", {}, [("2026-02-01", "2026-03-01")]),
    ("timestamp", "('2026-01-01') to ('2026-02-01')", {}, [("2026-02-01 00:00:00", "2026-03-01 00:00:00")]),
    ("date", "('2026-01-11') to ('2026-01-18')", {"every": "1 week"}, [("2026-01-18", "2026-01-25")]),
    ("date", "('2026-01-15') to ('2026-01-16')", {"every": "1 day"}, [("2026-01-16", "2026-01-17")]),
    ("timestamptz", "('2025-01-01+00') to ('2026-01-01+00')", {"every": "1 year"},
     [("2026-01-01 00:00:00+00", "2027-01-01 00:00:00+00"), ("2027-01-01 00:00:00+00", "2028-01-01 00:00:00+00")]),
    ("timestamptz", "('2026-01-01+01') to ('2026-03-01+01')", {"every": "2 months", "zone": "Europe/Berlin"},
     [("2026-02-28 23:00:00+00", "2026-04-30 22:00:00+00")]),
    ("int8", "(1767225600000) to (1769904000000)", {"epoch": "ms"}, [("1769904000000", "1772323200000")]),
    ("int4", "(1767225600) to (1769904000)", {"epoch": "s"}, [("1769904000", "1772323200")]),
    ("uuid", "('019b7714-f400-0000-0000-000000000000') to ('019c16ba-d800-0000-0000-000000000000')", {},
     [("019c16bd-7000-0000-0000-000000000000", "019ca6f3-1800-0000-0000-000000000000")]),
    ("int8", "(0) to (1000)", {"every": "1000"}, [("1000", "2000")]),
    ("int2", "(32000) to (32500)", {"every": "500"}, [("32500", None)]),
    ("int2", "(-1000) to (-500)", {"every": "500"}, [("-500", "0")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "first", "how", "made"), TYPES, ids=[f"{case[0]}-{case[2].get('every', 'month')}" for case in TYPES]
)
def test_each_type_of_key_goes_on_from_its_last_bound(
    kept: Kept, key: str, first: str, how: dict[str, Any], made: list[tuple[str | None, str | None]]
) -> None:
    """Bounds are read from the catalog, and written in the key's own type."""
    if key == "uuid":
        base = "select rehearsal.lifecycle_bound('uuid', null, rehearsal.lifecycle_place(%s))"
        install_code(kept.conn, kept.files)
        ends = [scalar(kept.conn, base, [datetime(2026, month, 1, tzinfo=UTC)]) for month in (1, 2, 3)]
        first, made = f"('{ends[0]}') to ('{ends[1]}')", [(ends[1], ends[2])]
    kept.setup(parted(key, first), premake=1, **how)
    kept.premake()
    assert kept.bounds()[1:] == made


def test_months_of_a_time_zone_pass_over_summer_time(kept: Kept) -> None:
    """Their first instant is 23:00 or 22:00 in UTC, in spring and in autumn."""
    kept.setup(parted("timestamptz", "('2026-01-01+01') to ('2026-02-01+01')"), premake=12, zone="Europe/Berlin")
    kept.premake()
    hours = {lower[11:13] for lower, _ in kept.bounds() if lower}
    assert hours == {"22", "23"}
    assert kept.bounds()[-1] == ("2026-12-31 23:00:00+00", "2027-01-31 23:00:00+00")


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York", "Pacific/Chatham"])
def test_another_time_zone_in_the_session_moves_no_bound(kept: Kept, zone: str) -> None:
    """The functions are pinned themselves, since a person calls them from any session."""
    kept.setup()
    kept.run_sql(f"set timezone = '{zone}'; set datestyle = 'German'")
    kept.premake()
    kept.run_sql("reset all; set timezone = 'UTC'")
    assert kept.bounds() == list(itertools.pairwise(MONTHS[:5]))


def test_beside_an_empty_default_it_just_attaches(kept: Kept) -> None:
    """There is nothing to scan."""
    kept.setup(WITH_DEFAULT)
    assert [act.act for act in kept.premake()] == ["premake"] * 3


OLD = "insert into public.t (at, v) select '2020-01-01+00', n from generate_series(1, 250000) as n"


def test_beside_a_small_default_it_just_attaches(kept: Kept) -> None:
    """A few milliseconds of reading; rows of other times are in nobody's way, but named."""
    kept.setup(WITH_DEFAULT)
    kept.write(datetime(2031, 1, 1, tzinfo=UTC))
    assert [act.act for act in kept.premake()] == ["premake"] * 3
    assert kept.ids() == ["default-rows"]


def test_a_large_default_is_not_read_under_the_lock(kept: Kept) -> None:
    """A check is validated while nobody waits, and the server says that it implies what ATTACH asks; none is left."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    said: list[str] = []
    kept.conn.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
    kept.run_sql("set client_min_messages = debug1")
    assert [act.act for act in kept.premake()] == ["default-check", "default-validate", "premake"] * 3
    assert sum("default partition" in text and "implied" in text for text in said) == 3, said
    assert scalar(kept.conn, LEFT) == 0
    assert kept.bounds()[-1] == (MONTHS[3], MONTHS[4])


LEFT = "select count(*) from pg_constraint where conname = 'rehearsal_lifecycle'"
INTO_EACH = """
insert into public.t (at, v) values ('2026-03-07+00', 5), ('2026-02-07+00', 5), ('2026-04-07+00', 5)
"""


@pytest.mark.parametrize("filled", ["select 1", OLD])
@pytest.mark.parametrize(("month", "made"), [(2, 0), (3, 1), (4, 2)])
def test_rows_in_the_default_that_belong_into_a_new_leaf_bar_it(kept: Kept, month: int, made: int, filled: str) -> None:
    """What can be made before is made, rows are never hidden, and no check is left that refuses the application."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(filled)
    kept.write(datetime(2026, month, 5, tzinfo=UTC))
    assert [act.act for act in kept.premake()].count("premake") == made
    assert scalar(kept.conn, LEFT) == 0
    kept.run_sql(INTO_EACH)
    assert any(found.startswith("runway") for found in kept.ids())


def test_a_check_that_fails_is_taken_off_at_once(kept: Kept) -> None:
    """A row came between the look and the check."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    acts = kept.to_make()
    kept.write(datetime(2026, 2, 5, tzinfo=UTC))
    assert not kept.worker.make(acts)
    assert "23514" in str(kept.told[-1].failure)
    assert scalar(kept.conn, LEFT) == 0
    kept.run_sql(INTO_EACH)


def test_mutant_a_check_that_stays_refuses_the_application(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the taking back is for."""
    monkeypatch.setattr(LeafWorker, "_undo", lambda _worker, _act: None)
    with pytest.raises((AssertionError, CheckViolation)):
        test_a_check_that_fails_is_taken_off_at_once(kept)


def test_a_check_that_a_killed_run_left_goes_first(kept: Kept) -> None:
    """It would refuse rows of the application for ever."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    kept.worker.make(kept.to_make()[:2])
    assert next(act.act for act in kept.premake()) == "default-check-off"
    assert scalar(kept.conn, LEFT) == 0


UNFIT = [
    ("uneven", parted("timestamptz", "('2026-01-01+00') to ('2026-02-01+00')"), {"every": "1 week"}),
    ("uneven", parted("timestamptz", "('2026-01-01+01') to ('2026-02-01+01')"), {}),
    ("uneven", parted("date", "('2025-12-31') to ('2026-01-31')"), {}),
    ("uneven", parted("date", "(minvalue) to ('2026-01-17')"), {}),
    ("interval", parted("timestamptz", "('2026-01-01+00') to ('2026-02-01+00')"), {"every": "1000"}),
    ("interval", parted("int8", "(1) to (2)"), {}),
    ("interval", parted("text", "('a') to ('b')"), {}),
    ("zone", parted("date", "('2026-01-01') to ('2026-02-01')"), {"zone": "Europe/Berlin"}),
    ("no-leaf", "create table public.t (at date) partition by range (at)", {}),
    ("key", "create table public.t (at date) partition by hash (at)", {}),
    ("key", "create table public.t (at date, v int) partition by range (at, v)", {}),
    ("second-level", "create table public.t (at date, v int) partition by range (at); \
        create table public.t_1 partition of public.t \
        for values from ('2026-01-01') to ('2026-02-01') partition by list (v)", {}),
]  # fmt: skip
WORDS = {
    "uneven": "reaches|ends at", "interval": "does not fit", "zone": "has no time zone",
    "no-leaf": "no partition with bounds",
    "key": "ranges of one column", "second-level": "partitioned themselves",
}  # fmt: skip


@pytest.mark.parametrize(("trouble", "text", "how"), UNFIT, ids=[f"{case[0]}-{n}" for n, case in enumerate(UNFIT)])
def test_a_table_that_cannot_be_looked_after_is_refused_at_adoption(
    kept: Kept, trouble: str, text: str, how: dict[str, Any]
) -> None:
    """With the reason, and nothing is written."""
    with pytest.raises(PreconditionError, match=WORDS[trouble]):
        kept.setup(text, **how)
    assert scalar(kept.conn, "select count(*) from rehearsal.lifecycle_policy") == 0


def test_a_last_partition_without_end_bars_premake_and_is_named(kept: Kept) -> None:
    """Nothing can be made behind MAXVALUE."""
    kept.setup()
    kept.run_sql("create table public.t_all partition of public.t for values from ('2026-02-01+00') to (maxvalue)")
    assert kept.to_make() == []
    assert kept.ids() == ["unbounded"]


def test_a_gap_is_named_and_not_filled_in_silence(kept: Kept) -> None:
    """Somebody left it, or lost a partition."""
    kept.setup()
    kept.run_sql(
        "create table public.t_may partition of public.t for values from ('2026-05-01+00') to ('2026-06-01+00')"
    )
    assert "gap" in kept.ids()
    kept.premake()
    assert kept.bounds()[1] == (MONTHS[4], MONTHS[5])


def test_a_lock_that_is_not_granted_leaves_nothing_half_done(kept: Kept, database: Database) -> None:
    """Who holds it is named; the next run makes the leaf."""
    kept.setup()
    with connect(database, role="app") as other, other.transaction():
        other.execute("lock table public.t in share row exclusive mode")
        assert not kept.worker.make(kept.to_make())
        assert "could not acquire lock" in str(kept.told[-1].failure)
        assert "pg-rehearsal app" in str(kept.told[-1].failure)
    assert scalar(kept.conn, "select to_regclass('public.t_y2026m02')::text") is None
    assert len(kept.premake()) == 3


def test_an_application_that_writes_is_not_in_its_way(kept: Kept, database: Database) -> None:
    """ATTACH takes SHARE UPDATE EXCLUSIVE: an open transaction with writes goes on."""
    kept.setup()
    with connect(database, role="app") as other, other.transaction():
        other.execute("insert into public.t (at, v) values ('2026-01-05+00', 1)")
        assert len(kept.premake()) == 3
        other.execute(as_query("insert into public.t (at, v) values ('2026-04-05+00', 1)"))
