"""What happened in a run, read from its events: phases, locks, progress, latency.

Owns how events become spans and series; seconds count from the first event. Must not know gates or verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from rehearsal.evidence.events import (
    Event,
    Happening,
    PhaseFinished,
    PhaseSkipped,
    PhaseStarted,
    Progress,
    RowsCounted,
    StepDone,
    ThrottleChanged,
)
from rehearsal.evidence.run import Run
from rehearsal.report.model import Point, ReportTable, Series, TimeSpan
from rehearsal.report.tables import make_table, pivot

H = TypeVar("H", bound=Happening)
# When a phase began, and what it is.
Begun = tuple[str, PhaseStarted | PhaseFinished | PhaseSkipped]
LATENCY_FILES = "**/*latency*.jsonl"


@dataclass(frozen=True, slots=True)
class History:
    """A run's events with their clock."""

    events: tuple[Event, ...]
    folder: Path

    @property
    def started(self) -> str:
        """Time of the first event; empty when there is none."""
        return self.events[0].at if self.events else ""

    @property
    def finished(self) -> str:
        """Time of the last event; empty when there is none."""
        return self.events[-1].at if self.events else ""

    def second(self, at: str) -> float:
        """Return the second of the run at which something happened."""
        return round(_instant(at) - _instant(self.started), 3) if self.events else 0.0

    def of(self, kind: type[H]) -> list[tuple[Event, H]]:
        """Return what happened of this kind with its events, oldest first."""
        return [(event, event.what) for event in self.events if isinstance(event.what, kind)]

    def table(self, kind: type[Happening], title: str) -> list[ReportTable]:
        """Return what happened of one kind as a table, or nothing; what was left open has no column."""
        rows: list[dict[str, object]] = []
        for event, what in self.of(kind):
            told = {name: value for name, value in asdict(what).items() if value is not None}
            told |= {"name": what.title} if isinstance(what, StepDone) else {}
            rows.append({"second": self.second(event.at), "phase": event.phase, **told})
        table = make_table(title, rows)
        return [table] if table else []


def read_history(run: Run) -> History:
    """Read what happened in a run."""
    return History(tuple(run.events()), run.folder)


def read_spans(history: History) -> list[TimeSpan]:
    """Return every attempt of every phase; one that never ended was interrupted."""
    spans: list[TimeSpan] = []
    begun: Begun | None = None
    for event in history.events:
        match event.what:
            case PhaseStarted():
                spans += _interrupted(history, begun, event.at)
                begun = event.at, event.what
            case PhaseFinished():
                spans.append(_finished(history, begun, event.at, event.what))
                begun = None
            # A phase that was done before a --resume stands in the timeline already.
            case PhaseSkipped() if not any(span.phase == event.what.name for span in spans):
                spans.append(_span(history, (event.at, event.what), event.at, "skipped", event.what.reason))
            case _:
                pass
    return spans + _interrupted(history, begun, history.finished)


def read_progress(history: History) -> list[Series]:
    """Return how each long work went on, from its progress events."""
    works: dict[tuple[str, str], list[tuple[Event, Progress]]] = {}
    for event, far in history.of(Progress):
        works.setdefault((event.phase, far.what), []).append((event, far))
    series = [_series(history, phase, what, reached) for (phase, what), reached in works.items()]
    return [line for line in series if len(line.points) > 1]


def read_latency(history: History) -> list[Point]:
    """Return latency a second from the load's files; of several kinds of request the slowest counts."""
    worst: dict[float, dict[str, float | None]] = {}
    for line in _latency_lines(history.folder):
        at = _moment(history, line)
        if at is None or _number(line, "p99_ms", "p99") is None:
            continue
        seen = worst.setdefault(at, {"p50": None, "p99": None})
        for name in seen:
            seen[name] = _greater(seen[name], _number(line, f"{name}_ms", name))
    return [Point(at_s=at, p50_ms=worst[at]["p50"], p99_ms=worst[at]["p99"]) for at in sorted(worst)]


def read_row_counts(history: History) -> list[ReportTable]:
    """Return row counts a stage: a row a stage, a column a table (a row a table where there are many tables)."""
    rows: list[dict[str, object]] = []
    for _, counted in history.of(RowsCounted):
        rows.extend({"stage": counted.stage, "table": name, "rows": count} for name, count in counted.counts.items())
    table = pivot("Row counts at each stage", rows, across="table", value="rows")
    return [table] if table else []


def _instant(at: str) -> float:
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _span(
    history: History,
    begun: Begun,
    end: str,
    state: Literal["ok", "failed", "interrupted", "skipped"],
    note: str = "",
) -> TimeSpan:
    at, phase = begun
    start = history.second(at)
    took = round(history.second(end) - start, 3)
    return TimeSpan(phase=phase.name, title=phase.title, start_s=start, seconds=took, state=state, note=note)


def _interrupted(history: History, begun: Begun | None, end: str) -> list[TimeSpan]:
    return [_span(history, begun, end, "interrupted")] if begun else []


def _finished(history: History, begun: Begun | None, at: str, phase: PhaseFinished) -> TimeSpan:
    start = begun if begun is not None and begun[1].name == phase.name else (at, phase)
    return _span(history, start, at, "ok" if phase.ok else "failed")


def _series(history: History, phase: str, what: str, reached: Sequence[tuple[Event, Progress]]) -> Series:
    # A total that is estimated on the way is exact at the end.
    total, unit = reached[-1][1].total, reached[-1][1].unit
    points = [(history.second(event.at), far.done) for event, far in reached]
    title = f"{what} ({phase})" if phase else what
    return Series(title=title, unit=unit, total=total, points=points, paused_s=_paused(history, what, points))


def _paused(history: History, what: str, points: Sequence[tuple[float, float]]) -> float:
    """Return the seconds between the first and the last point in which a work was paused by command."""
    total, since = 0.0, None
    for event, pace in history.of(ThrottleChanged):
        if pace.what != what.replace(" ", " of ", 1) or pace.paused is None:
            continue
        at = min(max(history.second(event.at), points[0][0]), points[-1][0])
        if pace.paused:
            since = at
        elif since is not None:
            total, since = total + at - since, None
    return round(total + (points[-1][0] - since if since is not None else 0.0), 3)


def _latency_lines(folder: Path) -> Iterable[dict[str, object]]:
    for path in sorted(folder.glob(LATENCY_FILES)):
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            # A killed generator leaves half a line at the end.
            if text.endswith("\n") and (line := json.loads(text)).get("t", "second") == "second":
                yield line


def _moment(history: History, line: dict[str, object]) -> float | None:
    value = next((line[name] for name in ("at", "second", "time") if name in line), None)
    if isinstance(value, str):
        return history.second(value)
    if isinstance(value, int | float) and history.events:
        # Seconds since 1970, or seconds of the run.
        return round(value - _instant(history.started), 3) if value > 1e9 else float(value)
    return None


def _number(fields: dict[str, object], *names: str) -> float | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _greater(one: float | None, other: float | None) -> float | None:
    values = [value for value in (one, other) if value is not None]
    return max(values, default=None)
