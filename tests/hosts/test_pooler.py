"""pgbouncer beside the app, in both modes, and away again: over SSH, second run, rights, and what goes through it."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest

from rehearsal.commands.provision import provision
from rehearsal.errors import HostsFailed, UsageError
from rehearsal.postgres.connection import Connection, connect
from tests.hosts.conftest import Hosts

VARIABLE = "REHEARSAL_DOCKER_POOLER"
FILES, DROP_INS = "/etc/pgbouncer", "/etc/systemd/system/pgbouncer.service.d"
PYTHON = "PYTHONPATH=/opt/finance/current/lib python3 -c"
# In the console, as the user of the unit: only that user gets in without a password.
CONSOLE = """
import json, psycopg
with psycopg.connect("host=/var/run/postgresql port=6432 user=pgbouncer dbname=pgbouncer", autocommit=True) as conn:
    found = {"config": {row[0]: row[1] for row in conn.execute("show config")}}
    for what in ("pools", "servers"):
        cursor = conn.execute(f"show {what}")
        names = [column.name for column in cursor.description]
        found[what] = [dict(zip(names, map(str, row))) for row in cursor if "app" in row]
print(json.dumps(found))
"""
# As the app: two clients one after the other, so that the second one gets what the first one left behind.
SESSIONS = """
import os, psycopg
for step in range(2):
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
        print(*conn.execute("select current_setting('statement_timeout'), current_setting('TimeZone')").fetchone())
"""
WRONG = """
import psycopg
try:
    psycopg.connect("host=127.0.0.1 port=6432 user=app dbname=postgres password=wrong")
except psycopg.OperationalError as exc:
    print(exc)
"""
MAKE = (
    "insert into public.properties (id, org_id, name) values (990, 1, 'pooler')",
    "insert into public.users (id, org_id, email, full_name) values (990, 1, 'pooler', 'pooler')",
)
UNMAKE = (
    "delete from public.revenues where property_id = 990",
    "delete from public.properties where id = 990",
    "delete from public.users where id = 990",
)
BODY = {"propertyId": 990, "userId": 990, "amount": 1, "occurredAt": "2026-01-05T12:00:00Z"}
WRITTEN = "select id from public.revenues where property_id = 990 and description = %s"
ACTIVITY = """
select a.client_port, s.ssl, a.application_name from pg_stat_activity as a join pg_stat_ssl as s using (pid)
where a.usename = 'app' and a.datname = current_database()
"""
REACH = "timeout 3 bash -c '</dev/tcp/{address}/6432' 2>/dev/null && echo open || echo closed"


# What does not depend on the mode is looked at in one of them.
ONE_MODE = pytest.mark.parametrize("pooled", ["transaction"], indirect=True)


@dataclass(frozen=True)
class Pooled:
    """Hosts with a pooler in one mode."""

    hosts: Hosts
    mode: str

    def console(self) -> dict[str, Any]:
        """Return what the pooler's console shows of its settings and of the app."""
        command = f"cd / && runuser -u postgres -- env {PYTHON} {shlex.quote(CONSOLE)}"
        return cast("dict[str, Any]", json.loads(self.hosts.on("app1").check_output(command)))


@pytest.fixture(scope="module")
def variable(hosts: Hosts) -> Iterator[pytest.MonkeyPatch]:
    """The variable of the inventory, as the pattern of a shell; at the end the hosts have no pooler, as before."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    assert hosts.run("app").ok


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooled(request: pytest.FixtureRequest, hosts: Hosts, variable: pytest.MonkeyPatch) -> Pooled:
    """Bring the app's host to a pooler of one mode, whatever it had before."""
    variable.setenv(VARIABLE, request.param)
    assert hosts.run("app").ok
    hosts.wait_for_the_app()
    return Pooled(hosts, request.param)


@contextlib.contextmanager
def users_and_properties(hosts: Hosts) -> Iterator[Connection]:
    """Give the block what the app's writes refer to; nothing of it stays."""
    with connect(hosts.env.database) as conn:
        try:
            for statement in MAKE:
                conn.execute(statement)
            yield conn
        finally:
            for statement in UNMAKE:
                conn.execute(statement)


def test_the_pooler_runs_in_its_mode_and_a_second_run_changes_nothing(pooled: Pooled) -> None:
    app = pooled.hosts.on("app1")
    found = pooled.console()

    assert [operation.name for operation in pooled.hosts.run("app").operations if operation.changed] == []
    assert (app.service("pgbouncer").is_running, app.service("pgbouncer").is_enabled) == (True, True)
    assert found["config"]["pool_mode"] == pooled.mode
    assert found["config"]["auth_type"] == "scram-sha-256"
    assert found["config"]["server_tls_sslmode"] == "verify-full"
    assert found["config"]["listen_addr"] == "127.0.0.1"
    assert {pool["pool_mode"] for pool in found["pools"]} == {pooled.mode}


def test_writes_of_the_app_arrive_through_the_pooler_and_through_nothing_else(pooled: Pooled) -> None:
    """Each session of the app at the server begins at a port of the pooler's, and is encrypted.

    More requests than psycopg needs to begin with prepared statements, several at once: none may break.
    """
    hosts = pooled.hosts
    url = hosts.env.app_servers[0].url
    hosts.wait_for_the_app()
    with users_and_properties(hosts) as conn:
        body = {**BODY, "description": pooled.mode}
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client.post("/finance/revenue", json=body), range(24)))
        written = {row[0] for row in conn.execute(WRITTEN, [pooled.mode])}
        sessions = conn.execute(ACTIVITY).fetchall()
    ports = {int(server["local_port"]) for server in pooled.console()["servers"]}

    assert [answer.status_code for answer in answers] == [200] * 24
    assert written == {answer.json()["id"] for answer in answers}
    assert sessions
    assert {port for port, _, _ in sessions} <= ports
    assert {ssl for _, ssl, _ in sessions} == {True}
    # One that the pooler opened and has lent to nobody yet has no name: another came free before it was there.
    assert {name for _, _, name in sessions} - {""} == {"app1"}
    assert hosts.env.database.port == 5432


def test_the_app_has_its_settings_in_whatever_session_it_gets(pooled: Pooled) -> None:
    """They are not in the way that it asks for them: the pooler ignores `options`."""
    command = f"set -a; . /etc/finance/app.env; {PYTHON} {shlex.quote(SESSIONS)}"
    assert pooled.hosts.on("app1").check_output(command).splitlines() == ["30s UTC"] * 2


@ONE_MODE
def test_only_who_has_the_password_on_the_apps_own_host_gets_into_the_pooler(pooled: Pooled) -> None:
    hosts, app = pooled.hosts, pooled.hosts.on("app1")
    modes = {
        f"{FILES}/pgbouncer.ini": ("postgres", "postgres", 0o640),
        f"{FILES}/userlist.txt": ("postgres", "postgres", 0o640),
        f"{FILES}/server-ca.crt": ("root", "root", 0o644),
    }
    password = (hosts.layout.base / "secrets" / "app.password").read_text().strip()
    reach = REACH.format(address=hosts.layout.find("app1").address)
    kept = f"grep -rlF -D skip {shlex.quote(password)} /etc /var/log /tmp /run /root 2>/dev/null"

    assert {path: (app.file(path).user, app.file(path).group, app.file(path).mode) for path in modes} == modes
    assert "SASL authentication failed" in app.check_output(f"{PYTHON} {shlex.quote(WRONG)}")
    assert [hosts.on(name).check_output(reach) for name in ("db", "monitor", "app1")] == ["closed"] * 3
    assert set(app.run(kept).stdout.split()) == {"/etc/finance/app.env", f"{FILES}/userlist.txt"}
    assert password not in app.check_output("ps -eww -o args; journalctl --no-pager -q -o cat")
    runs = [path for path in hosts.runs.rglob("*") if path.is_file()]
    assert [path for path in runs if password in path.read_text(errors="replace")] == []


@ONE_MODE
def test_a_pooler_that_is_killed_comes_up_again_by_itself(pooled: Pooled) -> None:
    app = pooled.hosts.on("app1")
    before = app.check_output("systemctl show -P MainPID pgbouncer")
    wait = "for n in $(seq 100); do sleep 0.1; systemctl -q is-active pgbouncer && break; done"
    app.check_output(f"kill -9 {before}; {wait}")

    assert app.check_output("systemctl show -P MainPID pgbouncer") not in {before, "0"}
    assert app.check_output("systemctl --failed --no-legend --plain") == ""
    pooled.hosts.wait_for_the_app()


@ONE_MODE
def test_without_the_option_the_app_goes_to_the_database_itself(pooled: Pooled, variable: pytest.MonkeyPatch) -> None:
    """Nothing of the pooler is in use, no password is left of it, and a second run changes nothing."""
    hosts, app = pooled.hosts, pooled.hosts.on("app1")
    variable.delenv(VARIABLE)
    try:
        changed = [operation.name for operation in hosts.run("app").operations if operation.changed]
        again = [operation.name for operation in hosts.run("app").operations if operation.changed]
        unit, files = app.service("pgbouncer"), app.check_output(f"find {FILES} {DROP_INS} -type f")
        left = (unit.is_running, unit.is_enabled, files)
        env = app.file("/etc/finance/app.env").content_string
        hosts.wait_for_the_app()
    finally:
        variable.setenv(VARIABLE, pooled.mode)
        assert hosts.run("app").ok

    assert changed == ["Write the app server's env file", "Start the app server", "Take the pooler out of use"]
    assert again == []
    assert left == (False, False, "")
    assert f"@{hosts.env.database.host}:5432/" in env


@ONE_MODE
def test_a_pooler_of_somebody_else_is_left_alone(pooled: Pooled, variable: pytest.MonkeyPatch) -> None:
    """Neither written over when one is wanted, nor stopped when none is."""
    hosts, app, path = pooled.hosts, pooled.hosts.on("app1"), f"{FILES}/pgbouncer.ini"
    app.check_output(f"cp -p {path} /root/ours.ini; sed -i '1s/.*/; mine/' {path}")
    before = app.file(path).sha256sum
    try:
        with pytest.raises(HostsFailed, match=r"app1: check that the pooler is nobody else's failed: .*move it away"):
            hosts.run("app")
        variable.delenv(VARIABLE)
        hosts.run("app")
        assert app.file(path).sha256sum == before
        assert app.service("pgbouncer").is_running
    finally:
        variable.setenv(VARIABLE, pooled.mode)
        app.check_output(f"mv -f /root/ours.ini {path}")
        assert hosts.run("app").ok


def test_a_mode_that_there_is_not_is_refused_before_anything_is_touched(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = hosts.on("app1").file("/etc/finance/app.env")
    before = env.sha256sum
    with pytest.raises(HostsFailed, match=r"`pooler` is 'statement'; it must be session or transaction, or be left"):
        hosts.run("app", data={"pooler": "statement"})
    monkeypatch.setenv(VARIABLE, "both")
    with pytest.raises(UsageError, match=r"POOLER is 'both'; set it to session or"):
        provision(hosts.target())
    assert env.sha256sum == before
