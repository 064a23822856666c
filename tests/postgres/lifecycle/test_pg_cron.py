"""Jobs of the real pg_cron make, detach and drop what is due, without anybody; where there is none, it is said."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.cluster import Cluster, find_binaries
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.code import install_code
from rehearsal.lifecycle.cron import JOBS, CronJobs
from rehearsal.lifecycle.policy import Wish, write_policy
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.waiting import eventually

PATIENCE_S = 600
SETUP = ("create role keeper login password 'keeper'", "create database kept owner keeper")
# Seven months of which four are past their retention; a row in each.
MONTHS = """
create table public.t (at timestamptz not null) partition by range (at);
do $$
declare
    first timestamptz := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC';
begin
    for n in 0..6 loop
        execute format('create table public.t_%s partition of public.t for values from (%L) to (%L)', n,
                       first - (6 - n) * interval '1 month', first - (5 - n) * interval '1 month');
        insert into public.t values (first - (6 - n) * interval '1 month');
    end loop;
    insert into public.t values (now());
end
$$
"""
LEFT = "select array_agg(relname::text order by relname) from pg_class where relname ~ '^t_[0-6]$'"
FAILED = "select array_agg(return_message) from cron.job_run_details where status = 'failed'"


@dataclass(frozen=True)
class Cron:
    """A server with pg_cron, whose jobs are in database `kept`; its owner is no superuser."""

    admin: Database
    keeper: Database


@pytest.fixture(scope="module")
def cron() -> Iterator[Cron]:
    """A server of its own: the library has to be preloaded."""
    if not (find_binaries().folder.parent / "lib" / "pg_cron.so").exists():
        pytest.skip("needs pg_cron: apt-get install postgresql-15-cron")
    base = Path(tempfile.mkdtemp(prefix="pgr-cron-"))
    base.chmod(0o711)
    cluster = Cluster(base)
    settings = {"fsync": "off", "shared_preload_libraries": "'pg_cron'", "cron.database_name": "'kept'"}
    try:
        cluster.start(settings={**settings, "cron.use_background_workers": "on", "timezone": "'Asia/Kathmandu'"})
        port = cluster.facts()["port"]
        with connect(Database("127.0.0.1", port, "postgres", "postgres", cluster.password())) as conn:
            for statement in SETUP:
                conn.execute(as_query(statement))
        yield Cron(
            Database("127.0.0.1", port, "kept", "postgres", cluster.password()),
            Database("127.0.0.1", port, "kept", "keeper", "keeper"),
        )
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def keeper(cron: Cron, sql_files: SqlFiles) -> Iterator[Connection]:
    """A session of the owner, with the registry and the functions, and with jobs of pg_cron to be had."""
    with connect(cron.admin) as conn:
        conn.execute("create extension if not exists pg_cron")
        conn.execute("grant usage on schema cron to keeper")
        conn.execute("grant create on schema public to keeper")
    with connect(cron.keeper) as conn:
        conn.execute("drop schema if exists rehearsal cascade")
        conn.execute("drop table if exists public.t cascade")
        conn.execute(sql_files.query("registry.sql"))
        with conn.transaction():
            install_code(conn, sql_files)
        yield conn
        CronJobs(conn).remove()


def test_what_is_missing_is_said_as_the_statement_that_gives_it(cron: Cron) -> None:
    """The extension, then the right."""
    with connect(cron.admin) as conn, connect(cron.keeper) as keeper:
        conn.execute("drop extension if exists pg_cron")
        with pytest.raises(PreconditionError, match="create extension pg_cron"):
            CronJobs(keeper).require()
        conn.execute("create extension pg_cron")
        conn.execute("revoke usage on schema cron from public, keeper")
        with pytest.raises(PreconditionError, match='grant usage on schema cron to "keeper"'):
            CronJobs(keeper).require()
        conn.execute("grant usage on schema cron to keeper")
        CronJobs(keeper).require()


def seen(cron: Cron, query: str) -> Any:
    """Ask as the superuser, to whom the policies of pg_cron show all."""
    with connect(cron.admin) as conn:
        return scalar(conn, query)


def test_jobs_come_once_are_mended_and_go(cron: Cron, keeper: Connection) -> None:
    """Apply, apply again, change, apply, revert, revert again; those of others stay."""
    jobs = CronJobs(keeper)
    other = scalar(keeper, "select cron.schedule('other', '0 0 * * *', 'select 1')")
    assert jobs.bring() == list(JOBS)
    assert jobs.bring() == []
    alter = "select cron.alter_job(jobid, {}) from cron.job where jobname = 'pg-lifecycle {}'"
    seen(cron, alter.format("schedule => '0 0 1 1 *'", "retain"))
    seen(cron, alter.format("active => false", "premake"))
    assert sorted(jobs.bring()) == ["pg-lifecycle premake", "pg-lifecycle retain"]
    assert jobs.missing() == []
    assert sorted(jobs.there()) == sorted(JOBS)
    assert jobs.remove() == len(JOBS)
    assert jobs.remove() == 0
    assert seen(cron, "select count(*) from cron.job") == 1
    keeper.execute("select cron.unschedule(%s::bigint)", [other])


def test_each_statement_of_the_queue_becomes_one_job_and_goes_when_it_is_done(cron: Cron, keeper: Connection) -> None:
    """A second dispatch changes nothing; what is done by somebody else is not tried again."""
    adopted(keeper)
    keeper.execute("call rehearsal.lifecycle_run('retain')")
    queue = [row[0] for row in keeper.execute("select rehearsal.lifecycle_queue()")]
    assert len(queue) == 4
    command = "select array_agg(command order by command) from cron.job where jobname like 'pg-lifecycle detach %'"
    for _ in range(2):
        keeper.execute("select rehearsal.lifecycle_dispatch()")
        assert seen(cron, command) == sorted(queue)
    for statement in queue:
        keeper.execute(as_query(statement))
    keeper.execute("call rehearsal.lifecycle_run('finish')")
    keeper.execute("select rehearsal.lifecycle_dispatch()")
    assert seen(cron, command) is None


@pytest.mark.hours
def test_jobs_do_all_of_it_alone(cron: Cron, keeper: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every minute instead of every night: leaves are made, detached CONCURRENTLY, and dropped; no job fails."""
    adopted(keeper)
    each_minute = {name: ("* * * * *", command) for name, (_, command) in JOBS.items() if name != "pg-lifecycle finish"}
    # Two minutes after the queue is dispatched it is done; to finish earlier is to say that it is not.
    finish = {"pg-lifecycle finish": ("*/3 * * * *", JOBS["pg-lifecycle finish"][1])}
    monkeypatch.setattr("rehearsal.lifecycle.cron.JOBS", {**each_minute, **finish})
    CronJobs(keeper).bring()
    eventually(lambda: scalar(keeper, LEFT) == ["t_4", "t_5", "t_6"], PATIENCE_S)
    assert scalar(keeper, "select count(*) from public.t") == 4
    made = "select count(*) from rehearsal.lifecycle_history where act = 'premake'"
    assert scalar(keeper, made) == 2
    dispatched = "select count(*) from cron.job where jobname like 'pg-lifecycle detach %'"
    eventually(lambda: seen(cron, dispatched) == 0, PATIENCE_S)
    # Every minute all jobs begin at once, so that one waits for no other; a detachment is tried until it is swept.
    expected = ("could not be detached", "is not a partition", "does not exist", "another run holds")
    assert [said for said in seen(cron, FAILED) or [] if not any(text in said for text in expected)] == []


def adopted(conn: Connection) -> None:
    """Make the table, and look after it: two months ahead, two kept, nothing held."""
    conn.execute(as_query(MONTHS))
    with conn.transaction():
        write_policy(conn, "cron", Wish(("public", "t"), "1 month", 2, "2 months", "0 days", most=12))
