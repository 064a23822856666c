"""One environment `local` of its own for these tests: provisioned once, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import local
from fleet.cluster import Cluster, free_port
from rehearsal.environment import Environment
from rehearsal.evidence.run import Run
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.pyinfra import HostsResult, run_pyinfra
from rehearsal.plan.model import Plan, TableSpec
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
INVENTORY = ROOT / "inventories" / "local.py"
PLAN = Plan(name="hosts", strategy="swap", tables=[TableSpec(name="public.posts", key="created_at")])


@dataclass(frozen=True)
class Local:
    """The environment, what the first and the second provisioning did, and where it all is."""

    base: Path
    first: list[HostsResult]
    second: list[HostsResult]
    run: Run
    env: Environment


def provision(base: Path, run: Run) -> list[HostsResult]:
    command = [sys.executable, str(ROOT / "tests" / "local" / "stand_in.py"), str(base)]
    phases: list[tuple[str, dict[str, Any]]] = [("cluster", {}), ("roles", {}), ("app", {"app_command": command})]
    return [run_pyinfra(INVENTORY, phase, plan=PLAN, data=data, run=run) for phase, data in phases]


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder and ports of its own for the environment `local`; whatever runs there is stopped at the end."""
    base = Path(tempfile.mkdtemp(prefix="pgr-local-"))
    base.chmod(0o711)
    ports = {"REHEARSAL_LOCAL_DB_PORT": str(free_port()), "REHEARSAL_LOCAL_APP_PORT": str(_two_free_ports())}
    variables = {"REHEARSAL_LOCAL_BASE": str(base), **ports}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield base
    finally:
        local.stop(base)
        shutil.rmtree(base, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def place() -> Iterator[Local]:
    """The environment, provisioned twice; stopped and removed at the end."""
    with own_folder() as base:
        run = Run.create(base / "runs", "local", PLAN.name)
        yield Local(base, provision(base, run), provision(base, run), run, load_environment("local", PLAN.name))
        manager, cluster = local.Manager(base), Cluster(base / "cluster")
        ran = manager.is_up() and cluster.is_running()
        stopped, again = manager.stop(), manager.stop()
        local.stop(base)
        up = (manager.is_up(), cluster.is_running())
    assert (ran, stopped, again, up) == (True, True, False, (False, False))


def _two_free_ports() -> int:
    return eventually(_port_whose_next_is_free, 30)


def _port_whose_next_is_free() -> int | None:
    port = free_port()
    text = f"import socket; socket.socket().bind(('127.0.0.1', {port + 1}))"
    taken = subprocess.run([sys.executable, "-c", text], capture_output=True, check=False)
    return port if taken.returncode == 0 else None
