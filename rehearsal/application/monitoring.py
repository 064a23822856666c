"""Whether somebody would be told: Prometheus sees every target, and has the rules for partitions.

Owns the evidence of the gate `monitoring`. Asks Prometheus itself, by its API; must not know how it was installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import httpx

TIMEOUT_S = 5.0
# Rules by these names, or the inventory's own: `monitor_rules`.
RULES = (
    "DefaultPartitionHasRows",
    "NoPartitionForTheFuture",
    "FewerPartitionsAheadThanWanted",
    "RetentionLags",
    "DetachIsPending",
    "ChangeLogGrows",
    "PremakeDoesNotSucceed",
    "RetainDoesNotSucceed",
    "AdoptedTableUnclear",
    "SessionsWaitForLocks",
    "SequenceNearItsEnd",
    "TargetDown",
    "DatabaseDown",
    "ExporterCannotQuery",
)


@dataclass(frozen=True, slots=True)
class Monitored:
    """What Prometheus says. `passed` is None where it could not be asked."""

    passed: bool | None
    observed: str
    targets: tuple[tuple[str, str, str], ...] = ()


def ask_prometheus(url: str, wanted: tuple[str, ...] = RULES) -> Monitored:
    """Ask Prometheus for its targets and rules; every target must be up, every wanted rule loaded and evaluated."""
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            active = _data(client, "/api/v1/targets?state=active")["activeTargets"]
            groups = _data(client, "/api/v1/rules")["groups"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        return Monitored(None, f"Prometheus at {url} cannot be asked: {type(exc).__name__}: {exc}")
    targets = tuple((target["labels"]["job"], target["labels"]["instance"], target["health"]) for target in active)
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    problems = [f"{job} {instance} is {health}" for job, instance, health in targets if health != "up"]
    problems += [f"rule {name} is {rules.get(name, 'missing')}" for name in wanted if rules.get(name) != "ok"]
    if not targets:
        problems.append("Prometheus looks at nothing")
    observed = f"{len(targets)} targets, {len(rules)} rules" + (
        f": {'; '.join(problems)}" if problems else ", all well"
    )
    return Monitored(not problems, observed, targets)


def _data(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(path).raise_for_status()
    return cast("dict[str, Any]", answer.json()["data"])
