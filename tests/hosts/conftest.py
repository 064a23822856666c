"""Hosts of their own for these tests, provisioned once; removed at the end, snapshots included.

REHEARSAL_TEST_HOSTS=keep uses the hosts of the project's own environment `docker` and leaves them.
REHEARSAL_TEST_HOSTS=require makes a machine without a Docker Engine a failure instead of a skip, as in CI.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import testinfra

from fleet.machines import engine
from fleet.machines.layout import Layout, MachineError, read_layout
from rehearsal.commands.provision import provision
from rehearsal.commands.session import Target
from rehearsal.environment import Environment
from rehearsal.evidence.run import RUNS
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.pyinfra import HostsResult, run_pyinfra
from rehearsal.hosts.throwaway import manage
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventories" / "docker.py"
MODE = os.environ.get("REHEARSAL_TEST_HOSTS", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: they want Docker, and minutes."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.hosts)
            item.add_marker(pytest.mark.long)


@dataclass(frozen=True)
class Hosts:
    """Provisioned hosts."""

    layout: Layout
    env: Environment
    plan: Plan
    runs: Path

    def on(self, name: str) -> Any:
        """Return a host for looking at, over SSH; connections are shared, which testinfra does not do by itself."""
        base = self.layout.base
        return testinfra.get_host(
            f"ssh://{name}?controlpersist=60&controlpath={base}/ssh/%C", ssh_config=str(base / "ssh" / "config")
        )

    def run(self, phase: str, **more: Any) -> HostsResult:
        """Bring the hosts to the state of a phase."""
        return run_pyinfra(INVENTORY, phase, plan=self.plan, **more)

    def wait_for_the_app(self) -> None:
        """Wait until the app, which may have been restarted just now, answers with its database.

        A unit is active once its process is there, and listens some time after that.
        """
        url, early = f"{self.env.app_servers[0].url}/health", (httpx.TransportError,)
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = eventually(
                lambda: client.get(url), 30, that=lambda answer: answer.status_code == 200, not_yet=early
            )
        assert answer.json()["server"] == "app1"

    def target(self) -> Target:
        """Return what a verb is called with."""
        return Target(ROOT, self.plan.name, "docker", yes=True)


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """The hosts, with the database, the roles and the app of a plan."""
    try:
        engine.connect().close()
    except MachineError as exc:
        if MODE == "require":
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    place = Path(tempfile.mkdtemp(prefix="pgr-hosts-"))
    before = {name: os.environ.get(name) for name in ("REHEARSAL_DOCKER_BASE", "REHEARSAL_DOCKER_APPS", RUNS)}
    os.environ[RUNS] = str(place / "runs")
    if MODE != "keep":
        os.environ.update(REHEARSAL_DOCKER_BASE=str(place), REHEARSAL_DOCKER_APPS="1")
    try:
        assert provision(Target(ROOT, "hospitality", "docker")) == 0
        plan = load_plan(find_plan("hospitality", ROOT))
        yield Hosts(read_layout(), load_environment("docker", plan.name, ROOT), plan, place / "runs")
    finally:
        if MODE != "keep":
            manage("down", "--images")
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(place, ignore_errors=True)
