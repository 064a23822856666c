"""The door to hosts that are made and thrown away: `python -m fleet.machines` or `fleet.local` as a child process.

Owns how hosts are brought up before anything is provisioned on them, and how those of this machine are stopped. Must
not import the host layer or Docker.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, cast

from rehearsal.environment import Environment
from rehearsal.errors import HostsFailed, UsageError
from rehearsal.evidence.run import Run
from rehearsal.hosts.pyinfra import PROJECT, last_lines, run_pyinfra
from rehearsal.plan.model import Plan

MODULE = (sys.executable, "-m", "fleet.machines")


def require_docker(env: Environment) -> None:
    """Refuse an environment whose hosts are not made by us.

    Raises:
        UsageError: it is such an environment; says what there is instead.
    """
    if env.kind == "docker":
        return
    instead = {
        "local": "everything runs on this machine: `./inv db.provision` starts it, `./inv hosts.down` stops it",
    }.get(env.kind, "its hosts are yours; log in as you always do")
    message = f"environment {env.name} is of kind {env.kind}: {instead}. Only hosts of kind docker are made here"
    raise UsageError(message)


def manage(verb: str, *words: str) -> dict[str, Any]:
    """Do something with the hosts (`up`, `status`, `snapshot`, `reset`, `down`); return what there is afterwards.

    Raises:
        HostsFailed: it could not be done; says why.
    """
    done = subprocess.run(
        [*MODULE, verb, *words], cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise HostsFailed(last_lines(done.stderr).removeprefix("hosts: "))
    return cast("dict[str, Any]", json.loads(done.stdout))


def log_in(host: str, command: str) -> int:
    """Be an SSH client on a host, on our own terminal; return its exit code."""
    return subprocess.run(
        [*MODULE, "ssh", host, *(["--", command] if command else [])], cwd=PROJECT, check=False
    ).returncode


def stand_up(env: Environment, plan: Plan, run: Run) -> int:
    """Bring throwaway hosts to where roles and databases can be made; return how much changed.

    `local` gets its cluster. Hosts on Docker are made if they are missing, provisioned, and kept for `hosts.reset`.
    A second run changes nothing.

    Raises:
        HostsFailed: a host did not come up.
    """
    if env.kind == "local":
        return run_pyinfra(env.inventory, "cluster", plan=plan, run=run).changed
    made: dict[str, Any] = {"changed": [], "hosts": []}
    if env.kind == "docker":
        run.note("hosts: made where they are missing; the first time takes minutes")
        made = manage("up")
        for line in made["changed"]:
            run.note(f"hosts: {line}")
    if not env.settings.get("provisioned"):
        return len(made["changed"])
    done = run_pyinfra(env.inventory, "hosts", plan=plan, run=run, timeout=1200)
    # A host with somebody's database in it is no fresh host, so it is not kept as one.
    fresh = done.reports.get(env.database_host, {}).get("databases") == []
    if env.kind == "docker" and fresh and (done.changed or not all(host["snapshot"] for host in made["hosts"])):
        manage("snapshot")
        run.note("hosts: kept as they are now for `./inv hosts.reset`")
    return len(made["changed"]) + done.changed


def stop_local(env: Environment) -> bool:
    """Stop the app servers and the database of the environment `local`; return whether any ran.

    Raises:
        HostsFailed: one could not be stopped.
    """
    command = [sys.executable, "-m", "fleet.local", "stop", "--base", str(env.state_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"environment {env.name} could not be stopped: {done.stderr.strip()}"
        raise HostsFailed(message)
    return bool(json.loads(done.stdout)["changed"])
