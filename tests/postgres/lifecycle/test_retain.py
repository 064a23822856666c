"""Leaves past their retention: by real bounds, held before the drop, told by OID, never the last one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.work import LeafWorker
from rehearsal.postgres.connection import advisory_lock, connect, scalar
from tests.postgres.lifecycle.kept import BUDGET, TABLE, Kept
from tests.waiting import eventually

JULY = datetime(2026, 7, 15, tzinfo=UTC)
YEAR = TABLE + "".join(
    f"create table public.t_m{month} partition of public.t for values from ('2026-{month:02d}-01+00') to "
    f"('2026-{month + 1:02d}-01+00');"
    for month in range(2, 11)
)
ROWS = """
insert into public.t (at, v)
select '2026-01-10+00'::timestamptz + n * interval '1 month', n from generate_series(0, 6) as n
"""
CHECKS = """
select array_agg(conname order by conname) from pg_constraint where contype = 'c' and conrelid = %s::regclass
"""
ACT = "insert into rehearsal.lifecycle_history (parent, act, at) values ('public.t', 'premake', '{}')"
TRUSTING = """
create or replace function rehearsal.lifecycle_clock(of_table regclass, moment timestamptz, runner timestamptz)
returns text language sql as 'select null::text'
"""


def past(kept: Kept, text: str = YEAR, **how: Any) -> None:
    """Ten months of 2026 with a row in each up to July, where it is July and three months are kept."""
    kept.setup(text, **{"now": JULY, "retention": "3 months", **how})
    kept.run_sql(ROWS)


def attached(kept: Kept) -> list[str]:
    """Return the names of the attached leaves."""
    rows = kept.conn.execute("select relid::text from pg_partition_tree('public.t') where isleaf order by 1").fetchall()
    return [row[0].removeprefix("public.") for row in rows]


def test_it_detaches_holds_and_drops(kept: Kept) -> None:
    """January to March go, since they end by the 15th of April; rows can be read until the hold is over."""
    past(kept)
    acts = kept.retain()
    assert [act.act for act in acts] == ["detaching", "detach", "detached"] * 3
    assert all("concurrently" in act.statements[0] for act in acts if act.act == "detach")
    assert attached(kept)[:1] == ["t_m10"]
    assert {"t_first", "t_m2", "t_m3"}.isdisjoint(attached(kept))
    assert scalar(kept.conn, "select count(*) from public.t_m2") == 1
    assert scalar(kept.conn, "select count(*) from public.t") == 4
    assert kept.retain() == []
    kept.pass_to(JULY + timedelta(days=6))
    assert kept.retain() == []
    kept.pass_to(JULY + timedelta(days=7, hours=1))
    assert [act.act for act in kept.retain()] == ["drop"] * 3
    assert scalar(kept.conn, "select to_regclass('public.t_m2')::text") is None
    assert kept.retain() == []
    assert not kept.standing().wrong, kept.standing().text


def test_the_check_of_detach_concurrently_goes(kept: Kept) -> None:
    """Those that the leaf had before stay."""
    past(kept)
    kept.run_sql("alter table public.t_m2 add constraint own check (at is not null)")
    kept.retain()
    assert scalar(kept.conn, CHECKS, ["public.t_m2"]) == ["own", "t_v_check"]
    assert scalar(kept.conn, CHECKS, ["public.t_first"]) == ["t_v_check"]


def test_at_most_so_many_a_run(kept: Kept) -> None:
    """The oldest first; the next run goes on."""
    past(kept, most=2)
    assert {act.leaf for act in kept.retain()} == {"public.t_first", "public.t_m2"}
    assert {act.leaf for act in kept.retain()} == {"public.t_m3"}


def test_the_last_leaf_stays(kept: Kept) -> None:
    """A table without any takes no rows, whatever its retention says."""
    february = "create table public.t_m2 partition of public.t for values from ('2026-02-01+00') to ('2026-03-01+00');"
    kept.setup(TABLE + february, retention="1 day")
    kept.run_sql("insert into public.t (at, v) values ('2026-02-05+00', 1)")
    kept.pass_to(datetime(2026, 3, 2, tzinfo=UTC))
    assert {act.leaf for act in kept.retain()} == {"public.t_first"}
    assert attached(kept) == ["t_m2"]


def test_beside_a_default_it_detaches_under_the_lock(kept: Kept) -> None:
    """CONCURRENTLY is refused there."""
    past(kept, f"{YEAR}create table public.t_rest partition of public.t default;")
    acts = kept.retain()
    assert [(act.act, act.mode) for act in acts] == [("detach", "locked")] * 3
    assert scalar(kept.conn, "select count(*) from public.t") == 4


def test_history_that_spans_the_cutoff_is_named(kept: Kept) -> None:
    """It has rows that are past and rows that are not: it stays whole until it is split."""
    text = TABLE.replace("from ('2026-01-01+00') to ('2026-02-01+00')", "from (minvalue) to ('2026-06-01+00')")
    more = "create table public.t_m6 partition of public.t for values from ('2026-06-01+00') to ('2026-07-01+00');"
    kept.setup(text + more, now=JULY, retention="3 months")
    kept.run_sql("insert into public.t (at, v) values ('2026-06-20+00', 1)")
    assert kept.retain() == []
    assert "spans-cutoff" in kept.ids()
    assert "db.split" in kept.standing().text


PARTNERS = [
    "insert into rehearsal.migration (source, plan, strategy, state) values ('public.t', 'kept', 'swap', 'swapped')",
    "create function rehearsal.capture() returns trigger language plpgsql as 'begin return null; end'; \
     create trigger rehearsal_capture_t after insert on public.t for each row execute function rehearsal.capture()",
    "create function rehearsal.capture() returns trigger language plpgsql as 'begin return null; end'; \
     create trigger rehearsal_capture_t after insert on public.t_m2 for each row execute function rehearsal.capture()",
]


@pytest.mark.parametrize("partner", PARTNERS)
def test_a_table_that_still_has_a_partner_keeps_its_rows(kept: Kept, partner: str) -> None:
    """What is dropped here would be missing there, and the rollback would bring it back or fail."""
    past(kept)
    kept.run_sql(partner)
    assert kept.to_retire() == []
    assert "partner" in kept.ids()
    assert kept.to_make() == []


CHILD = """
create table public.child (t bigint, at timestamptz, foreign key (t, at) references public.t);
insert into public.child select id, at from public.t order by at limit 1
"""


def test_a_referenced_leaf_stays_and_who_refers_is_named(kept: Kept) -> None:
    """The server refuses it before anything has happened; the others go."""
    past(kept)
    kept.run_sql(CHILD)
    assert not kept.worker.retire(kept.to_retire())
    failure = next(done.failure for done in kept.told if done.failure)
    assert 'referenced from table "child"' in failure
    assert {"t_m2", "t_m3"}.isdisjoint(attached(kept))
    assert "t_first" in attached(kept)
    assert scalar(kept.conn, "select count(*) from public.t") == 5


CLOCKS = [
    ({}, timedelta(days=40), "the runner"),
    ({}, timedelta(days=-40), "the runner"),
    ({"history": "2026-10-01"}, timedelta(), "last act"),
    ({"newest": True}, timedelta(), "newest key"),
]


@pytest.mark.parametrize(("how", "off", "who"), CLOCKS)
def test_clocks_that_disagree_bar_retention(kept: Kept, how: dict[str, object], off: timedelta, who: str) -> None:
    """By more than an interval: server, runner, last history row, newest key."""
    past(kept)
    if "history" in how:
        kept.run_sql(ACT.format(how["history"]))
    if "newest" in how:
        kept.run_sql("delete from public.t where at > '2026-06-01'")
    assert kept.to_retire(kept.now + off) == []
    standing = kept.standing() if not off else None
    if standing:
        assert who in str(standing.clock)


@pytest.mark.parametrize("jump", [timedelta(days=200), timedelta(days=4000)])
def test_a_clock_that_jumped_drops_nothing(kept: Kept, jump: timedelta) -> None:
    """Server and runner agree about a wrong year: the rows do not."""
    past(kept)
    kept.pass_to(JULY + jump)
    assert kept.to_retire() == []


def test_mutant_a_clock_that_is_believed_drops_rows(kept: Kept) -> None:
    """What the door of now is for."""
    past(kept)
    kept.run_sql(TRUSTING)
    kept.pass_to(JULY + timedelta(days=4000))
    assert kept.to_retire() != []


def test_retention_longer_than_history_does_nothing(kept: Kept) -> None:
    """And says nothing of it."""
    past(kept, retention="10 years")
    assert kept.retain() == []


HELD_IN_USE = [
    ("alter table public.t_m2 rename to t_kept", "called public.t_kept"),
    (
        "alter table public.t attach partition public.t_m2 for values from ('2026-02-01+00') to ('2026-03-01+00')",
        "attached again",
    ),
    ("update rehearsal.lifecycle_detached set system_identifier = 1 where leaf = 'public.t_m2'", "another cluster"),
    ("drop table public.t_m2; create table public.t_m2 (x int)", "gone"),
]


@pytest.mark.parametrize(("change", "why"), HELD_IN_USE)
def test_a_held_leaf_that_is_not_what_it_was_is_not_dropped(kept: Kept, change: str, why: str) -> None:
    """Told by OID, name and cluster; the others go."""
    past(kept)
    kept.retain()
    kept.run_sql(change)
    assert why in kept.standing().text
    kept.pass_to(JULY + timedelta(days=8))
    assert "public.t_m2" not in {act.leaf for act in kept.to_retire() if act.act == "drop"}
    kept.retain()
    assert scalar(kept.conn, "select to_regclass('public.t_first')::text") is None


def test_a_leaf_that_changes_between_decision_and_act_is_refused(kept: Kept) -> None:
    """Another table under the old name is not dropped for it."""
    past(kept)
    kept.retain()
    kept.pass_to(JULY + timedelta(days=8))
    acts = kept.to_retire()
    kept.run_sql("alter table public.t_first rename to away; create table public.t_first (precious int)")
    assert not kept.worker.retire(acts)
    assert any("will not be dropped" in str(done.failure) for done in kept.told)
    assert scalar(kept.conn, "select to_regclass('public.t_first')::text") == "public.t_first"


def test_a_bound_that_changes_between_decision_and_act_is_refused(kept: Kept) -> None:
    """The leaf was detached and attached elsewhere."""
    past(kept)
    acts = kept.to_retire()
    kept.run_sql(
        "alter table public.t detach partition public.t_first; delete from public.t_first; "
        "alter table public.t attach partition public.t_first for values from ('2027-01-01+00') to ('2027-02-01+00')"
    )
    assert not kept.worker.retire(acts)
    assert any("not what it was" in str(done.failure) for done in kept.told)
    assert "t_first" in attached(kept)


def test_an_old_transaction_holds_up_the_detachment_and_the_next_run_finishes_it(
    kept: Kept, database: Database
) -> None:
    """Its rows are gone from the table and readable in the leaf; no row of another leaf is missing."""
    past(kept, most=1)
    with connect(database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t")
        assert not kept.worker.retire(kept.to_retire())
        assert "blocked by" in str(kept.told[-1].failure)
        assert "pg-rehearsal app" in str(kept.told[-1].failure)
        assert "pending-detach" in kept.ids()
    assert [act.act for act in kept.to_retire()][:2] == ["finalize", "detached"]
    kept.retain()
    assert scalar(kept.conn, "select count(*) from public.t") == 5
    assert scalar(kept.conn, "select count(*) from public.t_first") == 1
    assert kept.standing().held[0].leaf == "public.t_first"
    assert kept.ids() == []


def test_making_ends_a_detachment_that_waits(kept: Kept, database: Database) -> None:
    """Creation never waits for deletion: the retention is cancelled, the leaves are there, and it is finished later."""
    past(kept, most=1)
    kept.pass_to(datetime(2026, 8, 20, tzinfo=UTC))
    kept.run_sql("insert into public.t (at, v) values ('2026-08-10+00', 1)")
    acts = kept.to_retire()
    with connect(database, role="app") as other, connect(database, role="lifecycle.retain") as session:
        worker = LeafWorker(session, kept.policy, BUDGET, kept.told.append)
        with other.transaction(), ThreadPoolExecutor(1) as pool:
            other.execute("select count(*) from public.t")
            retention = pool.submit(worker.retire, acts)
            waits = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
            eventually(lambda: bool(scalar(kept.conn, waits, [session.info.backend_pid])), 10)
            assert [act.act for act in kept.to_make()] == ["premake"]
            kept.premake()
            assert retention.result() is False
    assert "finalize" in [act.act for act in kept.retain()]
    assert kept.ids() == []


def test_what_others_left_pending_is_finished_and_never_dropped(kept: Kept, database: Database) -> None:
    """It was not detached by us, so it is not ours to drop."""
    past(kept, retention=None)
    with connect(database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t")
        kept.run_sql("set lock_timeout = 200")
        with pytest.raises(Exception, match="lock timeout"):
            kept.run_sql("alter table public.t detach partition public.t_m3 concurrently")
        kept.run_sql("set lock_timeout = 0")
    assert [act.act for act in kept.retain()] == ["finalize", "detached"]
    assert kept.standing().held == []
    assert scalar(kept.conn, "select count(*) from public.t_m3") == 1


def test_a_run_that_was_killed_after_the_detachment_goes_on(kept: Kept) -> None:
    """It is detached and nobody noted it."""
    past(kept, most=1)
    acts = kept.to_retire()
    kept.worker.retire(acts[:2])
    assert next(act.act for act in kept.to_retire()) == "detached"
    kept.retain()
    assert kept.standing().held[0].leaf == "public.t_first"


def test_two_runners_one_works_and_the_other_says_who(kept: Kept, database: Database) -> None:
    """By an advisory lock that ends with its session."""
    past(kept)
    with connect(database, role="lifecycle.retain") as first, advisory_lock(first, "lifecycle.retain public.t"):
        said = r"pid \d+ \(pg-rehearsal lifecycle\.retain"
        with pytest.raises(PreconditionError, match=said), advisory_lock(kept.conn, "lifecycle.retain public.t"):
            pytest.fail("both work")


def test_keys_that_count_go_by_the_newest(kept: Kept) -> None:
    """So many before the newest key."""
    leaves = "".join(
        f"create table public.t_{n} partition of public.t for values from ({n}000) to ({n + 1}000);" for n in range(6)
    )
    kept.setup(
        f"create table public.t (at bigint, v int) partition by range (at); {leaves}",
        every="1000",
        retention="2000",
        now=JULY,
    )
    assert kept.retain() == []
    kept.run_sql("insert into public.t (at, v) values (4500, 1)")
    assert {act.leaf for act in kept.retain()} == {"public.t_0", "public.t_1"}
