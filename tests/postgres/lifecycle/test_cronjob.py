"""The manifest of CronJobs: valid by the schema of Kubernetes, and its command does what it says, by the real psql."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.lifecycle.cronjob import manifest_of, name_of
from tests.fix_postgres import ROOT
from tests.postgres.lifecycle.kept import Kept

VERSIONS = ("1.28", "1.33")


def documents(database: Database, plan: str = "kept", **more: str) -> list[dict[str, Any]]:
    """Return the objects of the manifest for a database."""
    place = {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGDATABASE": database.name,
        "PGUSER": database.user,
    }
    return list(yaml.safe_load_all(manifest_of(ROOT / "templates", plan, {**place, "PGSSLMODE": "prefer", **more}, 15)))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [{}, {"PGSSLROOTCERT": "/here/ca.crt"}, {"PGDATABASE": 'it\'s: a "db" #1\\ <é>'}])
def test_the_manifest_is_valid(database: Database, version: str, more: dict[str, str]) -> None:
    """With a certificate too, and whatever the database is called; nothing of this machine is in it."""
    found = documents(database, **more)
    assert [document["kind"] for document in found] == ["ConfigMap", "CronJob", "CronJob"]
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    assert "/here/ca.crt" not in str(found)
    variables = container(found[1])["env"]
    assert [v["value"] for v in variables if v["name"] == "PGDATABASE"] == [more.get("PGDATABASE", database.name)]


def test_a_manifest_that_is_not_valid_is_found(database: Database) -> None:
    """The check can fail."""
    broken = documents(database)[1]
    broken["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[1], strict=True)


def test_names_are_short_enough_for_the_pods_that_they_are_given_to(database: Database) -> None:
    """A CronJob may have 52 characters."""
    for document in documents(database, plan="a_very_long_name_of_a_plan_that_somebody_has_chosen_with_care"):
        assert len(document["metadata"]["name"]) <= 52
    assert name_of("x") != name_of("y")


def container(document: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a CronJob."""
    found: dict[str, Any] = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_its_command_makes_the_leaves(kept: Kept, database: Database, cluster: Cluster, tmp_path: Path) -> None:
    """Command, variables and scripts as the manifest has them; the folder of the mount stands elsewhere here."""
    kept.setup()
    scripts, premake, retain = documents(database)
    for name, text in scripts["data"].items():
        (tmp_path / name).write_text(text)
    for job in (premake, retain):
        inside = container(job)
        words = [word.replace(inside["volumeMounts"][0]["mountPath"], str(tmp_path)) for word in inside["command"]]
        variables = {v["name"]: v.get("value", cluster.password()) for v in inside["env"]}
        done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert kept.to_make() == []
    assert kept.standing().ready == 3
