"""A clock without Python: the scripts of every clock, run by the real psql."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql

from fleet.clock import JOBS
from fleet.cluster import Cluster
from fleet.templates import render
from rehearsal.environment import Database
from rehearsal.postgres.connection import advisory_lock, connect, scalar
from rehearsal.postgres.sqlfiles import as_query
from tests.fix_postgres import ROOT
from tests.postgres.lifecycle.kept import Kept
from tests.postgres.lifecycle.test_premake import LEFT, OLD, WITH_DEFAULT
from tests.postgres.lifecycle.test_retain import YEAR, past
from tests.waiting import eventually

PREMAKE, RETAIN = (render(f"lifecycle/{job}.sql.j2") for job in JOBS)
FAILED = 3
Psql = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def psql(database: Database, cluster: Cluster, tmp_path: Path) -> Psql:
    """Run a script by psql as a clock does; `runner` is what its host takes for the time."""

    def run(script: str, name: str, runner: datetime | None = None) -> subprocess.CompletedProcess[str]:
        if runner:
            script = re.sub(r"`date.*`", f"'{runner.isoformat()}'", script)
        path = tmp_path / f"{name}.sql"
        path.write_text(script)
        env = {
            **os.environ,
            "PGHOST": database.host,
            "PGPORT": str(database.port),
            "PGDATABASE": database.name,
            "PGUSER": database.user,
            "PGPASSWORD": cluster.password(),
            "PGAPPNAME": f"pg-rehearsal lifecycle.{name}",
            "PGTZ": "Asia/Kathmandu",
        }
        command = ["psql", "--no-psqlrc", "--file", str(path)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


def test_the_how_to_has_the_scripts_that_the_clocks_run() -> None:
    """Whoever has another clock copies them from there."""
    howto = (ROOT / "docs" / "howto" / "keep-it-running.md").read_text(encoding="utf-8")
    bare = [re.sub(r"\A(--.*\n)+", "", script) for script in (PREMAKE, RETAIN)]
    assert re.findall(r"```sql\n(.*?)```", howto, re.DOTALL) == bare


def test_premake_by_psql_makes_what_the_verb_would_make(kept: Kept, psql: Psql) -> None:
    """And then nothing."""
    kept.setup()
    acts = kept.to_make()
    assert psql(PREMAKE, "premake").returncode == 0
    assert kept.to_make() == []
    made = kept.conn.execute(
        "select leaf from rehearsal.lifecycle_history where act = 'premake' order by id"
    ).fetchall()
    assert [row[0] for row in made] == [act.leaf for act in acts]
    assert psql(PREMAKE, "premake").returncode == 0
    assert not kept.standing().wrong


@pytest.mark.parametrize("more", ["", "create table public.t_rest partition of public.t default;"])
def test_retain_by_psql_detaches_holds_and_drops(kept: Kept, psql: Psql, more: str) -> None:
    """CONCURRENTLY where there is no default partition; the second run of the day changes nothing."""
    past(kept, YEAR + more)
    assert (done := psql(RETAIN, "retain", kept.now)).returncode == 0, done.stderr
    assert {held.leaf for held in kept.standing().held} == {"public.t_first", "public.t_m2", "public.t_m3"}
    assert scalar(kept.conn, "select count(*) from public.t") == 4
    assert psql(RETAIN, "retain", kept.now).returncode == 0
    kept.pass_to(datetime(2026, 7, 23, tzinfo=UTC))
    assert psql(RETAIN, "retain", kept.now).returncode == 0
    assert scalar(kept.conn, "select to_regclass('public.t_first')::text") is None
    assert kept.standing().held == []


def test_what_was_interrupted_is_finished_by_the_next_run(kept: Kept, psql: Psql, database: Database) -> None:
    """An old transaction, and a wait that ends."""
    past(kept)
    short = RETAIN.replace("120s", "300ms")
    with connect(database, role="app") as other, other.transaction():
        other.execute("select count(*) from public.t")
        assert psql(short, "retain", kept.now).returncode == FAILED
        assert "pending-detach" in kept.ids()
    assert (done := psql(short, "retain", kept.now)).returncode == 0, done.stderr
    assert psql(short, "retain", kept.now).returncode == 0
    assert len(kept.standing().held) == 3
    assert kept.ids() == []


def test_a_clock_that_is_wrong_ends_with_a_failure_and_drops_nothing(kept: Kept, psql: Psql) -> None:
    """The host's clock is years ahead."""
    past(kept)
    done = psql(RETAIN, "retain", datetime(2030, 1, 1, tzinfo=UTC))
    assert done.returncode == FAILED
    assert "the runner" in done.stderr
    assert scalar(kept.conn, "select count(*) from public.t") == 7


def test_a_lock_that_is_not_granted_is_said_and_nothing_is_half_done(
    kept: Kept, psql: Psql, database: Database
) -> None:
    """The next run makes it."""
    kept.setup()
    with connect(database, role="app") as other, other.transaction():
        other.execute("lock table public.t in share row exclusive mode")
        done = psql(PREMAKE.replace("'premake'", "'premake', attempts => 2"), "premake")
        assert done.returncode == FAILED
        assert "lock timeout" in done.stderr
    assert scalar(kept.conn, "select to_regclass('public.t_y2026m02')::text") is None
    assert psql(PREMAKE, "premake").returncode == 0


def test_a_check_that_fails_is_taken_off(kept: Kept, psql: Psql) -> None:
    """It would refuse rows of the application."""
    kept.setup(WITH_DEFAULT)
    kept.run_sql(OLD)
    kept.run_sql("""
        create function public.late() returns event_trigger language plpgsql as $$
        begin
            if not exists (select from public.t where v = 999999) then
                insert into public.t (at, v) values ('2026-02-05+00', 999999);
            end if;
        end $$;
        create event trigger late on ddl_command_start when tag in ('ALTER TABLE') execute function public.late();
    """)
    assert psql(PREMAKE, "premake").returncode == FAILED
    assert scalar(kept.conn, LEFT) == 0


def test_two_clocks_one_works_and_the_other_says_who(kept: Kept, psql: Psql, database: Database) -> None:
    """The lock is that of the verbs."""
    kept.setup()
    with connect(database, role="lifecycle.premake") as first, advisory_lock(first, "lifecycle.premake public.t"):
        done = psql(PREMAKE, "premake")
    assert done.returncode == FAILED
    assert "pg-rehearsal lifecycle.premake" in done.stderr


def test_a_leaf_that_is_refused_beside_a_default_partition_is_a_failure(kept: Kept, psql: Psql) -> None:
    """The others go, and the clock does not say that all is well."""
    past(kept, f"{YEAR}create table public.t_rest partition of public.t default;")
    kept.run_sql(
        "create table public.child (t bigint, at timestamptz, foreign key (t, at) references public.t); "
        "insert into public.child select id, at from public.t order by at limit 1"
    )
    assert psql(RETAIN, "retain", kept.now).returncode == FAILED
    assert {held.leaf for held in kept.standing().held} == {"public.t_m2", "public.t_m3"}


WRITTEN = "insert into public.t_m2 select id + 1000, at, 4711 from public.t_m2 limit 1"


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_default_isolation_makes_nothing_older_than_its_lock(
    kept: Kept, psql: Psql, database: Database, isolation: str
) -> None:
    """A held leaf that somebody attaches while its drop waits for him is in use again, and stays."""
    past(kept)
    assert psql(RETAIN, "retain", kept.now).returncode == 0
    kept.pass_to(datetime(2026, 7, 23, tzinfo=UTC))
    name = sql.Identifier(database.name)
    setting = sql.SQL("alter database {} set default_transaction_isolation = {}")
    kept.conn.execute(setting.format(name, sql.Literal(isolation)))
    with ThreadPoolExecutor(1) as pool, connect(database, role="app") as other:
        with other.transaction():
            bounds = "from ('2026-02-01+00') to ('2026-03-01+00')"
            other.execute(as_query(f"alter table public.t attach partition public.t_m2 for values {bounds}"))
            other.execute(WRITTEN)
            done = pool.submit(psql, RETAIN, "retain", kept.now)
            waiting = "select exists (select from pg_locks where relation = 'public.t_m2'::regclass and not granted)"
            eventually(lambda: scalar(kept.conn, waiting), 30, unless=done.done)
        assert "t_m2" in done.result().stderr
    assert scalar(kept.conn, "select count(*) from public.t where v = 4711") == 1
