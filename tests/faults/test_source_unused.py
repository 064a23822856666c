"""Who uses the source of dual-write as it is about to go: seen, counted, or somebody has to say that nobody does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from rehearsal.commands import cleanup
from rehearsal.errors import PreconditionError
from rehearsal.plan.model import Locks
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state, unused
from tests.faults.small import TABLE, Small
from tests.faults.test_target_stays import LEGACY, TARGET, application, assert_ended, keep, mirrored, notes
from tests.waiting import eventually
from tests.writing import at_work


def test_who_reads_the_source_is_named(small: Small) -> None:
    """By an open transaction, by the text of a statement, or by scans that no mirror makes."""
    mirrored(small)
    with application(small) as app:
        app.execute("begin; select from public.t limit 1; select 1")
        with pytest.raises(PreconditionError, match=r"public\.t is used still: pid \d+ \(shop"):
            keep(small)
        app.execute("rollback")
    keep(small)


@contextmanager
def reading(small: Small, query: str) -> Iterator[None]:
    """Let a session of the application run a query again and again, a transaction each."""
    with application(small) as app:

        def read(stop: threading.Event) -> None:
            while not stop.is_set():
                app.execute(as_query(query))

        with at_work(read):
            yield


def test_who_reads_for_a_moment_now_and_then_is_named(small: Small) -> None:
    """By the text of its statements; whoever reads a view of it goes along with the view."""
    mirrored(small, TABLE + "create view seen as select * from t where v > 3;")
    with reading(small, "select v from public.t where id = 3"), pytest.raises(PreconditionError, match="used still"):
        keep(small)
    with reading(small, "select count(*) from public.seen"):
        keep(small)
    assert_ended(small, TARGET)


def test_what_is_read_unseen_is_counted(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a text that says nothing, between two looks at the locks: no mirror reads while nobody writes."""
    monkeypatch.setattr(unused, "_refuse_users", lambda *_: None)
    mirrored(small)
    small.plan = small.plan.model_copy(update={"unused_s": 4.0})
    small.run_sql("create function hidden() returns bigint language plpgsql as "
                  "$$ begin return (select count(*) from public . t); end $$")  # fmt: skip
    spec = small.plan.tables[0].model_copy(update={"accepted": ["function public.hidden(): names public.t"]})
    small.plan = small.plan.model_copy(update={"tables": [spec]})
    with reading(small, "select public.hidden()"), pytest.raises(PreconditionError, match="was read in the last 4 s"):
        keep(small)
    keep(small)


def test_a_plain_writer_between_two_looks_is_counted(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pg_stat_statements, whatever was run since; what names another table, or the target by an alias, is none."""
    monkeypatch.setattr(unused, "_refuse_users", lambda *_: None)
    mirrored(small)
    small.run_sql("create extension pg_stat_statements schema public")
    writing = "insert into /* app */ public.t values (nextval('public.s'), '2026-01-05', 1)"
    small.run_sql("create sequence s start 10000")
    with reading(small, writing), pytest.raises(PreconditionError, match=r"clients name it, \d+ times: insert into"):
        keep(small)
    with reading(small, "update public.t_partitioned as t set v = 1 where t.id = 3"):
        keep(small)
    assert_ended(small, TARGET)


def test_without_counted_statements_somebody_has_to_say_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """App servers alone do not: a watch of so few seconds sees only moments."""
    mirrored(small)
    monkeypatch.setattr(cleanup, "used_side", lambda *_: "target")
    with pytest.raises(PreconditionError, match=r"no pg_stat_statements.*unused_s = 600.*--leads target"):
        cleanup.clean_up(small.context, small.conn)
    keep(small)
    assert any("only the statements of moments were seen" in said for said in notes(small))


def test_a_role_that_sees_nobody_drops_nothing(small: Small) -> None:
    """It is told what to grant."""
    mirrored(small)
    small.run_sql("create role sees_nobody")
    try:
        small.conn.execute("set role sees_nobody")
        pairs = [unused.Watched(LEGACY, TARGET)]
        with pytest.raises(PreconditionError, match='grant pg_monitor to "sees_nobody"'):
            unused.Lookout.begin(small.conn, small.files, pairs, 1)
    finally:
        small.conn.execute("reset role")
        small.run_sql("drop role sees_nobody")


def test_statistics_that_were_reset_say_nothing(small: Small) -> None:
    """Whoever resets them while somebody is looked for hides them."""
    mirrored(small)
    lookout = unused.Lookout.begin(small.conn, small.files, [unused.Watched(LEGACY, TARGET)], 1)
    small.run_sql("select pg_catalog.pg_stat_reset()")
    with pytest.raises(PreconditionError, match="was reset meanwhile"):
        lookout.watch(small.conn, 1)
    small.run_sql("create extension pg_stat_statements schema public; select count(*) from public.t")
    lookout = unused.Lookout.begin(small.conn, small.files, [unused.Watched(LEGACY, TARGET)], 1)
    small.run_sql("select public.pg_stat_statements_reset()")
    with pytest.raises(PreconditionError, match="pg_stat_statements was reset meanwhile"):
        lookout.watch(small.conn, 1)


def test_foreign_keys_of_the_source_explain_no_scan_of_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """They look up rows of other tables."""
    monkeypatch.setattr(unused, "_refuse_users", lambda *_: None)
    mirrored(small, "create table ref (id bigint primary key); insert into ref select generate_series(0, 100);" + TABLE
             + "alter table t add constraint t_ref foreign key (v) references ref (id);")  # fmt: skip
    small.plan = small.plan.model_copy(update={"unused_s": 4.0})
    reader = reading(small, "select count(*) from public.t where v = 3")
    with reader, pytest.raises(PreconditionError, match="was read in the last 4 s"):
        keep(small)


def test_who_comes_while_the_lock_is_waited_for_is_seen(small: Small) -> None:
    """The watch has ended by then; under the lock there is another look."""
    mirrored(small)
    patiently = Locks(timeout_ms=50, max_timeout_ms=100, attempts=1000, budget_s=120)
    small.plan = small.plan.model_copy(update={"locks": patiently})
    with application(small) as holder, application(small) as late, ThreadPoolExecutor(1) as pool:
        holder.execute("begin; select from public.t_partitioned limit 1")
        ending = pool.submit(keep, small)
        eventually(lambda: any("was watched" in said for said in notes(small)) or ending.done(), 60)
        late.execute("insert into public.t values (9001, '2026-01-05', 1)")
        holder.execute("rollback")
        with pytest.raises(PreconditionError, match=r"used still: pid \d+ \(shop.*insert into public\.t"):
            ending.result(60)
    assert state.read_migration(small.conn, LEGACY).state == state.MIRRORED
    small.verify()
