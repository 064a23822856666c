"""What each verb does to an environment, in one table: whoever adds a verb says it here, or no verb starts.

Owns the classes of verbs. What a class demands of production is `rehearsal.approval.production`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Consent(Enum):
    """What a verb does to the environment that it is pointed at."""

    HARMLESS = "touches no environment"
    READS = "changes nothing there"
    ALWAYS = "holds up or lets go on what is at work; never demands a GO"
    PREPARES = "brings hosts and registry to the wanted state, before there may be a database to look at"
    CHANGES = "changes it"
    FOLLOWS = "goes back, or on, from a change: the GO that opened that change opens this too"
    BY_POLICY = "does what a policy says, which a GO opened when it was adopted"
    NEVER = "never runs on production"


ACTS = {
    "rehearse": Consent.NEVER,
    "provision": Consent.PREPARES,
    "data": Consent.NEVER,
    "hosts-up": Consent.NEVER,
    "hosts-status": Consent.NEVER,
    "hosts-reset": Consent.NEVER,
    "hosts-down": Consent.NEVER,
    "hosts-ssh": Consent.NEVER,
    "migrate": Consent.CHANGES,
    "status": Consent.READS,
    "verify": Consent.READS,
    "switchover": Consent.CHANGES,
    "split": Consent.FOLLOWS,
    "rollback": Consent.FOLLOWS,
    "cleanup": Consent.FOLLOWS,
    "pause": Consent.ALWAYS,
    "resume": Consent.ALWAYS,
    "doctor": Consent.READS,
    "load": Consent.CHANGES,
    "flags-show": Consent.READS,
    "flags-set": Consent.CHANGES,
    "lifecycle-adopt": Consent.CHANGES,
    "lifecycle-status": Consent.READS,
    "lifecycle-premake": Consent.BY_POLICY,
    "lifecycle-retain": Consent.BY_POLICY,
    "lifecycle-install": Consent.CHANGES,
    "lifecycle-archive": Consent.BY_POLICY,
    "lifecycle-restore": Consent.BY_POLICY,
    "plan-new": Consent.READS,
    "plan-review": Consent.HARMLESS,
    "runbook": Consent.HARMLESS,
    "report-open": Consent.HARMLESS,
    "report-sign": Consent.HARMLESS,
    "report-verify": Consent.HARMLESS,
    "gates": Consent.HARMLESS,
    "explain": Consent.HARMLESS,
}


def act_of(command: str, options: Mapping[str, Any]) -> Consent:
    """Return what a verb does with these options.

    >>> act_of("doctor", {"fix": True}), act_of("doctor", {"fix": False})
    (<Consent.FOLLOWS: 'goes back, or on, from a change: the GO that opened that change opens this too'>, \
<Consent.READS: 'changes nothing there'>)
    """
    if options.get("dry_run") or options.get("save"):
        return Consent.READS
    if options.get("fix"):
        return Consent.FOLLOWS  # after an emergency too: what bars the rollback must not bar its remedy
    if command == "lifecycle-install" and options.get("remove"):
        return Consent.ALWAYS  # nobody needs a GO to keep partitions from being dropped
    if command == "flags-set" and options.get("reads") == options.get("writes") == "off":
        return Consent.FOLLOWS  # it is the rollback of dual-write
    return ACTS[command]
