"""What the users of an app server feel while it is flipped: taken out of rotation and back, and how often it errs.

Owns the drain hooks of the inventory and the probes between two batches. Must not know flags.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import httpx

from rehearsal.application.smoke import fill
from rehearsal.environment import AppServer
from rehearsal.plan.model import Plan, Smoke

AT_ONCE = 32
HOOK_TIMEOUT_S = 120.0
ROUNDS = 3
REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How many probe requests failed, and what the first one met."""

    sent: int
    failed: int
    first: str = ""

    @property
    def share(self) -> float:
        """Failed over sent."""
        return self.failed / self.sent if self.sent else 0.0

    def __str__(self) -> str:
        """Say it with its first failure."""
        return f"{self.failed} of {self.sent} probe requests failed" + (f", first: {self.first}" if self.first else "")


@cache
def http() -> httpx.Client:
    """Return the client that every server is asked with: making one costs 50 ms, most of it for TLS.

    Connections are not kept: one that a restart has cut must not be taken for an answer.
    """
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def run_hook(server: AppServer, key: str) -> str | None:
    """Run a hook of a server (`app_drain`, `app_undrain`) on this machine; return why it failed, or None.

    The command is a list of words or one line, without a shell; `{server}`, `{url}` and `{host}` are filled in. It is
    run again by the next flip, and must bear that.
    """
    hook = server.data.get(key)
    if not hook:
        return None
    words = shlex.split(hook) if isinstance(hook, str) else [str(word) for word in hook]
    values = {"server": str(server.data.get("app_server") or server.name), "url": server.url, "host": server.name}
    argv = [_filled(word, values) for word in words]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HOOK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{key} failed: {exc}"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip() or "nothing printed").splitlines()[-1]
    return f"{key} exited with status {done.returncode}: {said}"


def probe(plan: Plan, servers: Sequence[AppServer]) -> dict[str, Rate]:
    """Send the plan's reading requests to each server a few times; return how often each one failed.

    A request counts as failed without an answer and with another status than the plan's. Nothing is written.
    """
    if not servers:
        return {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rates = pool.map(partial(_probe, _reading(plan)), servers)
        return {server.name: rate for server, rate in zip(servers, rates, strict=True)}


def total(rates: Sequence[Rate]) -> Rate:
    """Return the rate of several servers together."""
    first = next((rate.first for rate in rates if rate.first), "")
    return Rate(sum(rate.sent for rate in rates), sum(rate.failed for rate in rates), first)


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def _reading(plan: Plan) -> list[tuple[str, int]]:
    """Return path and status of the requests that only read and need no earlier answer; health, if there are none."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {"marker": "probe", "now": now.isoformat(), "today": now.date().isoformat()}
    found = [(path, smoke.status) for smoke in plan.smoke if smoke.method == "GET" and (path := _path(smoke, values))]
    return found or [("/health", 200)]


def _path(smoke: Smoke, values: dict[str, Any]) -> str | None:
    try:
        return str(fill(smoke.path, values))
    except KeyError:
        return None


def _probe(requests: list[tuple[str, int]], server: AppServer) -> Rate:
    sent = failed = 0
    first = ""
    for path, status in requests * ROUNDS:
        problem = _ask(server.url + path, status)
        sent, failed = sent + 1, failed + bool(problem)
        first = first or (f"{server.name} {path}: {problem}" if problem else "")
    return Rate(sent, failed, first)


def _ask(url: str, status: int) -> str | None:
    try:
        answer = http().get(url, timeout=REQUEST_TIMEOUT_S)
    except httpx.HTTPError as exc:
        return f"{type(exc).__name__}: {exc}"
    return None if answer.status_code == status else f"status {answer.status_code} instead of {status}"
