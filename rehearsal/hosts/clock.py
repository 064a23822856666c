"""Timers of partitions on the hosts of the inventory's group `clock`: brought, done at once, looked at.

Owns what is asked of the host layer for them. Must not know what a run of theirs does in the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.errors import UsageError
from rehearsal.evidence.run import Run
from rehearsal.hosts.pyinfra import HostsResult, run_pyinfra, try_pyinfra
from rehearsal.plan.model import Plan

JOBS = ("premake", "retain")
NONE = (
    "the inventory has no group `clock`; name a host there that has systemd and reaches the database, as "
    "`clock = database`, or take another clock: --clock pg_cron, or --clock kubernetes --save FILE"
)


@dataclass(frozen=True, slots=True)
class Clock:
    """The timers of one plan; `hosts` are where they are."""

    inventory: Path
    plan: Plan
    run: Run
    hosts: tuple[str, ...]

    def bring(self, *, dry: bool = False, remove: bool = False) -> HostsResult:
        """Bring the timers, or remove them; a second run changes nothing.

        Raises:
            UsageError: the inventory has no host for them.
            HostsFailed: a host was not reached, or an operation failed.
        """
        if not self.hosts:
            raise UsageError(NONE)
        return run_pyinfra(self.inventory, "lifecycle", plan=self.plan, run=self.run, dry=dry, data={"remove": remove})

    def do(self, job: str) -> list[str]:
        """Do a job by the unit that the timer starts; return what went wrong."""
        data = {"job": job}
        # The first host alone: each of them would do the same.
        done = try_pyinfra(
            self.inventory, "lifecycle-job", plan=self.plan, run=self.run, data=data, limit=self.hosts[:1]
        )
        return [done.reason] if done.reason else []

    def look(self) -> dict[str, Mapping[str, Any]]:
        """Return the timers by host and job, as `fleet.facts.Timer` found them.

        Raises:
            HostsFailed: a host was not reached.
        """
        result = run_pyinfra(self.inventory, "lifecycle-show", plan=self.plan, run=self.run)
        return {
            f"{host} {job}": timer for host, said in result.reports.items() for job, timer in said["timers"].items()
        }


def problems_of(timers: Mapping[str, Mapping[str, Any]], hosts: tuple[str, ...]) -> list[str]:
    """Return what keeps a timer from going off: each job of each host must be enabled, active, and due some time.

    >>> on = {"enabled": "enabled", "active": "active", "next": "Sun 2026-11-29 00:04:00 UTC", "last": "success"}
    >>> problems_of({"db premake": on, "db retain": {**on, "enabled": "disabled"}}, ("db",))
    ['timer db retain is disabled, and off after the next start of the host']
    >>> problems_of({"db premake": {**on, "next": ""}}, ("db",))
    ['timer db premake is never due', 'timer db retain is not installed']
    """
    return [problem for host in hosts for job in JOBS if (problem := _problem(f"{host} {job}", timers))]


def _problem(name: str, timers: Mapping[str, Mapping[str, Any]]) -> str | None:
    timer = timers.get(name)
    if not timer or not timer["enabled"]:
        return f"timer {name} is not installed"
    if timer["enabled"] != "enabled":
        return f"timer {name} is {timer['enabled']}, and off after the next start of the host"
    if timer["active"] != "active":
        return f"timer {name} is {timer['active'] or 'not active'}"
    return None if timer["next"] else f"timer {name} is never due"
