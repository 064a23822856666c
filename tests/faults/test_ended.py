"""A switchover that has ended, and how it ends: within the lock's budget, once, and with a word that is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from rehearsal.catalog.tables import split_name
from rehearsal.checks.preflight import run_preflight
from rehearsal.commands.db import take_flags_off
from rehearsal.commands.doctor import examine
from rehearsal.errors import LockNotAcquired, PreconditionError, StepFailed
from rehearsal.evidence.events import Note
from rehearsal.plan.model import Locks
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.changes import read_applied, render_changes
from rehearsal.switchover.dryrun import plan_read_only
from rehearsal.switchover.outdated import mend_targets
from rehearsal.switchover.target.removal import removal_sql
from tests.faults.small import TABLE, Small
from tests.fix_tables import NOW, deploy

BRIEFLY = Locks(timeout_ms=50, max_timeout_ms=50, attempts=3, budget_s=2)
WAITS = """
select count(*) from pg_catalog.pg_locks as l join pg_catalog.pg_stat_activity as a using (pid)
where l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and not l.granted and a.application_name like 'pg-rehearsal%'
"""


@contextmanager
def reading(small: Small) -> Iterator[None]:
    """Let the application read the table in a transaction that it leaves open."""
    with connect(small.database, autocommit=False, role="application") as reader:
        reader.execute("select from public.t limit 1")
        yield
        reader.rollback()


def switched(small: Small, way: str) -> None:
    """Bring the table to where only the clean-up is left."""
    small.setup(strategy="swap" if way == "swap" else "attach")
    small.switch()
    if way == "split":
        small.split()


@pytest.mark.parametrize("way", ["swap", "attach", "split"])
def test_a_clean_up_waits_within_the_budget_and_then_nothing_was_dropped(small: Small, way: str) -> None:
    """Whoever reads the table is not to queue behind a clean-up; run again, it ends."""
    switched(small, way)
    small.plan = small.plan.model_copy(update={"locks": BRIEFLY})
    before = state.read_migration(small.conn, small.work.names.source)
    small.conn.execute("set statement_timeout = '20s'")  # a wait without end fails here and does not hang
    with reading(small):
        with pytest.raises(LockNotAcquired, match=r"clean-up of public\.t|blocked by: .*application"):
            small.clean_up()
        now = state.read_migration(small.conn, small.work.names.source)
        assert (now.state, now.detail) == (before.state, before.detail)
        assert small.conn.execute(WAITS).fetchone() == (0,)
    small.clean_up()
    assert state.is_ended(small.conn, small.work.names.source)


@pytest.mark.parametrize("way", ["swap", "attach", "split"])
def test_what_has_ended_is_said_to_have_ended(small: Small, way: str) -> None:
    """No verb asks for `db.migrate` of a table that is partitioned, nor finds fault with it."""
    switched(small, way)
    small.clean_up()

    assert examine(small.context, small.conn, fix=False) == []
    found = run_preflight(small.conn, small.files, small.plan)
    assert [finding.id for finding in found if finding.severity == "blocker"] == ["table-kind"]
    for act in (small.work.prepare, small.work.switch, small.work.roll_back):
        with pytest.raises(PreconditionError, match=r"no switchover of it is under way.*nothing to do"):
            act()


def test_doctor_asks_for_no_foreign_keys_that_come_with_the_exchange(small: Small) -> None:
    """Before a swap and after its rollback the target has none: that is as it must be."""
    small.setup(
        "create table public.u (id int primary key); insert into public.u values (1);"
        "create table public.t (id bigint primary key, at timestamptz not null, v int references public.u);"
        "insert into public.t select n, '2026-01-01'::timestamptz + n * interval '2 hours', 1 "
        "from generate_series(1, 400) as n;"
    )
    small.work.prepare()
    assert [trouble.trouble for trouble in examine(small.context, small.conn, fix=False)] == []
    small.work.switch()
    assert [trouble.trouble for trouble in examine(small.context, small.conn, fix=False)] == []
    small.roll_back()
    assert [trouble.trouble for trouble in examine(small.context, small.conn, fix=False)] == []


def test_writers_do_not_trouble_a_dry_run(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others commit meanwhile is theirs; what the dry run itself would write is refused by PostgreSQL."""
    small.setup()
    small.run_sql("insert into t values (9999, '2026-01-05', 1)")
    acts = plan_read_only(small.conn, small.files, small.plan, NOW)
    assert [act.step for act in acts][-1] in {"end of the snapshot fence", "adopt"}

    def write_too(conn: psycopg.Connection[tuple[object, ...]], *_: object) -> list[object]:
        conn.execute("delete from public.t")
        return []

    monkeypatch.setattr("rehearsal.switchover.dryrun.plan_acts", write_too)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        plan_read_only(small.conn, small.files, small.plan, NOW)
    assert small.conn.execute("select count(*) from public.t").fetchone() == (401,)


def test_a_table_that_is_made_anew_after_its_clean_up_begins_anew(small: Small) -> None:
    """Nothing of the ended switchover keeps its name from being migrated again."""
    switched(small, "swap")
    small.clean_up()
    assert read_applied(small.conn) == {}, "what is applied already is not applied again"
    small.conn.execute("drop table public.t")

    small.setup()
    small.switch()
    small.verify()


def test_a_migration_that_was_killed_between_its_changes_is_gone_on_with(small: Small) -> None:
    """The target is there and its triggers are not yet: the next run makes them."""
    small.setup()
    names = small.work.names
    small.conn.execute(as_query(removal_sql(small.work)))
    first, second = render_changes(small.conn, small.files, small.plan, NOW)
    small.conn.execute(as_query(first.body))
    small.conn.execute(
        "insert into rehearsal.change (name, checksum, body) values (%s, 'test', %s)", [first.name, first.body]
    )

    mend_targets(small.conn, [small.work])
    assert first.name in read_applied(small.conn)
    small.conn.execute(as_query(second.body))

    assert [trigger for trigger in small.work.trigger_states(small.conn) if trigger.found != trigger.wanted] == []
    assert state.read_migration(small.conn, names.source).state == state.PREPARED
    small.switch()


@pytest.mark.parametrize("way", ["forth", "back"])
def test_a_column_that_came_to_both_tables_with_other_values_is_not_lost(small: Small, way: str) -> None:
    """Two definitions alike say nothing of values that no trigger has seen: rows are compared before names change."""
    small.setup()
    small.work.prepare()
    live, other = "t", "t_partitioned"
    if way == "back":
        small.work.switch()
        other = "t_old"
    small.run_sql(f"alter table {live} add column e text default 'x'")
    small.run_sql(f"alter table {other} add column e text; alter table {other} alter column e set default 'x'")

    with pytest.raises(PreconditionError, match=r"columns of public\.t\w* were altered.*rows differ"):
        small.work.switch() if way == "forth" else small.work.roll_back()
    assert small.conn.execute("select count(e) from public.t").fetchone() == (400,)

    small.run_sql(f"update {other} set e = 'x'")
    assert small.work.switch() if way == "forth" else small.work.roll_back()
    assert small.conn.execute("select count(e) from public.t").fetchone() == (400,)


def test_doctor_builds_no_index_under_writers(small: Small) -> None:
    """A mirrored target is written by every write of the application: its index is not built with them waiting."""
    small.setup(TABLE + "create index t_v on public.t (v);")
    small.work.prepare()
    small.conn.execute("drop index public.t_v_partitioned")
    found = examine(small.context, small.conn, fix=True)
    assert [(finding.fixed, finding.remedy) for finding in found if "t_v" in finding.trouble]
    assert examine(small.context, small.conn, fix=False) == []
    small.conn.execute("drop index public.t_v_partitioned")
    small.conn.execute("update rehearsal.migration set state = 'mirrored'")
    left = [
        trouble for trouble in examine(small.context, small.conn, fix=True) if trouble.trouble.startswith("indexes")
    ]
    assert left
    assert all("create index concurrently" in trouble.remedy and not trouble.fixed for trouble in left)


def test_a_partition_that_came_has_a_remedy_for_partitions(small: Small) -> None:
    """Before the swap: `db.migrate` would not mend it, so it is not named. After it, one that came goes along."""
    small.setup()
    small.work.prepare()
    small.run_sql("create table came partition of t_partitioned for values from ('2030-01-01') to ('2030-02-01')")
    with pytest.raises(PreconditionError, match=r"partition public\.came .*Detach a partition that came") as refused:
        small.work.switch()
    assert "db.migrate" not in str(refused.value)
    small.run_sql("alter table t_partitioned detach partition came; drop table came")
    assert small.work.switch()
    small.run_sql("create table came partition of t for values from ('2030-01-01') to ('2030-02-01')")
    assert small.work.roll_back()


def test_a_foreign_key_that_came_is_refused_with_what_to_do(small: Small) -> None:
    """It came since the switchover, so the plan has no decision for it; nothing is changed."""
    small.setup()
    small.switch()
    small.run_sql("create table kid (a bigint, b timestamptz, foreign key (a, b) references t (id, at))")
    with pytest.raises(StepFailed, match=r"kid_a_b_fkey.*drop it, run again"):
        small.work.roll_back()
    small.run_sql("drop table kid")
    assert small.work.roll_back()


def test_a_rollback_without_app_servers_says_where_the_flags_are(small: Small) -> None:
    """A database alone can be switched over, so it can be rolled back too."""
    small.setup(strategy="swap")
    assert small.context.env.app_servers == ()
    assert take_flags_off(small.context)
    said = [event.what.text for event in small.run.events() if isinstance(event.what, Note)]
    assert "no app server" in said[-1]


@pytest.mark.parametrize(
    ("strategy", "table", "way"),
    [("swap", "t", "forth"), ("swap", "t_old", "back"), ("swap", "t", "back"), ("dual-write", "t", "forth")],
)
def test_values_that_a_rewrite_changed_are_not_lost(small: Small, strategy: str, table: str, way: str) -> None:
    """ALTER TABLE with USING changes values where they stand; no trigger sees it, and the type may be what it was."""
    small.setup(strategy=strategy)
    small.work.prepare()
    if way == "back":
        small.work.switch()
    small.run_sql(f"alter table {table} alter column v type int using v + 1000")

    with pytest.raises(PreconditionError, match=r"rewritten.*rows differ"):
        small.work.switch() if way == "forth" else small.work.roll_back()


def test_a_rewrite_that_changed_nothing_bars_nothing(small: Small) -> None:
    """Rows are compared, and are the same."""
    small.setup()
    small.work.prepare()
    small.run_sql("vacuum full t")
    assert small.work.switch()
    small.run_sql("vacuum full t_old")
    assert small.work.roll_back()


def test_a_target_is_brought_up_to_date_within_the_budget(small: Small) -> None:
    """Before its copy a dual-write target is mirrored, so the application's writes hold locks on it."""
    small.setup(strategy="dual-write")
    small.plan = small.plan.model_copy(update={"locks": BRIEFLY})
    small.run_sql("comment on column t.v is 'said since'")
    small.conn.execute("set statement_timeout = '20s'")  # a wait without end fails here and does not hang
    with connect(small.database, autocommit=False, role="application") as writer:
        writer.execute("insert into public.t values (9999, '2026-01-05', 1)")
        with pytest.raises(LockNotAcquired, match=r"target of public\.t.*application"):
            mend_targets(small.conn, [small.work])
        writer.rollback()
    mend_targets(small.conn, [small.work])
    mend_targets(small.conn, [small.work])


def test_a_clean_up_that_was_killed_between_two_tables_is_gone_on_with(small: Small) -> None:
    """The first table has ended; the second run ends the other one, and a third changes nothing."""
    more = "create table public.u (like public.t including all); insert into public.u select * from public.t;"
    small.setup(TABLE + more)
    other = small.plan.tables[0].model_copy(update={"name": "public.u"})
    first, both = small.plan, small.plan.model_copy(update={"tables": [*small.plan.tables, other]})
    deploy(small.conn, small.files, both.model_copy(update={"tables": [other]}))
    small.plan = both
    for spec in both.tables:
        work = small.context.switchover(spec)
        work.prepare()
        work.switch()
    small.plan = first
    small.clean_up()

    small.plan = both
    small.clean_up()
    assert all(state.is_ended(small.conn, split_name(spec.name)) for spec in both.tables)
    small.clean_up()
