"""The pooler of an app server: pgbouncer on the app's own host, so that only the app reaches it."""

from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt

from fleet import operations, pooler, units
from fleet.passwords import resolve
from fleet.templates import render

data = host.data
mode = pooler.wanted_mode(data)
authority = data.get("db_sslrootcert")

apt.packages(name="Install the pooler", packages=["pgbouncer"], no_recommends=True, update=True, cache_time=86_400)
pooler.unclaimed(name="Check that the pooler is nobody else's")
if authority:
    operations.private_file(
        name="Write the certificate that the pooler trusts",
        path=pooler.AUTHORITY,
        text=Path(authority).expanduser().read_text(encoding="utf-8"),
        mode="644",
        owner="root:root",
    )
operations.private_file(
    name="Write who may use the pooler",
    path=pooler.USERS,
    text=lambda: pooler.users(**{data.db_app_role: resolve(data.db_app_password)}),
    mode="640",
    owner=pooler.OWNER,
)
operations.private_file(
    name="Write the settings of the pooler",
    path=pooler.SETTINGS,
    text=render(
        "hosts/pgbouncer.ini.j2",
        mark=pooler.MARK,
        mode=mode,
        host=data.db_host,
        port=data.db_port,
        sslmode=data.db_sslmode,
        authority=pooler.AUTHORITY if authority else None,
        users=pooler.USERS,
        listen_port=data.pooler_port,
        clients=data.pooler_clients,
        sessions=data.pooler_sessions,
        reserve=data.pooler_reserve,
    ),
    mode="640",
    owner=pooler.OWNER,
)
units.drop_in(name="Let the pooler come up again by itself", unit=pooler.UNIT, text=pooler.UNIT_SETTINGS)
pooler.enabled(name="Let the pooler start with the host")
operations.service(
    name="Start the pooler",
    unit=pooler.UNIT,
    env_file=pooler.SETTINGS,
    restart=pooler.RESTART,
    files=(pooler.USERS, *([pooler.AUTHORITY] if authority else []), units.drop_in_path(pooler.UNIT)),
)
