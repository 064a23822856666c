"""The rolling flip of the routing flags: its order, its gates, and its rollback.

Owns which servers are changed when. Must not know how a host stores flags or restarts an app: that is the phase
`flags` of the host layer. All state is read from the servers, so a flip that was killed is finished by the next one.
"""

from __future__ import annotations

import fnmatch
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rehearsal.application.flags import (
    AT_ONCE,
    Routing,
    ServerFlags,
    await_routing,
    flags_seen,
    read_routing,
    require_servers,
    show_flags,
    where_to_look,
)
from rehearsal.application.probe import Rate, probe, run_hook, total
from rehearsal.environment import AppServer, Environment
from rehearsal.errors import CannotSee, UsageError
from rehearsal.evidence.events import FlagsFlipped
from rehearsal.evidence.run import Run
from rehearsal.hosts.pyinfra import HostsResult, try_pyinfra
from rehearsal.plan.model import Plan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a flip goes over the fleet: which servers, how many first, how many at once, how long each may take."""

    limit: tuple[str, ...] = ()
    canary: int = 0
    batch: str = "1"
    timeout_s: float = 30

    def batches(self, servers: Sequence[AppServer]) -> list[list[AppServer]]:
        """Return the servers in the order of the inventory: the canaries, then batch by batch.

        Raises:
            UsageError: the limit matches no server, or the batch is no number and no share.
        """
        chosen = self._chosen(servers)
        size = self._size(len(chosen))
        rest = chosen[self.canary :]
        parts = [chosen[: self.canary], *(rest[start : start + size] for start in range(0, len(rest), size))]
        return [part for part in parts if part]

    def _chosen(self, servers: Sequence[AppServer]) -> list[AppServer]:
        names = {server.name: (server.name, str(server.data.get("app_server") or server.name)) for server in servers}
        for pattern in self.limit:
            if not any(fnmatch.fnmatch(name, pattern) for both in names.values() for name in both):
                message = f"--limit {pattern}: no app server of that name; there are {', '.join(names) or 'none'}"
                raise UsageError(message)
        wanted = self.limit or ("*",)
        return [server for server in servers if any(fnmatch.fnmatch(n, w) for n in names[server.name] for w in wanted)]

    def _size(self, servers: int) -> int:
        match = re.fullmatch(r"(\d+)(%?)", self.batch.strip())
        number = int(match[1]) if match else 0
        if not match or number < 1 or (match[2] and number > 100) or self.canary < 0:
            message = (
                f"--batch {self.batch}, --canary {self.canary}: a batch is a number from 1 on, or a share like 25%"
            )
            raise UsageError(message)
        # Never more at once than the share allows, but one at least.
        return max(1, servers * number // 100) if match[2] else number


@dataclass(frozen=True, slots=True)
class ServerFlip:
    """What a flip did to one server. `reverted` is None where there was nothing to take back."""

    server: str
    before: ServerFlags
    after: ServerFlags | None = None
    restarted: bool = False
    seconds: float = 0.0
    error: str | None = None
    reverted: bool | None = None
    batch: int = 0


@dataclass(frozen=True, slots=True)
class FlipResult:
    """What a flip did, server by server in the order of the inventory; a server that was not reached yet is absent."""

    wanted: Routing
    servers: tuple[ServerFlip, ...]
    error: str | None = None
    untouched: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every server runs with the wanted flags."""
        return self.error is None

    @property
    def reverted(self) -> bool | None:
        """Whether everything that was touched is back as it was; None if the flip went well."""
        return None if self.ok else all(flip.reverted is not False for flip in self.servers)


def set_flags(
    env: Environment,
    plan: Plan,
    *,
    reads: bool,
    writes: bool,
    run: Run | None = None,
    rollout: Rollout | None = None,
) -> FlipResult:
    """Flip the flags of the app servers, batch by batch in the order of the inventory.

    A server whose process runs with its file's flags already is not restarted. Each server must report the wanted
    routing at its health endpoint, and probe requests must not fail more often than before, before the next batch is
    touched. At the first failure the flip stops, and the servers touched so far go back to what they had, the last
    ones first. Ctrl-C stops it where it is: the same command finishes it, since all state is read from the servers.

    Raises:
        CannotSee: the environment has no app server, or the flags of one cannot be read before anything is touched.
        UsageError: the limit matches no server, or the batch is no number and no share.
    """
    rollout = rollout or Rollout()
    batches = rollout.batches(env.app_servers)
    wanted = Routing(reads, writes)
    way = _Way(env, plan, run, rollout.timeout_s, wanted)
    first = way.look_and_turn(batches[0]) if len(batches) == 1 else []
    if not first:
        way.look([server for batch in batches for server in batch])
    done: list[ServerFlip] = []
    for number, batch in enumerate(batches, start=1):
        flips = first or way.turn(batch, way.before, wanted, number)
        done += flips
        for flip in flips:
            way.tell(flip, way.wanted)
        failed = next((f"{flip.server}: {flip.error}" for flip in flips if flip.error), None)
        if failed := failed or way.errs(batches[:number], flips):
            rest = tuple(server.name for later in batches[number:] for server in later)
            return FlipResult(way.wanted, _revert(way, batches[:number], done), failed, rest)
    return FlipResult(way.wanted, tuple(done))


def _require_seen(env: Environment, before: list[ServerFlags]) -> None:
    require_servers(env)
    if blind := [flags for flags in before if flags.file is None]:
        more = f" (and of {len(blind) - 1} more)" if len(blind) > 1 else ""
        problem = blind[0].problem or "its env file has none"
        message = (
            f"cannot read the flags of {blind[0].server}{more}: {problem}; nothing was changed; deploy the app there, "
            "mend the server, or leave it out with --limit"
        )
        raise CannotSee(message)


@dataclass(slots=True)
class _Way:
    """How servers are flipped: where, for which plan, how long their health may take; and how they were before."""

    env: Environment
    plan: Plan
    run: Run | None
    timeout_s: float
    wanted: Routing
    before: dict[str, ServerFlags] = field(default_factory=dict[str, ServerFlags])
    rates: dict[str, Rate] = field(default_factory=dict[str, Rate])

    def look(self, servers: Sequence[AppServer]) -> None:
        """See how servers are, and how often they err if any of them is to change.

        Raises:
            CannotSee: there is none, or the flags of one cannot be read.
        """
        before = show_flags(self.env, self.plan, servers)
        _require_seen(self.env, before)
        self.before = {flags.server: flags for flags in before}
        changes = any(not flags.file == flags.process == self.wanted for flags in before)
        self.rates = probe(self.plan, servers) if changes else {}

    def look_and_turn(self, servers: Sequence[AppServer]) -> list[ServerFlip]:
        """Look at servers and flip them all by one connection to each: half the time of one after the other.

        Empty, and nothing was touched, where that is no way to do it: a server has a drain hook, which must come
        between the two, or answers with the wanted flags already, or cannot be seen.
        """
        processes = _at_once(read_routing, servers)
        hooked = any(server.data.get("app_drain") for server in servers)
        if hooked or any(routing in (None, self.wanted) for routing, _ in processes):
            return []
        self.rates = probe(self.plan, servers)
        asked = self._ask_hosts(servers, servers, self.wanted, look=True)
        before = flags_seen(servers, processes, asked, self.plan)
        # That run touches nobody before it has reported readable flags of every server.
        if any(flags.file is None or flags.problem for flags in before):
            return []
        self.before = {flags.server: flags for flags in before}
        return self.turn(servers, self.before, self.wanted, 1, asked)

    def turn(
        self,
        servers: Sequence[AppServer],
        known: dict[str, ServerFlags],
        wanted: Routing,
        batch: int,
        asked: HostsResult | None = None,
    ) -> list[ServerFlip]:
        """Bring some servers to the wanted flags at once: drain, change and restart, ask their health, undrain.

        `asked` is what the hosts answered if they were asked to change and restart already.
        """
        started = time.monotonic()
        todo = [server for server in servers if not known[server.name].file == known[server.name].process == wanted]
        drained = _hooks(todo, "app_drain")
        changed = [] if drained else todo
        restarted, errors = self._change(changed, known, wanted, asked)
        errors |= drained
        # Those that need nothing too: the flip before this one may have been killed before it put them back.
        errors |= _hooks([server for server in servers if server.name not in errors], "app_undrain")
        seconds = time.monotonic() - started + (asked.seconds if asked else 0.0)
        return [
            ServerFlip(
                server.name,
                self.before[server.name],
                self._after(server, wanted, errors) if server in changed else known[server.name],
                server.name in restarted,
                seconds if server in todo else 0.0,
                errors.get(server.name),
                batch=batch,
            )
            for server in servers
        ]

    def _change(
        self,
        todo: Sequence[AppServer],
        known: dict[str, ServerFlags],
        wanted: Routing,
        asked: HostsResult | None,
    ) -> tuple[set[str], dict[str, str]]:
        """Change flags and restart, and ask each server's health; return who was restarted, and what went wrong."""
        if not todo:
            return set(), {}
        stale = [server for server in todo if known[server.name].process != wanted]
        result = asked or self._ask_hosts(todo, stale, wanted)
        errors = {server.name: problem for server in todo if (problem := result.problem_of(server.name))}
        errors |= self._unhealthy([server for server in todo if server.name not in errors], wanted)
        return {operation.host for operation in result.operations if operation.changed}, errors

    def _ask_hosts(
        self, servers: Sequence[AppServer], stale: Sequence[AppServer], wanted: Routing, *, look: bool = False
    ) -> HostsResult:
        """Have flags written and apps restarted; with `look`, only if the flags of every server could be read."""
        values = {
            "reads": wanted.reads,
            "writes": wanted.writes,
            "restart": [server.name for server in stale],
            "look": look,
        }
        names = [server.name for server in servers]
        # Where all were looked at before, one that is gone since must not keep the run from saying what became of the
        # others; where this run looks, one that cannot be seen must.
        return try_pyinfra(
            self.env.inventory, "flags", plan=self.plan, limit=names, data=values, run=self.run, all_or_none=look
        )

    def _unhealthy(self, servers: Sequence[AppServer], wanted: Routing) -> dict[str, str]:
        deadline, stop = time.monotonic() + self.timeout_s, threading.Event()
        answers = _at_once(lambda server: await_routing(server, wanted, deadline, stop), servers, stop)
        return {
            server.name: f"not healthy within {self.timeout_s:.0f} s: {problem}; {where_to_look(server)}"
            for server, (routing, problem) in zip(servers, answers, strict=True)
            if routing != wanted
        }

    @staticmethod
    def _after(server: AppServer, wanted: Routing, errors: dict[str, str]) -> ServerFlags:
        if server.name not in errors:
            return ServerFlags(server.name, wanted, wanted)
        return ServerFlags(server.name, None, read_routing(server)[0], errors[server.name])

    def errs(self, batches: Sequence[Sequence[AppServer]], flips: Sequence[ServerFlip]) -> str | None:
        """Say so if the flipped servers err more often than the plan allows, and more often than before the flip."""
        if not any(flip.restarted for flip in flips):
            return None
        flipped = [server for batch in batches for server in batch]
        now, was = (
            total(list(probe(self.plan, flipped).values())),
            total([self.rates[server.name] for server in flipped]),
        )
        if now.share <= max(self.plan.gates.max_error_rate, was.share):
            return None
        return f"error rate after batch {flips[0].batch}: {now}; before the rollout {was}"

    def tell(self, flip: ServerFlip, wanted: Routing, *, reverting: bool = False) -> None:
        """Put what became of a server into the events of the run."""
        if self.run:
            flipped = FlagsFlipped(
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
            self.run.tell(flipped)


def _revert(way: _Way, batches: list[list[AppServer]], done: list[ServerFlip]) -> tuple[ServerFlip, ...]:
    """Put the flags back that each touched server had, the last batch first; what has them still is left alone."""
    flips = {flip.server: flip for flip in done}
    now = {
        flags.server: flags
        for flags in show_flags(way.env, way.plan, [server for batch in batches for server in batch])
    }
    for batch in reversed(batches):
        for part, wanted in _parts(way, batch, flips):
            for back in way.turn(part, now, wanted, flips[part[0].name].batch):
                way.tell(back, wanted, reverting=True)
                flips[back.server] = _gone_back(flips[back.server], back)
    return tuple(flips.values())


def _parts(
    way: _Way, batch: Sequence[AppServer], flips: dict[str, ServerFlip]
) -> Iterable[tuple[list[AppServer], Routing]]:
    """Split a batch into what goes back together: the same flags; a server that failed by itself."""
    files = {server.name: way.before[server.name].file for server in batch if not _needs_nothing(way, server)}
    for wanted in dict.fromkeys(file for file in files.values() if file):
        same = [server for server in batch if files.get(server.name) == wanted]
        if good := [server for server in same if not flips[server.name].error]:
            yield good, wanted
        yield from (([server], wanted) for server in same if flips[server.name].error)


def _needs_nothing(way: _Way, server: AppServer) -> bool:
    before = way.before[server.name]
    return before.file == before.process == way.wanted


def _gone_back(flip: ServerFlip, back: ServerFlip) -> ServerFlip:
    """Return what became of a server whose flags were to go back."""
    if back.error is None:
        return replace(flip, after=back.after, reverted=True)
    error = f"{flip.error or 'reverting'}; the rollback failed too: {back.error}"
    return replace(flip, after=back.after, error=error, reverted=False)


def _hooks(servers: Sequence[AppServer], key: str) -> dict[str, str]:
    with_hook = [server for server in servers if server.data.get(key)]
    said = _at_once(lambda server: run_hook(server, key), with_hook)
    return {server.name: problem for server, problem in zip(with_hook, said, strict=True) if problem}


def _at_once(
    work: Callable[[AppServer], T], servers: Sequence[AppServer], stop: threading.Event | None = None
) -> list[T]:
    """Do work for all servers side by side; `stop` is set if Ctrl-C comes, so that nobody waits for a server then."""
    if not servers:
        return []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(work, servers))
        except BaseException:
            if stop:
                stop.set()
            raise
