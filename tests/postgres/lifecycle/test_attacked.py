"""What an attack with fresh eyes found: each kind once, so that it stays mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.policy import Wish, forget_policies, read_policies, write_policy
from rehearsal.lifecycle.reading import read_to_make
from rehearsal.postgres.connection import Connection, connect, scalar
from tests.postgres.lifecycle.kept import TABLE, Kept
from tests.postgres.lifecycle.test_clock import FAILED, PREMAKE, RETAIN, Psql, psql  # noqa: F401
from tests.postgres.lifecycle.test_premake import LEFT, OLD, WITH_DEFAULT, parted
from tests.postgres.lifecycle.test_retain import JULY, YEAR, attached, past

LATER = JULY + timedelta(days=9)
ATTACH = "alter table public.t attach partition public.{} for values from ('2026-{}-01+00') to ('2026-{}-01+00');"
BACK = ATTACH.format("t_first", "01", "02")


def gone(conn: Connection, leaf: str) -> bool:
    """Return whether a table is dropped."""
    return bool(scalar(conn, "select to_regclass(%s) is null", [f"public.{leaf}"]))


def to_drop(kept: Kept) -> set[str]:
    """Return what would be dropped."""
    return {act.leaf for act in kept.to_retire() if act.act == "drop"}


@pytest.mark.parametrize("how", [{"retention": "24"}, {"hold": "7"}, {"hold": "0"}])
def test_a_time_without_unit_is_refused(kept: Kept, how: dict[str, str]) -> None:
    """PostgreSQL reads 24 as seconds: everything before now would go."""
    with pytest.raises(PreconditionError, match=r"24 does not fit|hold of"):
        kept.setup(YEAR, now=JULY, **how)


def test_an_age_of_keys_that_count_is_refused(kept: Kept) -> None:
    """And it is no raw error."""
    with pytest.raises(PreconditionError, match="12 months does not fit a key of type int8"):
        kept.setup(parted("int8", "(0) to (1000)"), every="1000", retention="12 months")


def test_what_was_noted_is_not_detached_once_the_policy_is_another(kept: Kept, psql: Psql) -> None:  # noqa: F811
    """The queue asks again."""
    past(kept)
    kept.worker.retire([act for act in kept.to_retire() if act.act == "detaching"])
    kept.adopt(retention="10 years")
    assert scalar(kept.conn, "select count(*) from rehearsal.lifecycle_queue()") == 0
    assert [act.act for act in kept.to_retire()] == ["withdraw"] * 3
    assert psql(RETAIN, "retain", kept.now).returncode == 0
    assert len(attached(kept)) == 10
    assert scalar(kept.conn, "select count(*) from rehearsal.lifecycle_detached") == 0


@pytest.mark.parametrize(
    "by_hand",
    [
        f"{BACK} alter table public.t detach partition public.t_first",
        "create table public.archive (like public.t) partition by range (at); "
        + BACK.replace("public.t attach", "public.archive attach")
        + "alter table public.archive detach partition public.t_first",
    ],
)
def test_a_leaf_that_somebody_had_in_use_is_never_dropped(kept: Kept, by_hand: str) -> None:
    """Taken back for a moment, here or in another table: it is theirs now."""
    past(kept)
    kept.retain()
    kept.run_sql(by_hand)
    kept.pass_to(LATER)
    assert "public.t_first" not in to_drop(kept)
    kept.retain()
    assert not gone(kept.conn, "t_first")
    assert gone(kept.conn, "t_m2")
    assert "altered since" in kept.standing().text


def test_a_leaf_that_was_taken_back_stays_while_the_policy_says_so(kept: Kept) -> None:
    """Its note is withdrawn, and nothing is wrong."""
    past(kept)
    kept.retain()
    kept.adopt(retention="10 years")
    kept.run_sql(BACK)
    kept.retain()
    assert "t_first" in attached(kept)
    assert "held-changed" not in kept.ids()
    kept.pass_to(LATER)
    assert to_drop(kept) == set()


@pytest.mark.parametrize("how", [{"retention": "10 years"}, {"retention": "3 months", "hold": "90 days"}, {}])
def test_what_is_held_goes_by_the_policy_of_now(kept: Kept, how: dict[str, str]) -> None:
    """Longer retention, longer hold, or none: nothing is dropped; nor after it was forgotten."""
    past(kept)
    kept.retain()
    kept.adopt(**how)
    kept.pass_to(LATER)
    assert to_drop(kept) == set()
    with kept.conn.transaction():
        assert forget_policies(kept.conn, "kept", ("public", "t")) == ["public.t"]
    kept.adopt(retention="3 months")
    assert to_drop(kept) == set()


def test_one_wrong_key_neither_makes_partitions_nor_drops_any(kept: Kept) -> None:
    """It is in the default partition, far beyond all bounds."""
    leaves = "".join(
        f"create table public.t_{n} partition of public.t for values from ({n}000) to ({n + 1}000);" for n in range(5)
    )
    more = f"{leaves} create table public.t_d partition of public.t default;"
    kept.setup(f"create table public.t (at bigint, v int) partition by range (at); {more}", every="1000",
               retention="2000", premake=1)  # fmt: skip
    kept.run_sql("insert into public.t (at) values (3500), (1000000), (9000000000000000000)")
    assert {act.leaf for act in kept.to_retire()} == {"public.t_0"}
    assert kept.to_make() == []
    kept.run_sql("insert into public.t (at) values (4500)")
    assert len(kept.premake()) == 1


PUBLISHED = [
    "create publication p_one for table public.t_first",
    "create publication p_one for table public.t_first where (v > 3)",
    "create publication p_one for table public.t_first (id, at)",
]


@pytest.mark.parametrize("publication", PUBLISHED)
def test_any_publication_of_a_leaf_comes_along(kept: Kept, publication: str) -> None:
    """With and without columns and rows."""
    kept.setup(f"{TABLE}{publication};")
    kept.premake()
    assert kept.standing().differences == []


def test_a_publication_of_somebody_else_keeps_no_leaf_from_being_made(kept: Kept, database: Database) -> None:
    """That it is missing there is said."""
    kept.setup(f"{TABLE}create publication p_one for table public.t_first;")
    role = f"maker_{kept.conn.info.backend_pid}"
    kept.run_sql(f"create role {role}; grant all on schema rehearsal, public to {role}; "
                 f"grant all on all tables in schema rehearsal to {role}; "
                 f"alter table public.t owner to {role}; alter table public.t_first owner to {role}")  # fmt: skip
    try:
        kept.run_sql(f"set role {role}")
        kept.premake()
        kept.run_sql("reset role")
        assert "publication" in " ".join(kept.standing().differences)
    finally:
        kept.run_sql(f"reset role; drop owned by {role} cascade; drop role {role}")


def test_a_check_that_cannot_be_taken_off_is_named_until_it_is(kept: Kept, database: Database) -> None:
    """A reader of the default partition came between: no raw error, and the next run begins with it."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    acts = kept.to_make()
    kept.worker.make(acts[:2])
    with connect(database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t_rest")
        assert not kept.worker.make(acts[2:3])
        assert "check-left" in kept.ids()
    kept.premake()
    assert scalar(kept.conn, LEFT) == 0
    assert "check-left" not in kept.ids()


def test_a_uuid_key_has_a_retention(kept: Kept) -> None:
    """There is no max(uuid) before 18."""
    begins = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))
    low, middle, high = (f"{(int(begin.timestamp() * 1000) << 80):032x}" for begin in begins)
    text = parted("uuid", f"('{low}') to ('{middle}')")
    kept.setup(
        f"{text} create table public.t_2 partition of public.t for values from ('{middle}') to ('{high}');",
        now=datetime(2026, 2, 20, tzinfo=UTC),
        retention="5 days",
    )
    kept.run_sql(f"insert into public.t (at) values ('{int(middle, 16) + 1:032x}')")
    kept.premake()
    assert {act.leaf for act in kept.retain()} == {"public.t_first"}


@pytest.mark.parametrize(
    "taken",
    [
        "create domain public.t_y2026m02 as int",
        'create index "x USING y" on public.t_first (v, at)',
        'create index "a ON b" on public.t_first (v, at) where v > 3',
    ],
)
def test_a_name_bars_no_leaf(kept: Kept, taken: str) -> None:
    """Of a type that has the leaf's name, of an index with words of SQL in it."""
    kept.setup(f"{TABLE}{taken};")
    kept.premake()
    assert kept.standing().differences == []


def test_one_table_in_trouble_keeps_no_other_from_its_leaves(kept: Kept, psql: Psql) -> None:  # noqa: F811
    """By the clock; the verbs do the same (test_verbs)."""
    kept.setup()
    kept.run_sql(f"create schema a; {TABLE.replace('public.', 'a.')}")
    with kept.conn.transaction():
        write_policy(kept.conn, "kept", Wish(("a", "t"), "1 month", 3))
    kept.run_sql("alter table a.t detach partition a.t_first")
    done = psql(PREMAKE, "premake")
    assert done.returncode == FAILED
    assert "a.t" in done.stderr
    assert kept.to_make() == []


def test_leaves_that_are_refused_keep_no_other_from_going(kept: Kept) -> None:
    """Three of them are referenced, and three a run may go."""
    past(kept, retention="1 month")
    kept.run_sql(
        "create table public.child (t bigint, at timestamptz, foreign key (t, at) references public.t); "
        "insert into public.child select id, at from public.t order by at limit 3"
    )
    assert not kept.worker.retire(kept.to_retire())
    kept.worker.retire(kept.to_retire())
    assert {"t_m4", "t_m5"}.isdisjoint(attached(kept))
    assert scalar(kept.conn, "select count(*) from public.t") == 5


def test_a_held_leaf_that_was_dropped_by_hand_is_no_trouble(kept: Kept) -> None:
    """That is the remedy itself."""
    past(kept)
    kept.retain()
    kept.run_sql("drop table public.t_m2")
    assert kept.ids() == []
    kept.retain()
    assert {held.leaf for held in kept.standing().held} == {"public.t_first", "public.t_m3"}


def test_a_check_of_somebody_else_stays(kept: Kept) -> None:
    """Only what DETACH CONCURRENTLY left goes."""
    past(kept, most=1)
    acts = kept.to_retire()
    kept.worker.retire(acts[:2])
    kept.run_sql("alter table public.t_first add constraint mine check (v < 1000000)")
    kept.retain()
    assert scalar(kept.conn, "select count(*) from pg_constraint where conname = 'mine'") == 1


def test_a_policy_of_a_table_that_is_gone_goes_with_the_next(kept: Kept) -> None:
    """One that has its name now is another."""
    kept.setup()
    kept.run_sql("drop table public.t")
    kept.run_sql(TABLE)
    kept.adopt()
    assert [policy.table for policy in read_policies(kept.conn, "kept")] == ["public.t"]
    assert len(read_to_make(kept.conn, kept.policy.oid)) == 3


def test_finishing_detaches_nothing_more(kept: Kept, psql: Psql) -> None:  # noqa: F811
    """At most so many a run, also beside a default partition, and whatever earlier nights noted."""
    past(kept, f"{YEAR}create table public.t_rest partition of public.t default;", most=1)
    assert psql(RETAIN, "retain", kept.now).returncode == 0
    assert len(kept.standing().held) == 1
    kept.run_sql("drop table public.t_rest")
    for act in kept.to_retire():
        if act.act == "detaching":
            kept.worker.retire([act])
    kept.adopt(retention="3 months", most=3)
    kept.worker.retire([act for act in kept.to_retire() if act.act == "detaching"])
    kept.adopt(retention="3 months", most=1)
    assert scalar(kept.conn, "select count(*) from rehearsal.lifecycle_queue()") == 1


def test_what_a_person_detaches_after_ours_was_refused_is_theirs(kept: Kept) -> None:
    """Our note does not make it ours."""
    past(kept)
    kept.run_sql(
        "create table public.child (t bigint, at timestamptz, foreign key (t, at) references public.t); "
        "insert into public.child select id, at from public.t order by at limit 1"
    )
    assert not kept.worker.retire(kept.to_retire())
    kept.run_sql("truncate public.child; alter table public.t detach partition public.t_first")
    kept.retain()
    assert "public.t_first" not in {held.leaf for held in kept.standing().held}
    kept.pass_to(LATER)
    kept.retain()
    assert not gone(kept.conn, "t_first")


def test_what_is_unique_in_each_partition_is_unique_in_the_next(kept: Kept) -> None:
    """As the plan's `per-partition` makes it: a constraint of each leaf alone."""
    kept.setup(f"{TABLE}alter table public.t_first add constraint v_once unique (v);")
    kept.premake()
    assert kept.standing().differences == []
    unique = "select count(*) from pg_constraint where contype = 'u' and conrelid = 'public.t_y2026m02'::regclass"
    assert scalar(kept.conn, unique) == 1


def test_where_rows_come_ahead_of_their_time_no_check_refuses_them(kept: Kept) -> None:
    """Bookings: the default partition takes them, and goes on taking them."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    kept.write(datetime(2026, 9, 5, tzinfo=UTC))
    assert [act.act for act in kept.premake()] == ["premake"] * 3


def test_a_check_that_was_left_goes_whatever_bars_the_rest(kept: Kept) -> None:
    """It refuses rows."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    kept.worker.make(kept.to_make()[:2])
    kept.run_sql("create table public.t_all partition of public.t for values from ('2026-02-01+00') to (maxvalue)")
    assert [act.act for act in kept.to_make()] == ["default-check-off"]
    kept.premake()
    assert scalar(kept.conn, LEFT) == 0
