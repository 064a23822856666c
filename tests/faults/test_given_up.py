"""A switchover that is under way can be given up: nothing of it is left on the application's table."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from rehearsal.catalog.definition import read_facts
from rehearsal.catalog.tables import Catalog
from rehearsal.commands import db
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import connect, scalar
from rehearsal.switchover import state
from rehearsal.switchover.follow import Follow
from rehearsal.switchover.strategies import copied
from rehearsal.switchover.target import removal
from rehearsal.switchover.work import TableWork
from tests.faults.small import TABLE, Small
from tests.fix_tables import deploy
from tests.waiting import eventually

CHILD = """
create table public.child (id bigint primary key, t_id bigint constraint child_t references public.t (id));
insert into public.child select n, n from generate_series(1, 100) as n;
"""
LEFT = """
select relname from pg_catalog.pg_class where relnamespace = 'rehearsal'::regnamespace and relname ~ '_t(_|$)' union all
select relname from pg_catalog.pg_class where relname like 't\\_%' and relkind in ('r', 'p') union all
select proname from pg_catalog.pg_proc where pronamespace = 'rehearsal'::regnamespace and proname ~ '_t(_|$)' union all
select name from rehearsal.change union all select source from rehearsal.migration
"""


ASLEEP = "select count(*) from pg_catalog.pg_stat_activity where wait_event = 'PgSleep' and state = 'active'"


def facts(small: Small, table: str) -> object:
    """Return everything that a table is."""
    return read_facts(small.conn, small.files, Catalog(small.conn, small.files).read(("public", table)))


def killed_in_the_copy(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the preparation end in the middle of the copy."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Follow, "_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            small.work.prepare()


def nothing(_small: Small, _patch: pytest.MonkeyPatch) -> None:
    """Leave the table as `db.migrate` has made it."""


def follows(small: Small, _patch: pytest.MonkeyPatch) -> None:
    """Let the target follow."""
    small.work.prepare()


States = Callable[[Small, pytest.MonkeyPatch], None]


@pytest.mark.parametrize("way", [nothing, killed_in_the_copy, follows], ids=["prepared", "copying", "following"])
@pytest.mark.parametrize("strategy", ["swap", "dual-write"])
def test_it_is_given_up_in_every_state_before_the_exchange(
    small: Small, monkeypatch: pytest.MonkeyPatch, strategy: str, way: States
) -> None:
    """TRUNCATE works again, the table is what it was; a second run changes nothing, and it can begin anew."""
    small.setup(strategy=strategy)
    way(small, monkeypatch)
    with pytest.raises(psycopg.errors.ObjectInUse, match="TRUNCATE"):
        small.run_sql("truncate t")

    assert "given up" in db.roll_back_table(small.work, small.conn)
    assert "no change" in db.roll_back_table(small.work, small.conn)
    assert small.conn.execute(LEFT).fetchall() == []
    assert scalar(small.conn, "select count(*) from pg_catalog.pg_trigger where tgrelid = 'public.t'::regclass") == 0
    small.run_sql("truncate t; insert into t values (1, '2026-01-01', 1)")

    deploy(small.conn, small.files, small.plan)
    small.switch()
    small.verify()


def test_partition_keys_of_other_tables_go_too(small: Small) -> None:
    """What a composite foreign key needs is taken off the table that refers, however far it came."""
    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    before = facts(small, "child")
    small.work.prepare()
    assert facts(small, "child") != before
    assert small.work.roll_back()
    assert facts(small, "child") == before


def test_after_a_rollback_the_target_follows_until_its_clean_up(small: Small) -> None:
    """A second rollback changes nothing; the clean-up ends the change log, and then nothing is left."""
    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    before = facts(small, "child")
    small.switch()
    assert "db.cleanup" in db.roll_back_table(small.work, small.conn)
    assert db.roll_back_table(small.work, small.conn) == "no change"
    assert state.read_migration(small.conn, small.work.names.source).state == state.FOLLOWING

    small.clean_up()
    small.clean_up()
    assert small.conn.execute(LEFT).fetchall() == []
    assert facts(small, "child") == before
    small.run_sql("delete from child; truncate t, child")


def test_what_is_under_way_is_not_cleaned_up(small: Small) -> None:
    """A copy of days is not thrown away by the verb that ends what has been switched."""
    small.setup()
    small.work.prepare()
    with pytest.raises(PreconditionError, match="is following"):
        small.clean_up()


def other_plan(small: Small, strategy: str) -> Small:
    """Look at the same table with the plan of somebody who thinks of another strategy."""
    small.plan = small.plan.model_copy(update={"strategy": strategy})
    return small


@pytest.mark.parametrize(
    ("strategy", "reached", "other"),
    [
        ("attach", "ready", "swap"),
        ("attach", "attached", "swap"),
        ("attach", "regrained", "dual-write"),
        ("dual-write", "mirrored", "swap"),
        ("swap", "swapped", "dual-write"),
        ("swap", "following", "attach"),
    ],
)
def test_nobody_gives_up_what_another_plan_has_made(small: Small, strategy: str, reached: str, other: str) -> None:
    """Two plans for one table, or a plan that was edited: every act is refused by name, and the right plan goes on."""
    small.setup(strategy=strategy)
    small.work.prepare()
    if reached not in ("ready", "following"):
        small.work.switch()
    if reached == "regrained":
        small.split()
    before = small.conn.execute(LEFT).fetchall(), state.read_migration(small.conn, small.work.names.source)
    assert before[1].state == reached

    other_plan(small, other)
    for act in (small.work.prepare, small.work.switch, small.work.roll_back, small.clean_up):
        with pytest.raises(PreconditionError, match=f"with the strategy {strategy}; this is plan"):
            act()
    other_plan(small, strategy)
    assert before == (small.conn.execute(LEFT).fetchall(), state.read_migration(small.conn, small.work.names.source))
    small.work.roll_back()


def test_a_partition_that_somebody_added_is_not_dropped(small: Small) -> None:
    """Its rows are nowhere else."""
    small.setup()
    small.work.prepare()
    small.run_sql("create table archive (like t including defaults); insert into archive values (1, '2001-01-01', 1)")
    small.run_sql("alter table t_partitioned attach partition archive for values from ('2001-01-01') to ('2002-01-01')")
    with pytest.raises(PreconditionError, match=r"not made here.*archive"):
        small.work.roll_back()
    assert scalar(small.conn, "select count(*) from public.archive") == 1
    small.run_sql("alter table t_partitioned detach partition archive")
    assert small.work.roll_back()


@contextmanager
def snapshot_from_before(small: Small) -> Generator[None]:
    """Hold a snapshot, busy elsewhere, for the block; it ends with it."""
    with connect(small.database, autocommit=False, role="application") as old, ThreadPoolExecutor() as pool:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        report = pool.submit(old.execute, "select pg_catalog.pg_sleep(600)")
        try:
            eventually(lambda: scalar(small.conn, ASLEEP))
            yield
        finally:
            old.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            report.result()


def clean_up_with_a_snapshot_from_before(small: Small) -> None:
    """A snapshot from before the rollback would update a row that it cannot see, and be told of no row."""
    small.setup()
    small.switch()
    small.run_sql("update t set v = 5 where id = 9")
    with snapshot_from_before(small):
        assert small.work.roll_back()
        with pytest.raises(PreconditionError, match="snapshot fence"):
            small.clean_up()


def test_a_fence_that_is_needed_stays_on(small: Small) -> None:
    """Once the snapshot has ended, the clean-up takes it off."""
    clean_up_with_a_snapshot_from_before(small)
    small.clean_up()
    assert small.conn.execute(LEFT).fetchall() == []


def test_mutant_a_clean_up_that_asks_nobody(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops the fence under the snapshot that needs it."""
    monkeypatch.setattr("rehearsal.switchover.target.removal.require_no_fence", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        clean_up_with_a_snapshot_from_before(small)


def test_a_row_that_somebody_wrote_into_a_partition_since_the_rollback_is_not_dropped(small: Small) -> None:
    """A job that knows the partition by its name is told that the row is written, where the guard was taken off."""
    small.setup()
    small.switch()
    assert small.work.roll_back()
    small.run_sql("drop trigger rehearsal_rolled_back_t on t_y2026m01")
    small.run_sql("insert into t_y2026m01 (id, at, v) values (900001, '2026-01-05', 5)")
    with pytest.raises(PreconditionError, match="1 rows differ; nothing was dropped"):
        small.clean_up()
    assert scalar(small.conn, "select count(*) from public.t_y2026m01 where id = 900001") == 1
    small.run_sql("delete from t_y2026m01 where id = 900001")
    small.clean_up()
    assert small.conn.execute(LEFT).fetchall() == []


def test_a_rollback_by_an_earlier_version_is_one(small: Small) -> None:
    """It wrote nothing of it down; the second run still changes nothing."""
    small.setup()
    small.switch()
    assert small.work.roll_back()
    small.conn.execute("update rehearsal.migration set detail = detail - 'rolled_back'")
    assert db.roll_back_table(small.work, small.conn) == "no change"
    assert scalar(small.conn, "select to_regclass('public.t_partitioned') is not null")
    small.clean_up()


def test_a_column_of_the_application_is_neither_filled_nor_dropped(small: Small) -> None:
    """It has the name that the partition key of the referencing table would have."""
    small.setup(
        TABLE + CHILD + "alter table child add column t_id_at timestamptz;", references={"child_t": "composite"}
    )
    with pytest.raises(PreconditionError, match="has a column t_id_at already"):
        small.work.prepare()
    assert small.work.roll_back()
    assert scalar(small.conn, "select count(*) from public.child where t_id_at is null") == 100


def test_a_removal_that_was_killed_in_its_middle_goes_on_either_way(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the partition keys and the target: forwards they are made again, backwards the rest goes."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    small.setup(TABLE + CHILD, references={"child_t": "composite"})
    before = facts(small, "child")
    small.work.prepare()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(removal, "remove_target", killed)
            with pytest.raises(KeyboardInterrupt):
                small.work.roll_back()
        small.switch()
        small.verify()
        assert small.work.roll_back()
        assert state.read_migration(small.conn, small.work.names.source).state == state.FOLLOWING
        small.conn.execute("update rehearsal.migration set detail = detail - 'rolled_back' - 'indexes'")
    assert small.work.roll_back()
    assert facts(small, "child") == before


def test_mutant_a_rollback_that_knows_swaps_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: what has not been exchanged could not be taken back, and TRUNCATE stayed refused."""

    def refuse(*_: object) -> None:
        message = "there is no swap to take back"
        raise PreconditionError(message)

    monkeypatch.setattr(copied, "give_up", refuse)
    with pytest.raises(PreconditionError, match="no swap"):
        test_it_is_given_up_in_every_state_before_the_exchange(small, monkeypatch, "swap", follows)


def test_the_strategy_of_a_table_can_be_changed_once_its_switchover_is_ended(small: Small) -> None:
    """The way on that the refusal names works: back, ended, and begun by the other plan."""
    small.setup(strategy="attach")
    small.switch()
    with pytest.raises(PreconditionError, match="with the strategy attach; this is plan"):
        other_plan(small, "swap").work.require_own(small.conn)
    other_plan(small, "attach").roll_back()
    small.clean_up()
    small.clean_up()
    assert small.conn.execute(LEFT).fetchall() == []

    deploy(small.conn, small.files, other_plan(small, "swap").plan)
    small.switch()
    small.verify()


def test_mutant_a_table_is_whoever_asks_for_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: another plan's rollback took the finished switchover of an attached table for one under way."""
    unasked = lambda work, conn: state.read_migration(conn, work.names.source)  # noqa: E731 -- in place of a method
    monkeypatch.setattr(TableWork, "migration", unasked)
    with pytest.raises((AssertionError, pytest.fail.Exception, PreconditionError)):
        test_nobody_gives_up_what_another_plan_has_made(small, "attach", "ready", "swap")


def test_mutant_a_removal_that_asks_for_no_strangers(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way: their rows went with the target."""
    monkeypatch.setattr(removal, "refuse_strangers", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_partition_that_somebody_added_is_not_dropped(small)
    assert scalar(small.conn, "select to_regclass('public.archive') is null")
