"""`doctor` finds each symptom of the runbook that the database can tell: caused, found, mended, and then nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from rehearsal.commands.doctor import examine
from rehearsal.commands.symptoms import partitions, waits
from rehearsal.commands.symptoms.partitions import unattended
from rehearsal.commands.symptoms.trouble import Trouble
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import connect, scalar
from tests.faults.small import Small
from tests.postgres.lifecycle.kept import JANUARY, Kept
from tests.waiting import eventually

DEFAULT = "create table public.t_default partition of public.t default;"


@pytest.fixture
def kept(small: Small) -> Kept:
    """`public.t`, partitioned and adopted, and a plan that names it."""
    spec = {"name": "public.t", "key": "at"}
    small.plan = Plan.model_validate({"name": "kept", "strategy": "swap", "tables": [spec]})
    kept = Kept(small.conn, small.files)
    kept.setup(retention="3 months")
    kept.premake()
    kept.run_sql("analyze public.t")
    return kept


def found(small: Small, *, fix: bool = False) -> list[Trouble]:
    """Return what doctor finds."""
    return examine(small.context, small.conn, fix=fix)


def said(small: Small) -> str:
    """Return it as text."""
    return "; ".join(f"{trouble.subject}: {trouble.trouble} ({trouble.remedy})" for trouble in found(small))


def mended(small: Small) -> None:
    """All of it is mended, and a second time there is nothing."""
    troubles = found(small, fix=True)
    assert troubles
    assert [trouble for trouble in troubles if not trouble.fixed] == []
    assert found(small, fix=True) == []


def test_what_is_well_is_not_complained_of(small: Small, kept: Kept) -> None:
    """Adopted, made ahead, nothing late."""
    assert found(small, fix=True) == []
    assert kept.to_make() == []


def test_too_few_partitions_ahead_are_made(small: Small, kept: Kept) -> None:
    """A premake that did not run for two months."""
    kept.adopt(retention=None)
    kept.pass_to(datetime(2026, 3, 20, tzinfo=UTC))
    assert "partitions are ready ahead" in said(small)
    assert "lifecycle.premake" in said(small)
    mended(small)
    assert kept.to_make() == []


def test_an_interrupted_detachment_is_finished(small: Small, kept: Kept) -> None:
    """Its rows are out of the table, and it is not dropped."""
    with connect(small.database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t")
        kept.run_sql("set lock_timeout = 200")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            kept.run_sql("alter table public.t detach partition public.t_first concurrently")
        kept.run_sql("set lock_timeout = 0")
    assert "DETACH CONCURRENTLY of t_first was interrupted" in said(small)
    mended(small)
    assert scalar(small.conn, "select count(*) from public.t_first") == 0


def test_an_interrupted_detachment_of_a_table_that_nobody_looks_after_is_named(small: Small, kept: Kept) -> None:
    """With the statement that finishes it."""
    kept.run_sql("delete from rehearsal.lifecycle_policy")
    with connect(small.database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t")
        kept.run_sql("set lock_timeout = 200")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            kept.run_sql("alter table public.t detach partition public.t_first concurrently")
        kept.run_sql("set lock_timeout = 0")
    [trouble] = found(small, fix=True)
    assert not trouble.fixed
    kept.run_sql(trouble.remedy)
    assert found(small) == []


def test_functions_of_another_version_are_installed_again_but_not_in_production(small: Small, kept: Kept) -> None:
    """There their text was agreed to; it changes by an adoption, with its GO."""
    kept.adopt(retention=None)
    kept.run_sql("update rehearsal.lifecycle_code set checksum = 'another'")
    assert "another version (run `./inv lifecycle.adopt`" in said(small)
    context = small.context
    there = replace(context, env=replace(context.env, kind="production"))
    assert [trouble.fixed for trouble in examine(there, small.conn, fix=True)] == [False]
    kept.run_sql("create or replace function rehearsal.lifecycle_floor(place numeric, every text, zone text) "
                 "returns numeric language sql as 'select 1.0'")  # fmt: skip
    assert found(small, fix=True)[0].fixed
    kept.pass_to(JANUARY)
    assert found(small, fix=True) == []


def test_rows_in_the_default_partition_are_found(small: Small, kept: Kept) -> None:
    """Adopted or not; moving them is for people."""
    kept.run_sql(DEFAULT + "insert into public.t (at, v) values ('1999-01-01', 1); analyze public.t")
    assert "default partition public.t_default has rows" in said(small)
    assert not any(trouble.fixed for trouble in found(small, fix=True))
    kept.run_sql("delete from rehearsal.lifecycle_policy")
    assert "default partition public.t_default has rows" in said(small)
    kept.run_sql("delete from public.t_default")
    assert found(small) == []


def test_a_retention_that_lags_is_found_and_ends_by_its_verb(
    small: Small, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days after it was due; detaching is never a remedy of doctor's, nor is dropping what was held too long."""
    late = datetime(2026, 5, 20, tzinfo=UTC)
    monkeypatch.setattr(partitions, "runner_time", lambda: kept.now)
    kept.write(datetime(2026, 1, 5, tzinfo=UTC))
    kept.run_sql("analyze public.t")
    kept.pass_to(late)
    kept.premake()
    kept.run_sql("insert into public.t (at, v) values ('2026-05-19', 1); analyze public.t")
    assert "past their retention for 2 days and more" in said(small)
    assert "lifecycle.retain" in said(small)
    assert not any(trouble.fixed for trouble in found(small, fix=True))
    kept.retain()
    assert found(small) == []
    kept.pass_to(late + timedelta(days=8))
    assert found(small) == []
    kept.pass_to(late + timedelta(days=10))
    assert "public.t_first is held since" in said(small)
    kept.run_sql("insert into public.t (at, v) values ('2026-05-28', 1)")
    kept.retain()
    assert found(small) == []


def test_a_partition_that_lacks_an_index_is_found(small: Small, kept: Kept) -> None:
    """What premake made is compared with its sibling."""
    kept.run_sql("create index only_first on public.t_first (v, at)")
    assert "is not like public.t_first" in said(small)
    kept.run_sql("drop index public.only_first")
    assert found(small) == []


@contextmanager
def waiting(small: Small) -> Iterator[None]:
    """Let a session wait for another one's lock of the table."""
    with (
        connect(small.database, autocommit=False, role="report") as holder,
        connect(small.database, role="shop") as other,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute("lock table public.t in access exclusive mode")
        asks = pool.submit(other.execute, "select count(*) from public.t")
        query = "select count(*) from pg_catalog.pg_locks where not granted and pid = %s"
        eventually(lambda: scalar(small.conn, query, [other.info.backend_pid]))
        yield
        holder.rollback()
        asks.result(30)


def test_a_lock_that_is_not_granted_is_found_with_who_blocks(
    small: Small, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sessions are named; who waits for less than seconds is nobody's trouble."""
    assert kept.bounds()
    with waiting(small):
        monkeypatch.setattr(waits, "WAITS_S", 10_000)
        assert waits.examine_waits(small.context, small.conn) == []
        monkeypatch.setattr(waits, "WAITS_S", 0)
        [trouble] = found(small)
        assert "(pg-rehearsal shop) has waited" in trouble.trouble
        assert "(pg-rehearsal report, idle in transaction" in trouble.trouble
        assert "pg_terminate_backend" in trouble.remedy
    assert found(small) == []


@pytest.mark.parametrize("way", ["before", "after"])
def test_a_change_log_that_nobody_follows_is_replayed(small: Small, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Before the swap and after it; nobody waits for that."""
    monkeypatch.setattr(waits, "MANY_KEYS", 50)
    small.setup()
    small.work.prepare()
    if way == "after":
        small.work.switch()
    assert found(small) == []
    small.run_sql("update t set v = v + 1 where id <= 60")
    assert "grows: over 50 keys" in said(small)
    assert "nobody follows since" in said(small)
    mended(small)
    small.verify()


def test_a_change_log_of_a_copy_that_stopped_is_named(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be replayed before the copy has ended."""
    monkeypatch.setattr(waits, "MANY_KEYS", 50)
    small.setup()
    small.work.prepare()
    small.conn.execute("update rehearsal.migration set state = 'copying'")
    small.run_sql("update t set v = v + 1 where id <= 60")
    assert "db.switchover`, which goes on, or give it up" in said(small)


def test_who_is_partitioned_for_good_and_not_looked_after_is_hinted_at(small: Small, kept: Kept) -> None:
    """A hint is no trouble."""
    assert unattended(small.context, small.conn) == []
    kept.run_sql("delete from rehearsal.lifecycle_policy")
    assert found(small) == []
    assert "lifecycle.adopt" in unattended(small.context, small.conn)[0]
