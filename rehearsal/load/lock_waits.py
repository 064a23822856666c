"""Who waited behind us: sessions of the application that waited for a lock, sampled while something is done to them.

Owns the sampler and its report. Must not know what is done, or whose lock it is beyond its name.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg

from rehearsal.environment import Database
from rehearsal.errors import CannotSee, PreconditionError
from rehearsal.evidence.events import WaitsSeen
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect

HERTZ = 20.0
ROLE = "victim sampler"
SAMPLES = "victims.jsonl"
MAX_GAP_S = 1.0
# pg_locks is read only when somebody waits: 0.3 ms against 4.4 ms with 3,200 lock rows.
WAITING = """
select a.pid
from pg_catalog.pg_stat_activity as a
where a.wait_event_type = 'Lock' and a.datname = current_database() and a.backend_type = 'client backend'
      and (a.application_name not like 'pg-rehearsal %%' or a.application_name = 'pg-rehearsal load')
      and (%(users)s::text[] is null or a.usename = any (%(users)s::text[]))
"""
# waitstart is null for an instant after a wait began; the next sample then sees it with its whole length.
WAITS = """
select l.pid, a.application_name, l.mode, coalesce(l.relation::regclass::text, l.locktype),
       extract(epoch from clock_timestamp() - l.waitstart)::float8,
       extract(epoch from l.waitstart)::float8, left(a.query, 80),
       array(select format('%%s pid %%s', coalesce(nullif(b.application_name, ''), b.backend_type), b.pid)
             from pg_catalog.pg_stat_activity as b
             where b.pid = any (pg_catalog.pg_blocking_pids(l.pid))
             order by b.pid)
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a using (pid)
where not l.granted and l.waitstart is not null and l.pid = any (%(pids)s)
"""
SEES_ALL = """
select rolsuper or pg_catalog.pg_has_role(oid, 'pg_read_all_stats', 'USAGE')
from pg_catalog.pg_roles
where rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class PhaseVictims:
    """What waiting for locks cost the application in one phase."""

    blocked_session_s: float = 0.0
    waits: int = 0
    longest_ms: float = 0.0
    max_queue: int = 0
    longest: str = ""
    blockers: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class VictimReport:
    """What waiting for locks cost the application.

    A wait that ended between two samples counts up to the later one, so lengths are at most one period too long;
    waits that lie between two samples, at most `max_gap_ms` apart, go unseen. `blockers` holds the blocked session
    seconds by blocking session. `complete` is False when the sampler was blind for a while; `reasons` say when and
    why.
    """

    samples: int
    period_ms: float
    max_gap_ms: float
    total: PhaseVictims
    phases: dict[str, PhaseVictims]
    complete: bool
    reasons: tuple[str, ...]

    def to_event(self) -> WaitsSeen:
        """Return it as plain values for the report."""
        return WaitsSeen(**asdict(self))


@dataclass(slots=True)
class _Wait:
    """One wait of one session, as last seen."""

    phase: str
    started: float
    counted: float
    what: str
    blockers: list[str]


@dataclass(slots=True)
class _Tally:
    blocked_s: float = 0.0
    waits: int = 0
    longest_s: float = 0.0
    max_queue: int = 0
    longest: str = ""
    blockers: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, wait: _Wait, until: float) -> None:
        more = until - wait.counted
        self.blocked_s += more
        for name in wait.blockers:
            self.blockers[name] = self.blockers.get(name, 0.0) + more
        if until - wait.started > self.longest_s:
            self.longest_s, self.longest = until - wait.started, wait.what

    def report(self) -> PhaseVictims:
        worst = sorted(self.blockers.items(), key=lambda item: -item[1])[:20]
        blockers = {name: round(seconds, 3) for name, seconds in worst}
        longest_ms = round(self.longest_s * 1e3, 1)
        return PhaseVictims(round(self.blocked_s, 3), self.waits, longest_ms, self.max_queue, self.longest, blockers)


class VictimSampler:
    """Samples in a thread of its own, over a connection of its own, from start to stop."""

    def __init__(
        self, database: Database, run: Run, *, users: Sequence[str] | None = None, hertz: float = HERTZ
    ) -> None:
        self._database = database
        self._run = run
        self._users = list(users) if users is not None else None
        self._period = 1.0 / hertz
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._phase = run.phase
        self._waits: dict[tuple[int, float], _Wait] = {}
        self._tallies: dict[str, _Tally] = {}
        self._total = _Tally()
        self._samples = 0
        self._seen_at = 0.0
        self._gap_s = 0.0
        self._reasons: list[str] = []

    def start(self) -> Self:
        """Begin to sample.

        Raises:
            CannotSee: the role does not see what other sessions wait for; says what to grant.
            PreconditionError: the database cannot be reached.
        """
        conn = connect(self._database, role=ROLE)
        row = conn.execute(SEES_ALL).fetchone()
        if not row or not row[0]:
            conn.close()
            message = f"{self._database.user} does not see what other sessions wait for; grant pg_monitor to it"
            raise CannotSee(message)
        self._seen_at = time.monotonic()
        self._thread = threading.Thread(target=self._sample_all, args=(conn,), daemon=True, name=ROLE)
        self._thread.start()
        return self

    def mark(self, phase: str) -> None:
        """Begin a phase: waits seen from now on are counted under it."""
        self._phase = phase

    def stop(self) -> VictimReport:
        """End and report; a second call reports the same."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        reasons = [*self._reasons, *(["no sample was taken"] if not self._samples else [])]
        if self._gap_s > max(MAX_GAP_S, 3 * self._period):
            reasons.append(f"no sample for {self._gap_s:.1f} s: waits that lie within were not seen")
        return VictimReport(
            samples=self._samples,
            period_ms=self._period * 1e3,
            max_gap_ms=round(self._gap_s * 1e3, 1),
            total=self._total.report(),
            phases={phase: tally.report() for phase, tally in self._tallies.items()},
            complete=not reasons,
            reasons=tuple(reasons),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _sample_all(self, conn: Connection) -> None:
        current: Connection | None = conn
        while not self._ended.wait(self._period):
            if current is None:
                current = self._reconnect()
                continue
            try:
                self._sample(current)
            except psycopg.Error as exc:
                self._blind(exc.sqlstate or type(exc).__name__)
                current.close()
                current = None
        self._count([], time.time())
        if current is not None:
            current.close()

    def _reconnect(self) -> Connection | None:
        try:
            return connect(self._database, role=ROLE)
        except PreconditionError:
            return None  # said once, when the connection was lost; tried again a period later

    def _blind(self, why: str) -> None:
        self._reasons.append(f"blind for a while in phase {self._phase or 'none'}: {why}")
        self._waits.clear()

    def _sample(self, conn: Connection) -> None:
        pids = [row[0] for row in conn.execute(WAITING, {"users": self._users}).fetchall()]
        rows = conn.execute(WAITS, {"pids": pids}).fetchall() if pids else []
        self._samples += 1
        seen_at = time.monotonic()
        self._gap_s, self._seen_at = max(self._gap_s, seen_at - self._seen_at), seen_at
        self._count(rows, time.time())
        if rows:
            self._write(rows)

    def _count(self, rows: Sequence[tuple[Any, ...]], now: float) -> None:
        tally = self._tallies.setdefault(self._phase, _Tally())
        seen: dict[tuple[int, float], _Wait] = {}
        for pid, name, mode, target, waited, started, query, blockers in rows:
            key = (pid, started)
            wait = self._waits.pop(key, None)
            if wait is None:
                # The first sight of a wait counts what it has waited already.
                wait = _Wait(self._phase, now - waited, now - waited, f"{name}: {mode} on {target}: {query}", blockers)
                self._total.waits += 1
                tally.waits += 1
            seen[key] = wait
            wait.blockers = blockers
            self._add(tally, wait, now)
        for gone in self._waits.values():
            self._add(tally, gone, now)
        for sums in (tally, self._total):
            sums.max_queue = max(sums.max_queue, len(rows))
        self._waits = seen

    def _add(self, tally: _Tally, wait: _Wait, now: float) -> None:
        tally.add(wait, now)
        self._total.add(wait, now)
        wait.counted = now

    def _write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        waits = [
            {"pid": row[0], "what": row[3], "mode": row[2], "s": round(row[4], 3), "blockers": row[7]} for row in rows
        ]
        line = {"at": time.time(), "phase": self._phase, "waits": waits}
        self._run.append_text(SAMPLES, json.dumps(line) + "\n")
