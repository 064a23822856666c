"""Timers of partitions on a real host: brought, on, doing their work by psql alone, mended, and taken away again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.clock import FOLDER, JOBS, USER, service_of, timer_of
from rehearsal.commands import lifecycle
from rehearsal.commands.install import ClockWish, install
from rehearsal.evidence.run import Run
from rehearsal.hosts.clock import Clock, problems_of
from rehearsal.postgres.connection import connect, scalar
from tests.hosts.conftest import Hosts

TABLE = "public.clocked"
MAKE = f"""
create table {TABLE} (id bigint, at timestamptz not null, primary key (id, at)) partition by range (at);
do $$
declare
    first timestamptz := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC';
begin
    for n in 0..4 loop
        execute format('create table public.clocked_%s partition of {TABLE} for values from (%L) to (%L)', n,
                       first - (4 - n) * interval '1 month', first - (3 - n) * interval '1 month');
    end loop;
    insert into {TABLE} values (1, now()), (2, first - interval '4 months');
end $$;
"""
OLD = 5
LEAVES = f"select count(*) from pg_inherits where inhparent = '{TABLE}'::regclass"


@dataclass
class Clocked:
    """A table of five months on the hosts' database, kept ready for two, with a retention of two."""

    hosts: Hosts
    plan: str

    def install(self, **how: Any) -> tuple[int, str]:
        """Run the verb; return its code and what it said."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = install(self.hosts.target(), ClockWish(**how))
        return code, said.getvalue()

    @property
    def clock(self) -> Clock:
        """The timers."""
        run = Run.create(self.hosts.runs, "docker", "clock")
        return Clock(self.hosts.env.inventory, self.hosts.plan, run, self.hosts.env.clocks)

    def leaves(self) -> int:
        """Count the leaves."""
        with connect(self.hosts.env.database) as conn:
            return int(scalar(conn, LEAVES))


@pytest.fixture(scope="module")
def clocked(hosts: Hosts) -> Iterator[Clocked]:
    """Adopt it; all of it is gone afterwards."""
    with connect(hosts.env.database) as conn:
        conn.execute(MAKE)
    said = lifecycle.Said(TABLE, "1 month", retention="2 months", premake=2, hold="0 days")
    assert lifecycle.adopt(hosts.target(), said) == 0
    made = Clocked(hosts, hosts.plan.name)
    yield made
    made.install(remove=True)
    lifecycle.adopt(hosts.target(), lifecycle.Said(TABLE, forget=True))
    with connect(hosts.env.database) as conn:
        conn.execute(f"drop table if exists {TABLE}, public.clocked_0, public.clocked_1")
        conn.execute("delete from rehearsal.lifecycle_detached")


def test_timers_are_brought_do_their_work_and_go(clocked: Clocked) -> None:
    """From nothing to nothing: dry run, install, again, jobs by their units, removal, again."""
    db, plan = clocked.hosts.on("db"), clocked.plan
    clocked.install(remove=True)
    code, said = clocked.install(dry=True)
    assert (code, "would change: Start the timer of lifecycle.premake" in said) == (1, True), said
    assert not db.service(timer_of("premake", plan)).is_running
    assert clocked.install()[0] == 0
    assert clocked.install(dry=True)[0] == 0
    assert "no change" in clocked.install()[1]
    for job in JOBS:
        timer = db.service(timer_of(job, plan))
        assert (timer.is_enabled, timer.is_running) == (True, True)
    secret = db.file(f"{FOLDER}/{plan}.pgpass")
    assert (secret.mode, secret.user, secret.group) == (0o600, USER, USER)
    assert clocked.hosts.env.database.password not in db.file(f"{FOLDER}/{plan}.env").content_string

    for _ in range(2):
        assert clocked.clock.do("premake") == []
        assert clocked.leaves() == OLD + 2
    assert clocked.clock.do("retain") == []
    with connect(clocked.hosts.env.database) as conn:
        assert scalar(conn, "select count(*) from public.clocked_0") == 1, "detached, and held with its row"
        assert scalar(conn, f"select count(*) from {TABLE}") == 1
    assert clocked.clock.do("retain") == []
    with connect(clocked.hosts.env.database) as conn:
        assert scalar(conn, "select to_regclass('public.clocked_0') is null")
    assert {timer["last"].split()[0] for timer in clocked.clock.look().values()} == {"success"}

    assert clocked.install(remove=True)[0] == 0
    assert "no change" in clocked.install(remove=True)[1]
    assert not db.file(f"{FOLDER}/{plan}.pgpass").exists
    assert len(problems_of(clocked.clock.look(), ("db",))) == 2


def test_what_others_did_to_the_timers_is_seen_and_mended(clocked: Clocked) -> None:
    """Disabled, stopped, the file of a unit edited: each is found, and one more run mends it."""
    db, plan = clocked.hosts.on("db"), clocked.plan
    assert clocked.install()[0] == 0
    timer = timer_of("premake", plan)
    for command, found in (
        (f"systemctl disable {timer}", "is disabled"),
        (f"systemctl stop {timer}", "is inactive"),
        (f"systemctl mask --runtime {service_of('retain', plan)}", None),
        ("sed -i 's/^OnCalendar=.*/OnCalendar=2020-01-01/' /etc/systemd/system/pg-lifecycle-premake@.timer", None),
    ):
        db.check_output(command)
        problems = problems_of(clocked.clock.look(), ("db",))
        assert found is None or any(found in problem for problem in problems), (command, problems)
        if "mask" in command:
            assert clocked.clock.do("retain"), "a job that cannot run is said to have failed"
            db.check_output(f"systemctl unmask --runtime {service_of('retain', plan)}")
        else:
            assert clocked.install(dry=True)[0] == 1, command
        assert clocked.install()[0] == 0
        assert problems_of(clocked.clock.look(), ("db",)) == []


def test_a_job_that_fails_says_what_psql_said(clocked: Clocked) -> None:
    """A password that is not the role's; the next run of the verb writes the right one."""
    db, plan = clocked.hosts.on("db"), clocked.plan
    assert clocked.install()[0] == 0
    db.check_output(f"sed -i 's/:[^:]*$/:wrong/' {FOLDER}/{plan}.pgpass")
    assert "password authentication failed" in " ".join(clocked.clock.do("premake"))
    assert clocked.install()[0] == 0
    assert clocked.clock.do("premake") == []


def test_no_password_is_in_the_process_list_or_the_journal(clocked: Clocked) -> None:
    """Nor in a file that others read."""
    db = clocked.hosts.on("db")
    assert clocked.install()[0] == 0
    assert clocked.clock.do("premake") == []
    password = clocked.hosts.env.database.password
    assert password not in db.check_output("journalctl --no-pager --unit 'pg-lifecycle-*'")
    assert db.run(f"runuser -u nobody -- grep -rl . {FOLDER}").stdout == ""
