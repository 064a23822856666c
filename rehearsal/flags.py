"""The routing flags of the app servers: show them, and flip them one server at a time.

Owns the order of a flip, its health gate and its way back. Must not know how a host stores flags or restarts an app:
that is the phase `flags` of the host layer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx

from rehearsal.environment import AppServer, Environment
from rehearsal.errors import CannotSee, RehearsalError
from rehearsal.evidence import Run
from rehearsal.hosts import HostsResult, flag_names, run_pyinfra, try_pyinfra
from rehearsal.plan import Plan

POLL_S = 0.05
REQUEST_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Routing:
    """Where reads and writes go: True is the partitioned side."""

    reads: bool
    writes: bool

    def __str__(self) -> str:
        """Name both sides, as a health answer does."""
        sides = {True: "partitioned", False: "legacy"}
        return f"reads {sides[self.reads]}, writes {sides[self.writes]}"


@dataclass(frozen=True, slots=True)
class ServerFlags:
    """Flags of one server: as its env file says and as its process says; None is what could not be seen."""

    server: str
    file: Routing | None
    process: Routing | None
    problem: str | None = None

    @property
    def drift(self) -> bool | None:
        """Whether the process runs with other flags than the file says; None if one of them could not be seen."""
        return None if self.file is None or self.process is None else self.file != self.process


@dataclass(frozen=True, slots=True)
class ServerFlip:
    """What a flip did to one server."""

    server: str
    before: ServerFlags
    after: ServerFlags | None = None
    restarted: bool = False
    seconds: float = 0.0
    error: str | None = None
    reverted: bool | None = None


@dataclass(frozen=True, slots=True)
class FlipResult:
    """What a flip did, server by server in the order of the inventory; a server that was not reached yet is absent."""

    wanted: Routing
    servers: tuple[ServerFlip, ...]
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every server runs with the wanted flags."""
        return self.error is None

    @property
    def reverted(self) -> bool | None:
        """Whether everything that was touched is back as it was; None if the flip went well."""
        return None if self.ok else all(one.reverted is not False for one in self.servers)


def show_flags(env: Environment, plan: Plan) -> list[ServerFlags]:
    """Read each server's flags from its env file and from its process; changes nothing."""
    result = try_pyinfra(env.inventory, "flags-show", plan=plan)
    return [_server_flags(server, result, plan) for server in env.app_servers]


def set_flags(
    env: Environment, plan: Plan, *, reads: bool, writes: bool, run: Run | None = None, restart_timeout_s: float = 30
) -> FlipResult:
    """Flip the flags of every app server, one at a time in the order of the inventory.

    A server whose process runs with its file's flags already is not restarted. Each server must report the wanted
    routing at its health endpoint before the next one is touched. At the first failure the flip stops, and the servers
    touched so far go back to what they had, the last one first; after Ctrl-C likewise.

    Raises:
        CannotSee: the environment has no app server, or the flags of one cannot be read before anything is touched.
    """
    before = show_flags(env, plan)
    _require_seen(env, before)
    wanted, way = Routing(reads, writes), _Way(env, plan, run, restart_timeout_s)
    done: list[ServerFlip] = []
    for server, flags in zip(env.app_servers, before, strict=True):
        try:
            flip = _flip(way, server, flags, wanted)
        except KeyboardInterrupt:
            _revert(way, [*done, ServerFlip(server.name, flags)])
            raise
        done.append(flip)
        _tell(run, flip, wanted)
        if flip.error:
            return FlipResult(wanted, _revert(way, done), f"{server.name}: {flip.error}")
    return FlipResult(wanted, tuple(done))


def wait_for_servers(env: Environment, *, timeout_s: float = 30) -> None:
    """Wait until every app server answers at its health endpoint.

    Raises:
        CannotSee: one does not within the time; says what it answers.
    """
    deadline = time.monotonic() + timeout_s
    for server in env.app_servers:
        routing, problem = _await_routing(server, None, deadline)
        if routing is None:
            where = f"{server.name} does not answer at {server.url}/health within {timeout_s:.0f} s"
            message = f"{where}: {problem}; {_log(server)}"
            raise CannotSee(message)


def read_routing(server: AppServer) -> tuple[Routing | None, str]:
    """Ask a server for the routing that its process runs with; None and the reason if it does not say."""
    try:
        answer = httpx.get(f"{server.url}/health", timeout=REQUEST_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        routing = cast("dict[str, Any]", answer.json())["routing"]
        return Routing(_side(routing["reads"]), _side(routing["writes"])), ""
    except httpx.HTTPError as exc:
        return None, f"{type(exc).__name__}: {exc}"
    except (ValueError, KeyError, TypeError) as exc:
        return None, f"its health answer does not say its routing ({exc!r})"


def _side(word: Any) -> bool:
    return {"partitioned": True, "legacy": False}[word]


def _server_flags(server: AppServer, result: HostsResult, plan: Plan) -> ServerFlags:
    process, problem = read_routing(server)
    report = result.reports.get(server.name)
    if report is None:
        return ServerFlags(server.name, None, process, result.reason or "the host reported nothing")
    reads, writes = (report["flags"].get(name) for name in flag_names(plan))
    file = Routing(reads == "true", writes == "true") if reads is not None or writes is not None else None
    return ServerFlags(server.name, file, process, problem or None)


def _require_seen(env: Environment, before: list[ServerFlags]) -> None:
    if not before:
        message = f"the environment {env.name} has no app server to flip; add one to the group `app` of {env.inventory}"
        raise CannotSee(message)
    if blind := [one for one in before if one.file is None]:
        problem = blind[0].problem or "its env file has none"
        message = f"cannot read the flags of {blind[0].server}: {problem}; deploy the app first"
        raise CannotSee(message)


@dataclass(frozen=True, slots=True)
class _Way:
    """How each server is flipped: where, for which plan, and how long its health may take."""

    env: Environment
    plan: Plan
    run: Run | None
    timeout_s: float


def _flip(way: _Way, server: AppServer, before: ServerFlags, wanted: Routing) -> ServerFlip:
    started = time.monotonic()
    flip = ServerFlip(server.name, before)
    if before.file == before.process == wanted:
        return replace(flip, after=before)
    try:
        result = run_pyinfra(
            way.env.inventory,
            "flags",
            plan=way.plan,
            limit=[server.name],
            data={"reads": wanted.reads, "writes": wanted.writes},
            run=way.run,
        )
    except RehearsalError as exc:
        return replace(flip, seconds=time.monotonic() - started, error=str(exc))
    routing, problem = _await_routing(server, wanted, time.monotonic() + way.timeout_s)
    error = None if routing == wanted else f"not healthy within {way.timeout_s:.0f} s: {problem}; {_log(server)}"
    return replace(
        flip,
        after=ServerFlags(server.name, wanted, routing, problem or None),
        restarted=any(one.changed and one.name.startswith("Restart") for one in result.operations),
        seconds=time.monotonic() - started,
        error=error,
    )


def _await_routing(server: AppServer, wanted: Routing | None, deadline: float) -> tuple[Routing | None, str]:
    """Ask until the server reports the wanted routing (any, if None) or the time is up; return the last answer."""
    while True:
        routing, problem = read_routing(server)
        if routing is not None and wanted in (None, routing):
            return routing, ""
        if routing is not None:
            problem = f"it runs with {routing}, wanted {wanted}"
        if time.monotonic() > deadline:
            return routing, problem
        time.sleep(POLL_S)  # HTTP has no way to be told when an answer changes


def _revert(way: _Way, done: list[ServerFlip]) -> tuple[ServerFlip, ...]:
    """Put the flags back that each touched server had, the last one first, and check its health again."""
    servers = {server.name: server for server in way.env.app_servers}
    reverted = list(done)
    for index, flip in reversed(list(enumerate(done))):
        if flip.before.file is None:
            continue
        now = replace(flip.before, process=None)  # what it was before the flip must not pass for what it is now
        back = _flip(way, servers[flip.server], now, flip.before.file)
        _tell(way.run, back, flip.before.file, reverting=True)
        error = (
            flip.error if back.error is None else f"{flip.error or 'reverting'}; the way back failed too: {back.error}"
        )
        reverted[index] = replace(flip, after=back.after, error=error, reverted=back.error is None)
    return tuple(reverted)


def _tell(run: Run | None, flip: ServerFlip, wanted: Routing, *, reverting: bool = False) -> None:
    if run:
        run.event(
            "flags",
            server=flip.server,
            before=str(flip.before.process or "unseen"),
            wanted=str(wanted),
            after=str((flip.after and flip.after.process) or "unseen"),
            restarted=flip.restarted,
            seconds=round(flip.seconds, 3),
            ok=flip.error is None,
            error=flip.error,
            reverting=reverting,
        )


def _log(server: AppServer) -> str:
    return f"look in {server.log}" if server.log else "look in the app's log"
