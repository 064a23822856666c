"""The database host as it was provisioned: cluster, settings, TLS, who gets in, and what each role may not do."""

from __future__ import annotations

import dataclasses
import shlex

import psycopg
import pytest

from fleet.machines import engine
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import connect, connect_as_application, scalar
from tests.hosts.conftest import Hosts

# On an app host, with the packages that the app brought; the password is wrong, since it must not come to that.
TRY = """
import psycopg, sys
try:
    psycopg.connect(sys.argv[1])
except psycopg.OperationalError as exc:
    print(" ".join(str(exc).split()))
"""


def as_role(hosts: Hosts, role: str) -> Database:
    password = (hosts.layout.base / "secrets" / f"{role}.password").read_text().strip()
    return dataclasses.replace(hosts.env.database, user=role, password=password)


def test_the_cluster_is_of_the_distribution_with_checksums_and_a_fixed_locale(hosts: Hosts) -> None:
    db = hosts.on("db")
    assert db.package("postgresql-15").is_installed
    assert db.service("postgresql@15-main").is_running
    assert db.check_output("pg_lsclusters -h").split()[:4] == ["15", "main", "5432", "online"]
    with connect(hosts.env.database) as conn:
        wanted = {"data_checksums": "on", "fsync": "on", "ssl": "on", "shared_preload_libraries": "pg_stat_statements"}
        assert {name: scalar(conn, "select current_setting(%s)", [name]) for name in wanted} == wanted
        assert scalar(conn, "select datcollate from pg_database where datname = 'postgres'") == "C.UTF-8"
        assert scalar(conn, "select count(*) from pg_settings where pending_restart") == 0
        assert scalar(conn, "select extname from pg_extension where extname = 'pg_stat_statements'")


def test_settings_follow_the_memory_that_the_host_has(hosts: Hosts) -> None:
    """A container's limit counts, not the memory of the machine: a quarter of it is for shared buffers."""
    container = engine.connect().containers.get(f"{hosts.layout.project}-db")
    limit = container.attrs["HostConfig"]["Memory"]
    with connect(hosts.env.database) as conn:
        buffers = scalar(conn, "select setting::bigint * 8192 from pg_settings where name = 'shared_buffers'")
    assert 0.2 < buffers / limit < 0.26


def test_the_engine_talks_tls_and_trusts_only_the_environments_authority(hosts: Hosts) -> None:
    with connect(hosts.env.database) as conn:
        assert scalar(conn, "select version from pg_stat_ssl where pid = pg_backend_pid()") in {"TLSv1.2", "TLSv1.3"}
    assert hosts.env.database.sslmode == "verify-full"

    other = dataclasses.replace(hosts.env.database, sslrootcert="/etc/ssl/certs/ca-certificates.crt")
    with pytest.raises(PreconditionError, match="certificate verify failed"):
        connect(other)
    with pytest.raises(PreconditionError, match="rejects connection"):
        connect(dataclasses.replace(hosts.env.database, sslmode="disable", sslrootcert=None))


@pytest.mark.parametrize(
    ("user", "sslmode", "answer"),
    [
        ("app", "require", "password authentication failed"),
        ("app", "disable", "pg_hba.conf rejects connection"),
        ("rehearsal", "require", "pg_hba.conf rejects connection"),
        ("parity", "require", "pg_hba.conf rejects connection"),
        ("postgres", "require", "pg_hba.conf rejects connection"),
    ],
)
def test_an_app_host_gets_in_as_the_app_and_as_nobody_else(hosts: Hosts, user: str, sslmode: str, answer: str) -> None:
    place = f"host={hosts.env.database.host} dbname=postgres user={user} password=wrong sslmode={sslmode}"
    command = f"PYTHONPATH=/opt/finance/current/lib python3 -c {shlex.quote(TRY)} {shlex.quote(place)}"
    assert answer in hosts.on("app1").run(command).stdout


def test_nobody_is_superuser_over_the_network(hosts: Hosts) -> None:
    with pytest.raises(PreconditionError, match="rejects connection"):
        connect(dataclasses.replace(hosts.env.database, user="postgres"))
    with connect(hosts.env.database) as conn:
        query = "select array_agg(rolname::text) from pg_roles where rolsuper and rolcanlogin"
        assert scalar(conn, query) == ["postgres"]
        assert scalar(conn, "select bool_or(rolcreaterole or rolreplication) from pg_roles where not rolsuper") is False


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("app", "create table public.mine ()"),
        ("app", "drop table public.revenues"),
        ("app", "alter table public.revenues add mine int"),
        ("app", "create database mine"),
        ("app", "select * from pg_catalog.pg_authid"),
        ("app", "select * from rehearsal.change"),
        ("parity", "delete from public.revenues"),
        ("parity", "create table public.mine ()"),
        ("parity", "set default_transaction_read_only = off; update public.revenues set status = 'approved'"),
    ],
)
def test_what_a_role_may_not_do(hosts: Hosts, role: str, statement: str) -> None:
    with connect(as_role(hosts, role)) as conn, pytest.raises(psycopg.Error) as caught:
        conn.execute(statement)
    assert caught.value.sqlstate in {"42501", "25006"}, caught.value


@pytest.mark.parametrize(
    "statement", ["create role mine", "select * from pg_catalog.pg_authid", "copy (select 1) to '/tmp/mine'"]
)
def test_what_the_migrating_role_may_not_do(hosts: Hosts, statement: str) -> None:
    with (
        connect(hosts.env.database) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"^permission denied |^must be superuser or have "),
    ):
        conn.execute(statement)


def test_the_parity_role_reads_what_it_compares(hosts: Hosts) -> None:
    with connect_as_application(as_role(hosts, "parity")) as conn:
        assert scalar(conn, "select count(*) >= 0 from public.revenues")
        assert scalar(conn, "show default_transaction_read_only") == "on"


def test_files_of_the_server_are_the_servers_only(hosts: Hosts) -> None:
    db, folder = hosts.on("db"), "/etc/postgresql/15/main"
    modes = {
        f"{folder}/server.key": ("postgres", 0o600),
        f"{folder}/pg_hba.conf": ("postgres", 0o640),
        "/root/.pg-rehearsal.pgpass": ("root", 0o600),
        "/var/backups/pg-rehearsal": ("postgres", 0o700),
    }
    assert {path: (db.file(path).user, db.file(path).mode) for path in modes} == modes
    assert (hosts.layout.base / "ssh" / "id_ed25519").stat().st_mode & 0o777 == 0o600
