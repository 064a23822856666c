"""Whether somebody would be told: Prometheus sees every target, and has the rules for partitions as they are shipped.

Owns the evidence of the gate `monitoring`. Asks Prometheus itself, by its API; must not know how it was installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx

from rehearsal.application.rules import SHIPPED

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Monitored:
    """What Prometheus says. `passed` is None where it could not be asked."""

    passed: bool | None
    observed: str
    targets: tuple[tuple[str, str, str], ...] = ()


def ask_prometheus(url: str, wanted: tuple[str, ...] = tuple(SHIPPED), altered: tuple[str, ...] = ()) -> Monitored:
    """Ask Prometheus for its targets, its rules, and whom it tells.

    Every target must be up, every wanted rule loaded, evaluated and as shipped, unless its name is among `altered`; and
    there must be an Alertmanager.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            active = _data(client, "/api/v1/targets?state=active")["activeTargets"]
            groups = _data(client, "/api/v1/rules?type=alert")["groups"]
            told = len(_data(client, "/api/v1/alertmanagers")["activeAlertmanagers"])
        targets = tuple((target["labels"]["job"], target["labels"]["instance"], target["health"]) for target in active)
        rules: dict[str, dict[str, Any]] = {rule["name"]: rule for group in groups for rule in group["rules"]}
        problems = [*_unseen(targets, told), *_unsound(rules, wanted, altered)]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
        return Monitored(None, f"Prometheus at {url} cannot be asked: {type(exc).__name__}: {exc}")
    said = f": {'; '.join(problems)}" if problems else ", all well"
    return Monitored(not problems, f"{len(targets)} targets, {len(rules)} rules{said}", targets)


def _unseen(targets: tuple[tuple[str, str, str], ...], told: int) -> Iterator[str]:
    """Yield what Prometheus does not see, and that nobody is told."""
    yield from (f"{job} {instance} is {health}" for job, instance, health in targets if health != "up")
    if not targets:
        yield "Prometheus looks at nothing"
    if not told:
        yield "Prometheus has no Alertmanager, so nobody is told"


def _unsound(
    rules: Mapping[str, Mapping[str, Any]], wanted: tuple[str, ...], altered: tuple[str, ...]
) -> Iterator[str]:
    """Yield rules that are missing, that cannot be evaluated, or that say something else than the shipped ones."""
    for name in wanted:
        rule = rules.get(name)
        if rule is None or rule["health"] != "ok":
            yield f"rule {name} is {rule['health'] if rule else 'missing'}"
            continue
        shipped = SHIPPED.get(name)
        found = ("".join(str(rule["query"]).split()), float(rule["duration"]))
        if shipped and name not in altered and found != ("".join(shipped[0].split()), shipped[1]):
            yield (
                f"rule {name} is not as shipped: {rule['query']} for {rule['duration']:g} s; load it again, or name it "
                "in `monitor_altered` of the inventory"
            )


def _data(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(path).raise_for_status()
    return cast("dict[str, Any]", answer.json()["data"])
