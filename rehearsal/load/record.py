"""How the load fares, second by second: counts, latencies from the scheduled time, stalls, and its own lag.

Owns the file `NNNN.latency.jsonl` of one generator. A stall is the time from the first arrival that was not served
to the next success: where nobody asks, nothing stalls.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rehearsal.load.histogram import Histogram
from rehearsal.load.ledger import append_line

CellKey = tuple[int, str, str, str]
# Of a kind that is asked for rarely, one failure is followed by a long time in which nobody asks.
SEVERAL = 3
_COUNTS = ("offered", "ok", "failed", "unknown", "skipped", "missing")


@dataclass(frozen=True, slots=True)
class OpClass:
    """What one arrival is: operation, action, way and app server."""

    op: str
    action: str
    via: str
    server: str | None

    @property
    def tracks(self) -> tuple[str, ...]:
        """Names under which stalls of this class are followed."""
        group = "reads" if self.action == "read" else "writes"
        own = (f"server {self.server}", f"op {self.op} on {self.server}") if self.server else ()
        return (group, f"op {self.op}", *own)


@dataclass(slots=True)
class Cell:
    """What one class did in one second of one phase."""

    kind: OpClass
    counts: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    latencies: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class StallTime:
    """A time in which arrivals waited for a success: how many, and how many of them had failed by its end."""

    start: float
    end: float
    missed: int = 0
    failed: int = 0

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.start

    @property
    def is_several(self) -> bool:
        """Whether enough arrivals in a row went without success for it to be no gap of a low rate."""
        return self.missed >= SEVERAL


@dataclass(slots=True)
class Demand:
    """Arrivals that wait for a success."""

    outstanding: int = 0
    since: float | None = None
    failed: int = 0

    def arrive(self, at: float) -> None:
        """Count an arrival."""
        self.outstanding += 1
        if self.since is None:
            self.since = at

    def leave(self, *, failed: bool) -> None:
        """Count an arrival that ended without success; a failure keeps the demand open."""
        self.outstanding -= 1
        self.failed += failed
        if not self.outstanding and not self.failed:
            self.since = None

    def succeed(self, at: float) -> tuple[float, float]:
        """Count a success; return start and end of the stall that it ended."""
        self.outstanding -= 1
        stall = (at if self.since is None else self.since, at)
        self.since = at if self.outstanding else None
        self.failed = 0
        return stall

    def until(self, at: float) -> StallTime:
        """Return the stall up to now."""
        return StallTime(at if self.since is None else self.since, at, self.failed + self.outstanding, self.failed)


class Recorder:
    """Collects in memory and writes each second once, when it is over."""

    def __init__(self, path: Path, run: str, segment: str) -> None:
        self.path = path
        self.phase = ""
        self.totals: Counter[str] = Counter()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._cells: dict[CellKey, Cell] = {}
        self._demand: dict[str, Demand] = {}
        self._stalls: dict[tuple[str, bool], StallTime] = {}
        self._lag = Histogram()
        self._recent = Histogram()
        self._append({"t": "head", "run": run, "segment": segment})

    def mark(self, phase: str, at: float) -> None:
        """Begin a phase."""
        self.phase = phase
        self._append({"t": "mark", "phase": phase, "at": at})

    def offered(self, kind: OpClass, at: float) -> None:
        """Count an arrival."""
        self._cell(kind, at).counts["offered"] += 1
        self.totals["offered"] += 1
        for track in kind.tracks:
            self._demand.setdefault(track, Demand()).arrive(at)

    def started(self, lag: float) -> None:
        """Count how late an operation started although a worker was free: the generator's own fault."""
        self._lag.add(lag)

    def skipped(self, kind: OpClass, at: float) -> None:
        """Count an arrival for which there was no row."""
        self._cell(kind, at).counts["skipped"] += 1
        self.totals["skipped"] += 1
        for track in kind.tracks:
            self._demand[track].leave(failed=False)

    def done(
        self, kind: OpClass, *, scheduled: float, at: float, outcome: str, code: str | None, missing: bool
    ) -> None:
        """Count an operation that ended."""
        cell = self._cell(kind, at)
        cell.counts[outcome] += 1
        cell.counts["missing"] += missing
        cell.latencies.add(at - scheduled)
        self._recent.add(at - scheduled)
        self.totals[outcome] += 1
        if outcome != "ok":
            cell.errors[code or "none"] += 1
        for track in kind.tracks:
            self._follow(track, at, succeeded=outcome == "ok")

    def flush(self, before: int, at: float, **pace: Any) -> dict[str, Any]:
        """Write the seconds that are over; return a status of what happened since the last time."""
        for key in sorted(key for key in self._cells if key[0] < before):
            self._append(_cell_line(key, self._cells.pop(key)))
        self._write_stalls()
        self._append({"t": "pace", "at": at, **_histogram("lag", self._lag), **pace})
        status = {
            **{name: self.totals[name] for name in _COUNTS if name != "missing"},
            "p99_ms": round(self._recent.quantile_ms(0.99), 1),
            "max_ms": round(self._recent.max_ms, 1),
            "phase": self.phase,
        }
        self._lag, self._recent = Histogram(), Histogram()
        return status

    def end(self, at: float, **facts: Any) -> None:
        """Write what is left, with the stalls that nothing ended."""
        for track, demand in self._demand.items():
            if demand.since is not None:
                self._keep(track, demand.until(at))
        self.flush(int(at) + 2, at)
        self._append({"t": "end", "at": at, "totals": dict(self.totals), **facts})
        os.close(self._fd)

    def _follow(self, track: str, at: float, *, succeeded: bool) -> None:
        if succeeded:
            self._keep(track, self._demand[track].until(at))
            self._demand[track].succeed(at)
        else:
            self._demand[track].leave(failed=True)

    def _keep(self, track: str, stall: StallTime) -> None:
        # The longest of several arrivals is kept beside a longer one that a single arrival of a low rate made.
        key = (track, stall.is_several)
        longest = self._stalls.get(key)
        if longest is None or stall.seconds >= longest.seconds:
            self._stalls[key] = stall

    def _write_stalls(self) -> None:
        for (track, _), stall in self._stalls.items():
            self._append({"t": "stall", "track": track, **asdict(stall)})
        self._stalls.clear()

    def _cell(self, kind: OpClass, at: float) -> Cell:
        key = (int(at), self.phase, kind.op, kind.server or "")
        if key not in self._cells:
            self._cells[key] = Cell(kind)
        return self._cells[key]

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self._fd, self.path, line)


def _cell_line(key: CellKey, cell: Cell) -> dict[str, Any]:
    kind = cell.kind
    return {
        "t": "second",
        "second": key[0],
        "phase": key[1],
        "op": kind.op,
        "action": kind.action,
        "via": kind.via,
        "server": kind.server,
        **{name: cell.counts[name] for name in _COUNTS},
        **{f"p{share}_ms": cell.latencies.quantile_ms(share / 100) for share in (50, 90, 99)},
        "max_ms": cell.latencies.max_ms,
        "errors": dict(cell.errors),
        **_histogram("latency", cell.latencies),
    }


def _histogram(name: str, histogram: Histogram) -> dict[str, Any]:
    return {f"{name}_counts": histogram.counts, f"{name}_max_us": histogram.max_us}
