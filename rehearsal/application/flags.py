"""The routing flags of the app servers, looked at: in the file, in the process, and as the inventory wants them.

Owns what a server is asked and what counts as agreement. Must not change anything: `rollout` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import httpx

from rehearsal.application.probe import http
from rehearsal.environment import AppServer, Environment
from rehearsal.errors import CannotSee, UsageError
from rehearsal.hosts.pyinfra import HostsResult, flag_names, try_pyinfra
from rehearsal.plan.model import Plan

POLL_S = 0.05
REQUEST_TIMEOUT_S = 3.0
AT_ONCE = 32
SIDES = {True: "partitioned", False: "legacy"}
WORDS = {"on": True, "off": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Routing:
    """Where reads and writes go: True is the partitioned side."""

    reads: bool
    writes: bool

    def __str__(self) -> str:
        """Name both sides, as a health answer does."""
        return f"reads {SIDES[self.reads]}, writes {SIDES[self.writes]}"


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Flags of one server: as its env file says and as its process says; None is what could not be seen.

    `wish` is what the inventory wants of it, if it says so.
    """

    server: str
    file: Routing | None
    process: Routing | None
    problem: str | None = None
    wish: Routing | None = None

    @property
    def drift(self) -> bool | None:
        """Whether the process runs with other flags than the file says; None if one of them could not be seen."""
        return None if self.file is None or self.process is None else self.file != self.process

    @property
    def unwished(self) -> bool:
        """Whether file or process is seen to differ from what the inventory wants."""
        return self.wish is not None and any(routing not in (None, self.wish) for routing in (self.file, self.process))


def show_flags(env: Environment, plan: Plan, servers: Sequence[AppServer] | None = None) -> list[ServerFlags]:
    """Read each server's flags from its env file and from its process; changes nothing.

    A server that cannot be reached is said so, and does not keep the others from being looked at.
    """
    chosen = env.app_servers if servers is None else servers
    if not chosen:
        return []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        processes = pool.map(read_routing, chosen)  # asked while pyinfra starts
        names = [server.name for server in chosen]
        result = try_pyinfra(env.inventory, "flags-show", plan=plan, limit=names, all_or_none=False)
    return flags_seen(chosen, list(processes), result, plan)


def require_servers(env: Environment) -> None:
    """Refuse an environment in which nobody can be asked for flags.

    Raises:
        CannotSee: it has no app server.
    """
    if not env.app_servers:
        message = f"the environment {env.name} has no app server; add one to the group `app` of {env.inventory}"
        raise CannotSee(message)


def flags_seen(
    servers: Sequence[AppServer], processes: Sequence[tuple[Routing | None, str]], result: HostsResult, plan: Plan
) -> list[ServerFlags]:
    """Put together what the processes say and what a run of pyinfra reported of the files."""
    return [_server_flags(server, process, result, plan) for server, process in zip(servers, processes, strict=True)]


def disagreements(servers: Sequence[ServerFlags]) -> list[str]:
    """Say where file, process, inventory and fleet are seen to disagree; what was not seen is no disagreement."""
    found = [f"{flags.server}: the file says {flags.file}, the process runs with {flags.process}"
             for flags in servers if flags.drift]  # fmt: skip
    found += [f"{flags.server}: the inventory wants {flags.wish}" for flags in servers if flags.unwished]
    seen = {flags.process: flags.server for flags in reversed(servers) if flags.process}
    if len(seen) > 1:
        parts = "; ".join(f"{routing} as {server}" for routing, server in reversed(seen.items()))
        found.append(f"the fleet disagrees: some servers run with {parts}")
    return found


def wait_for_servers(env: Environment, *, timeout_s: float = 30) -> None:
    """Wait until every app server answers at its health endpoint.

    Raises:
        CannotSee: one does not within the time; says what it answers.
    """
    deadline = time.monotonic() + timeout_s
    for server in env.app_servers:
        routing, problem = await_routing(server, None, deadline)
        if routing is None:
            where = f"{server.name} does not answer at {server.url}/health within {timeout_s:.0f} s"
            message = f"{where}: {problem}; {where_to_look(server)}"
            raise CannotSee(message)


def read_routing(server: AppServer) -> tuple[Routing | None, str]:
    """Ask a server for the routing that its process runs with; None and the reason if it does not say."""
    try:
        answer = http().get(f"{server.url}/health", timeout=REQUEST_TIMEOUT_S)
        if answer.is_server_error:
            return None, f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
        answer.raise_for_status()
        said = cast("dict[str, Any]", answer.json())
        routing = Routing(_side(said["routing"]["reads"]), _side(said["routing"]["writes"]))
    except httpx.HTTPError as exc:
        return None, f"{type(exc).__name__}: {exc}"
    except (ValueError, KeyError, TypeError) as exc:
        return None, f"its health answer does not say its routing ({exc!r})"
    expected, name = server.data.get("app_server"), said.get("server")
    if expected and name and name != expected:
        # Two servers with one address, or the address of the balancer: one of them would never be asked.
        return None, f"{server.url} is answered by {name!r}, not by {expected!r}; correct `app_url` in the inventory"
    return routing, ""


def await_routing(
    server: AppServer, wanted: Routing | None, deadline: float, stop: threading.Event | None = None
) -> tuple[Routing | None, str]:
    """Ask until the server reports the wanted routing (any, if None) or the time is up; return the last answer.

    Whoever no longer wants to know sets `stop`.
    """
    stop = stop or threading.Event()
    while True:
        routing, problem = read_routing(server)
        if routing is not None and wanted in (None, routing):
            return routing, ""
        if routing is not None:
            problem = f"it runs with {routing}, wanted {wanted}"
        # HTTP has no way to be told when an answer changes.
        if time.monotonic() > deadline or stop.wait(POLL_S):
            return routing, problem


def where_to_look(server: AppServer) -> str:
    """Return where the reason of an unhealthy server stands."""
    return f"look in {server.log}" if server.log else "look in the app's log"


def wish_of(server: AppServer) -> Routing | None:
    """Return the flags that the inventory wants of a server (`app_flags`), if it says so.

    Raises:
        UsageError: the inventory says something else than on or off for reads and writes.
    """
    said = server.data.get("app_flags")
    if said is None:
        return None
    try:
        return Routing(*(WORDS[str(said[key]).lower()] for key in ("reads", "writes")))
    except (KeyError, TypeError) as exc:
        message = f'`app_flags` of {server.name} is {said!r}; it must be {{"reads": "on|off", "writes": "on|off"}}'
        raise UsageError(message) from exc


def _side(word: Any) -> bool:
    return {"partitioned": True, "legacy": False}[word]


def _server_flags(
    server: AppServer, process: tuple[Routing | None, str], result: HostsResult, plan: Plan
) -> ServerFlags:
    report = result.reports.get(server.name)
    if report is None:
        return ServerFlags(server.name, None, process[0], result.problem_of(server.name), wish_of(server))
    reads, writes = (report["flags"].get(name) for name in flag_names(plan))
    file = Routing(reads == "true", writes == "true") if reads is not None or writes is not None else None
    problem = report["problem"] or (None if file else "its env file has no flags") or process[1] or None
    return ServerFlags(server.name, file, process[0], problem, wish_of(server))
