"""What the load felt: percentiles from merged histograms, stalls, errors, and whether the generator kept its word.

Owns the reading of `NNNN.latency.jsonl`. Pure but for the files: must not know databases or processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rehearsal.load.histogram import Histogram
from rehearsal.load.record import SEVERAL

# Latency counts from the schedule, so a late generator makes the application look worse, never better. Beyond this
# it says nothing about the application any more. On two cores the p99 was 3 to 13 ms, beside two copying sessions 64.
MAX_LAG_MS = 250.0
MAX_CPU = 0.85
MAX_UNSENT = 0.01
_COUNTS = ("offered", "ok", "failed", "unknown", "skipped", "missing")


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """What one class of operations felt; latencies from the scheduled time, in ms."""

    offered: int
    ok: int
    failed: int
    unknown: int
    skipped: int
    missing: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    stall_ms: float
    errors: dict[str, int]

    @property
    def error_rate(self) -> float:
        """Share of attempts that were not acknowledged; 0 if there were none."""
        attempted = self.ok + self.failed + self.unknown
        return (self.failed + self.unknown) / attempted if attempted else 0.0


@dataclass(frozen=True, slots=True)
class Track:
    """What one kind of operation felt in one phase, at one app server (or by SQL)."""

    phase: str
    op: str
    action: str
    via: str
    server: str | None
    felt: ClassSummary


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What the load felt in one window.

    `stalls` holds the longest time without success while somebody waited, by track: `writes`, `reads`, `op NAME`,
    `op NAME on SERVER`, `server NAME`; `several` the longest in which several arrivals in a row went without,
    `failures` the longest in which several failed. `tracks` has each phase's share of each kind and server. `honest`
    is False when the generator cannot vouch for its numbers; `reasons` say why.
    """

    start: float
    end: float
    writes: ClassSummary
    reads: ClassSummary
    operations: dict[str, ClassSummary]
    servers: dict[str, ClassSummary]
    phases: dict[str, ClassSummary]
    stalls: dict[str, float]
    several: dict[str, float]
    failures: dict[str, float]
    tracks: tuple[Track, ...]
    offered: int
    achieved: int
    lag_p99_ms: float
    cpu: float
    honest: bool
    reasons: tuple[str, ...]

    @property
    def stall_ms(self) -> float:
        """Longest time in which writes were due and none succeeded."""
        return self.stalls.get("writes", 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for evidence and report."""
        return asdict(self)


@dataclass(slots=True)
class _Tally:
    """Counts and latencies that are being added up."""

    counts: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    latencies: Histogram = field(default_factory=Histogram)

    def add(self, line: dict[str, Any]) -> None:
        self.counts.update({name: line[name] for name in _COUNTS})
        self.errors.update(line["errors"])
        self.latencies.merge(line["latency_counts"], line["latency_max_us"])

    def summary(self, stall_ms: float) -> ClassSummary:
        return ClassSummary(
            **{name: self.counts[name] for name in _COUNTS},
            p50_ms=self.latencies.quantile_ms(0.5),
            p90_ms=self.latencies.quantile_ms(0.9),
            p99_ms=self.latencies.quantile_ms(0.99),
            max_ms=self.latencies.max_ms,
            stall_ms=stall_ms,
            errors=dict(self.errors),
        )


def summarize(
    folder: Path, start: float | None = None, end: float | None = None, *, segment: str | None = None
) -> LoadSummary:
    """Summarize the generators of a folder, or one segment of them, from `start` to `end` (seconds of the epoch)."""
    return summarize_files(sorted(folder.glob("*.latency.jsonl")), start, end, segment=segment)


def summarize_files(
    paths: Sequence[Path], start: float | None = None, end: float | None = None, *, segment: str | None = None
) -> LoadSummary:
    """Summarize some generators' files; without an end, each must have come to its end to be honest."""
    files = [lines for path in paths if (lines := _read(path)) and segment in (None, lines[0]["segment"])]
    lines = [line for file in files for line in file]
    window = (start if start is not None else 0.0, end if end is not None else float("inf"))
    seconds = [
        line
        for line in lines
        if line["t"] == "second" and window[0] <= line["second"] + 1 and line["second"] < window[1]
    ]
    paces = [line for line in lines if line["t"] == "pace" and window[0] <= line["at"] <= window[1] + 1]
    stalls = [line for line in lines if line["t"] == "stall"]
    several = [stall for stall in stalls if stall.get("missed", 0) >= SEVERAL]
    failures = [stall for stall in stalls if stall.get("failed", 0) >= SEVERAL]
    longest = _longest_of(stalls, window)
    achieved = sum(second[name] for second in seconds for name in ("ok", "failed", "unknown", "skipped"))
    offered = sum(second["offered"] for second in seconds)
    lag, cpu = _pace(paces)
    reasons = [*_dishonesty(offered, achieved, lag, cpu)]
    reasons += [] if end is not None else _unended(files)
    return LoadSummary(
        start=max(window[0], min((second["second"] for second in seconds), default=window[0])),
        end=min(window[1], max((second["second"] + 1 for second in seconds), default=window[1])),
        writes=_tally(second for second in seconds if second["action"] != "read").summary(longest.get("writes", 0.0)),
        reads=_tally(second for second in seconds if second["action"] == "read").summary(longest.get("reads", 0.0)),
        operations=_grouped(seconds, "op", longest),
        servers=_grouped([second for second in seconds if second["server"]], "server", longest),
        phases=_phases(seconds, stalls, files, window),
        stalls=longest,
        several=_longest_of(several, window),
        failures=_longest_of(failures, window),
        tracks=tuple(_tracks(seconds)),
        offered=offered,
        achieved=achieved,
        lag_p99_ms=lag,
        cpu=cpu,
        honest=not reasons,
        reasons=tuple(reasons),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def _tally(seconds: Iterable[dict[str, Any]]) -> _Tally:
    tally = _Tally()
    for line in seconds:
        tally.add(line)
    return tally


def _grouped(seconds: list[dict[str, Any]], name: str, stalls: dict[str, float]) -> dict[str, ClassSummary]:
    return {
        value: _tally(second for second in seconds if second[name] == value).summary(stalls.get(f"{name} {value}", 0.0))
        for value in sorted({second[name] for second in seconds})
    }


def _tracks(seconds: list[dict[str, Any]]) -> Iterator[Track]:
    tallies: dict[tuple[str, str, str, str, str | None], _Tally] = {}
    for second in seconds:
        key = (second["phase"], second["op"], second["action"], second["via"], second["server"])
        tallies.setdefault(key, _Tally()).add(second)
    for (phase, op, action, via, server), tally in tallies.items():
        yield Track(phase, op, action, via, server, tally.summary(0.0))


def _longest_of(stalls: list[dict[str, Any]], window: tuple[float, float]) -> dict[str, float]:
    return {track: _longest(stalls, track, [window]) for track in sorted({stall["track"] for stall in stalls})}


def _phases(
    seconds: list[dict[str, Any]],
    stalls: list[dict[str, Any]],
    files: list[list[dict[str, Any]]],
    window: tuple[float, float],
) -> dict[str, ClassSummary]:
    spans = list(_spans(files))
    found: dict[str, ClassSummary] = {}
    for phase in dict.fromkeys(second["phase"] for second in seconds):
        own = [(max(low, window[0]), min(high, window[1])) for name, low, high in spans if name == phase]
        writes = _tally(second for second in seconds if second["phase"] == phase and second["action"] != "read")
        found[phase] = writes.summary(_longest(stalls, "writes", own))
    return found


def _spans(files: list[list[dict[str, Any]]]) -> Iterator[tuple[str, float, float]]:
    """Yield phase, start and end of each mark; a phase lasts until the next mark of the same generator."""
    for lines in files:
        marks = [("", 0.0), *((line["phase"], line["at"]) for line in lines if line["t"] == "mark"), ("", float("inf"))]
        for (phase, low), (_, high) in pairwise(marks):
            yield phase, low, high


def _longest(stalls: list[dict[str, Any]], track: str, windows: Sequence[tuple[float, float]]) -> float:
    """Return the longest part of a stall within one of the windows, in ms."""
    parts = (
        min(stall["end"], high) - max(stall["start"], low)
        for stall in stalls
        if stall["track"] == track
        for low, high in windows
    )
    return round(max(0.0, max(parts, default=0.0)) * 1e3, 3)


def _pace(paces: list[dict[str, Any]]) -> tuple[float, float]:
    lag = Histogram()
    for pace in paces:
        lag.merge(pace["lag_counts"], pace["lag_max_us"])
    shares = [pace["cpu"] for pace in paces if "cpu" in pace]
    return lag.quantile_ms(0.99), round(sum(shares) / len(shares), 3) if shares else 0.0


def _dishonesty(offered: int, achieved: int, lag_ms: float, cpu: float) -> Iterator[str]:
    if not offered:
        yield "nothing was sent"
    # A window cuts operations at both of its ends, hence the constant.
    if offered - achieved > max(MAX_UNSENT * offered, 16):
        yield f"{offered - achieved} of {offered} operations that were due were not carried out"
    if lag_ms > MAX_LAG_MS:
        yield f"operations started {lag_ms:.1f} ms late (p99) although workers were free; limit {MAX_LAG_MS:.0f} ms"
    if cpu > MAX_CPU:
        yield f"the generator used {cpu:.0%} of its processor; limit {MAX_CPU:.0%}"


def _unended(files: list[list[dict[str, Any]]]) -> list[str]:
    return [
        f"the generator of segment {lines[0]['segment']} did not come to its end"
        for lines in files
        if lines[-1]["t"] != "end"
    ]
