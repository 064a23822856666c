"""A CronJob of Kubernetes that makes and drops partitions: a manifest with the SQL files of every other clock.

Owns what the manifest is filled with. No password is in it: it names a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import jinja2

# Names of jobs are cut after 52 characters by Kubernetes, which adds eleven of its own.
MAX_NAME = 52
SCHEDULES = {"premake": "10 0 * * *", "retain": "40 2 * * *"}
CERTIFICATE = "/etc/pg-lifecycle-tls/ca.crt"


def manifest_of(templates: Path, plan: str, variables: Mapping[str, str], major: int) -> str:
    """Return the manifest: a ConfigMap with two SQL files, and a CronJob for each; `variables` are those of libpq.

    What PGSSLROOTCERT names is replaced: the certificate comes from the secret.
    """
    env = jinja2.Environment(  # noqa: S701 -- YAML, where each value is written as JSON
        loader=jinja2.FileSystemLoader(templates / "lifecycle"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    jobs = [
        {"name": job, "at": at, "text": env.get_template(f"{job}.sql.j2").render()} for job, at in SCHEDULES.items()
    ]
    tls = "PGSSLROOTCERT" in variables
    inside = {**variables, **({"PGSSLROOTCERT": CERTIFICATE} if tls else {})}
    return env.get_template("cronjob.yaml.j2").render(
        name=name_of(plan), plan=plan, jobs=jobs, variables=inside, tls=tls, image=f"postgres:{major}"
    )


def name_of(plan: str) -> str:
    """Return how its objects are called, which Kubernetes allows.

    >>> name_of("sensor_readings"), name_of("Über")
    ('pg-lifecycle-sensor-readings', 'pg-lifecycle-ber')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", plan.lower()).strip("-")
    longest = MAX_NAME - max(len(f"-{job}") for job in SCHEDULES)
    return f"pg-lifecycle-{slug}"[:longest].strip("-")
