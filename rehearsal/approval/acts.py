"""What each verb does to an environment, in one table: whoever adds a verb says it here, or no verb starts.

Owns the classes of verbs. What a class demands of production is `rehearsal.approval.production`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Act(Enum):
    """What a verb does to the environment that it is pointed at."""

    HARMLESS = "touches no environment"
    READS = "changes nothing there"
    ALWAYS = "holds up or lets go on what is at work; never demands a GO"
    PREPARES = "brings hosts and registry to the wanted state, before there may be a database to look at"
    CHANGES = "changes it"
    FOLLOWS = "goes back, or on, from a change: the GO that opened that change opens this too"
    NEVER = "never runs on production"


ACTS = {
    "rehearse": Act.NEVER,
    "provision": Act.PREPARES,
    "data": Act.NEVER,
    "hosts-up": Act.NEVER,
    "hosts-status": Act.NEVER,
    "hosts-reset": Act.NEVER,
    "hosts-down": Act.NEVER,
    "hosts-ssh": Act.NEVER,
    "migrate": Act.CHANGES,
    "verify": Act.READS,
    "switchover": Act.CHANGES,
    "split": Act.FOLLOWS,
    "rollback": Act.FOLLOWS,
    "cleanup": Act.FOLLOWS,
    "pause": Act.ALWAYS,
    "resume": Act.ALWAYS,
    "doctor": Act.READS,
    "load": Act.CHANGES,
    "flags-show": Act.READS,
    "flags-set": Act.CHANGES,
    "plan-new": Act.READS,
    "plan-review": Act.HARMLESS,
    "report-open": Act.HARMLESS,
    "report-sign": Act.HARMLESS,
    "report-verify": Act.HARMLESS,
    "gates": Act.HARMLESS,
    "explain": Act.HARMLESS,
}


def act_of(command: str, options: Mapping[str, Any]) -> Act:
    """Return what a verb does with these options.

    >>> act_of("doctor", {"fix": True}), act_of("doctor", {"fix": False})
    (<Act.CHANGES: 'changes it'>, <Act.READS: 'changes nothing there'>)
    """
    if options.get("dry_run"):
        return Act.READS
    if options.get("fix"):
        return Act.CHANGES
    if command == "flags-set" and options.get("reads") == options.get("writes") == "off":
        return Act.FOLLOWS  # it is the rollback of dual-write
    return ACTS[command]
