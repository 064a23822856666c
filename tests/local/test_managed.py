"""A database that somebody else runs: no superuser for us, no host to log in to, psql on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.environment import Database
from rehearsal.errors import HostsFailed
from rehearsal.hosts.manifest import Change, write_manifest
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.postgres.connection import connect, scalar
from tests.local.conftest import PLAN, Local

pytestmark = [pytest.mark.slow, pytest.mark.long]
PASSWORD = "te:n\\\\ant"
SUPERUSER_S = ("create role {0} login password '{1}'", "create role {0}_app login", "create database {0} owner {0}")


def superuser_of(place: Local) -> Database:
    """Return the session of whoever runs the server."""
    password = (place.base / "cluster" / "superuser.password").read_text().strip()
    return Database("127.0.0.1", place.env.database.port, "postgres", "postgres", password, "disable")


@pytest.fixture
def tenant(place: Local, tmp_path: Path) -> Iterator[tuple[Path, Database]]:
    """An inventory of a database whose owner is no superuser, as a service hands it out."""
    port = place.env.database.port
    superuser = superuser_of(place)
    with connect(superuser) as conn:
        for statement in SUPERUSER_S:
            conn.execute(statement.format("tenant", PASSWORD).encode())
    (tmp_path / "tenant.password").write_text(PASSWORD)
    values = {
        "env_kind": "staging",
        "db_managed": True,
        "db_host": "127.0.0.1",
        "db_port": port,
        "db_name": "tenant",
        "db_bin": place.env.settings["db_bin"],
        "db_migrator": "tenant",
        "db_app_role": "tenant_app",
        "db_migrator_password": {"file": str(tmp_path / "tenant.password")},
        "passfile": str(tmp_path / "pgpass"),
    }
    (tmp_path / "managed.py").write_text(f"database = [('@process/db', {values!r})]\n")
    yield tmp_path / "managed.py", Database("127.0.0.1", port, "tenant", "tenant", PASSWORD, "disable")
    with connect(superuser) as conn:
        for statement in ("drop database tenant with (force)", "drop role tenant", "drop role tenant_app"):
            conn.execute(statement.encode())


def test_what_needs_no_superuser_is_done_and_the_rest_is_named(
    place: Local, tenant: tuple[Path, Database], tmp_path: Path
) -> None:
    """Registry, mark and a change, by the owner alone; a second run changes nothing; a missing role is a refusal.

    One right is asked for, which every service lets its administrator give; what none need give is only named.
    """
    inventory, database = tenant

    with pytest.raises(HostsFailed, match=r"lacks 1 rights on the database tenant; .*: \| grant pg_monitor to tenant"):
        run_pyinfra(inventory, "roles", plan=PLAN)
    with connect(database) as conn:
        assert scalar(conn, "select to_regnamespace('rehearsal') is null")
    with connect(superuser_of(place)) as conn:
        conn.execute("grant pg_monitor to tenant")
    first, second = (run_pyinfra(inventory, "roles", plan=PLAN) for _ in range(2))
    manifest = write_manifest(tmp_path, "tenant", [Change("managed/001", "create table public.made ();")])
    applied, again = (run_pyinfra(inventory, "migrate", plan=PLAN, data={"manifest": str(manifest)}) for _ in range(2))

    assert (first.changed, second.changed) == (3, 0)
    missing = first.reports["@process/db"]["missing"]
    assert {right["kind"] for right in missing} == {"wanted"}
    assert {right["statement"].split(" to ")[0] for right in missing} >= {
        "grant set on parameter session_replication_role",
        "grant set on parameter deadlock_timeout",
        "alter role tenant createdb;",
    }
    assert (applied.changed, again.changed) == (1, 0)
    with connect(database) as conn:
        assert scalar(conn, "select kind from rehearsal.environment_mark") == "staging"
        assert scalar(conn, "select has_table_privilege('tenant_app', 'public.made', 'insert')") is True
        assert scalar(conn, "select rolsuper or rolcreaterole from pg_roles where rolname = 'tenant'") is False

    inventory.write_text(inventory.read_text().replace("tenant_app", "nobody_app"))
    with pytest.raises(
        HostsFailed, match=r"lacks 1 rights on the database tenant; .*: \| create role nobody_app login;"
    ):
        run_pyinfra(inventory, "roles", plan=PLAN)
