"""The verbs of rehearsal hosts: make, look at, log in to, reset, stop. Each returns an exit code.

Owns what `hosts.*` says. Must not know Docker: that is `fleet.machines`, reached through `rehearsal.hosts.throwaway`.
"""

from __future__ import annotations

from typing import Any

from rehearsal.commands.session import DONE, FAILED, Target
from rehearsal.errors import UsageError
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.throwaway import log_in, manage, require_docker, stop_local
from rehearsal.plan.file import find_plan, load_plan


def stop_hosts(target: Target, *, images: bool = False) -> int:
    """Stop what runs on this machine for `local`; the data stays. A second run finds nothing to stop.

    Hosts on Docker are removed; keys, passwords and snapshots stay, so that the next `up` takes seconds.

    Raises:
        UsageError: the environment does not run on this machine.
    """
    plan = load_plan(find_plan(target.plan, target.root))
    env = load_environment(target.env, plan.name, target.root, secrets=False)
    if not env.is_throwaway:
        message = f"environment {env.name} is of kind {env.kind}; only what `local` and `docker` made is ours to stop"
        raise UsageError(message)
    if env.kind == "docker":
        return _tell_hosts(manage("down", *(["--images"] if images else [])))
    print("app servers and database stopped" if stop_local(env) else "no change: nothing was running")
    return DONE


def manage_hosts(target: Target, verb: str) -> int:
    """Make (`up`), look at (`status`) or reset (`reset`) the hosts of an environment on Docker.

    Raises:
        UsageError: the hosts of the environment are not made by us.
        HostsFailed: Docker or a host failed; says why.
    """
    require_docker(load_environment(target.env, target.plan, target.root, secrets=False))
    return _tell_hosts(manage(verb), looked=verb == "status")


def log_in_to(target: Target, host: str, command: str) -> int:
    """Be an SSH client on a host of an environment on Docker.

    Raises:
        UsageError: the hosts of the environment are not made by us.
    """
    require_docker(load_environment(target.env, target.plan, target.root, secrets=False))
    return log_in(host, command)


def _tell_hosts(found: dict[str, Any], *, looked: bool = False) -> int:
    """Print what was done to hosts, and how they are now; a host that was looked at and is not up is a failure."""
    print("\n".join(found["changed"]) or ("" if looked else "no change"))
    for host in found["hosts"]:
        kept = "snapshot" if host["snapshot"] else "no snapshot"
        answers = "ssh answers" if host["ssh"] else "no ssh"
        print(f"{host['name']:<10} {host['group']:<10} {host['address']:<16} {host['state']:<10} {answers:<12} {kept}")
    return FAILED if looked and not found["running"] else DONE
