"""Timers that make and drop partitions: psql and SQL files on the host, no Python; or with `remove`, none of it.

Everything is named by the plan, so that several databases can have their timers on one host.
"""

from functools import partial
from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt

from fleet import operations, units
from fleet.clock import FOLDER, JOBS, USER, env_text, service_of, timer_of
from fleet.facts import Lines
from fleet.passwords import passfile_text
from fleet.psql import session
from fleet.templates import render

USUAL = "/usr/bin/psql"
data = host.data
migrator = session(data, "migrator")
# The folder of the database host's programs is not there on every host that has timers.
places = (f"{data.db_bin}/psql",) if data.get("db_bin") else ()
script = 'for psql in "$@"; do test -x "$psql" && echo "$psql"; done; true'
found = host.get_fact(Lines, script=script, words=(*places, USUAL))
psql = found[0] if found else USUAL
files = {name: f"{FOLDER}/{data.plan}.{name}" for name in ("env", "pgpass", "crt")}
own_authority = data.get("db_sslrootcert")

if data.get("remove"):
    for job in JOBS:
        units.timer_off(name=f"Stop the timer of lifecycle.{job}", unit=timer_of(job, data.plan))
    operations.gone(name="Remove what the timers log in with", paths=tuple(files.values()))
else:
    if not found:
        apt.packages(
            name="Install psql for the timers", packages=["postgresql-client"], no_recommends=True, update=True
        )
    units.system_user(name="Make the user of the timers", user=USER)
    units.folder(name="Make the folder of the timers", path=FOLDER, mode="750", owner=f"root:{USER}")
    for job in JOBS:
        operations.private_file(
            name=f"Write the SQL of lifecycle.{job}",
            path=f"{FOLDER}/{job}.sql",
            text=render(f"lifecycle/{job}.sql.j2"),
            mode="644",
            owner="root:root",
        )
    if own_authority:
        operations.private_file(
            name="Write the certificate that the timers trust",
            path=files["crt"],
            text=Path(own_authority).expanduser().read_text(encoding="utf-8"),
            mode="644",
            owner="root:root",
        )
    operations.private_file(
        name="Write the password file of the timers",
        path=files["pgpass"],
        text=partial(passfile_text, {data.db_migrator: data.db_migrator_password}),
        owner=f"{USER}:{USER}",
    )
    operations.private_file(
        name="Write where the timers connect",
        path=files["env"],
        text=env_text(
            PGHOST=data.db_host,
            PGPORT=str(data.db_port),
            PGDATABASE=migrator.database,
            PGUSER=data.db_migrator,
            PGSSLMODE=data.db_sslmode,
            PGSSLROOTCERT=files["crt"] if own_authority else "",
            PGPASSFILE=files["pgpass"],
        ),
        mode="644",
        owner="root:root",
    )
    for job in JOBS:
        units.unit_template(
            name=f"Write the unit of lifecycle.{job}",
            unit=service_of(job, ""),
            instance=data.plan,
            text=render("lifecycle/job.service.j2", job=job, user=USER, folder=FOLDER, psql=psql),
        )
        units.unit_template(
            name=f"Write the timer of lifecycle.{job}",
            unit=timer_of(job, ""),
            instance=data.plan,
            text=render("lifecycle/job.timer.j2", job=job, at=data.get(f"lifecycle_{job}_at") or "daily"),
        )
    for job in JOBS:
        units.timer_on(name=f"Start the timer of lifecycle.{job}", unit=timer_of(job, data.plan))
