"""What happened in a run, read from its events: phases, locks, progress, latency.

Owns how events become spans and series; seconds count from the first event. Must not know gates or verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from rehearsal.evidence import Event, Run
from rehearsal.report.model import Point, Series, Span, Table
from rehearsal.report.tables import make_table, pivot

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

    def of(self, *kinds: str) -> list[Event]:
        """Return the events of these kinds, oldest first."""
        return [event for event in self.events if event.kind in kinds]

    def table(self, kind: str, title: str) -> list[Table]:
        """Return the events of one kind as a table, or nothing."""
        rows = [{"second": self.second(e.at), "phase": e.phase, **e.fields} for e in self.of(kind)]
        table = make_table(title, rows)
        return [table] if table else []


def read_history(run: Run) -> History:
    """Read what happened in a run."""
    return History(tuple(run.events()), run.folder)


def read_spans(history: History) -> list[Span]:
    """Return every attempt of every phase; one that never ended was interrupted."""
    spans: list[Span] = []
    begun: Event | None = None
    for event in history.of("phase-started", "phase-finished", "phase-skipped"):
        if event.kind == "phase-started":
            spans += _interrupted(history, begun, event.at)
            begun = event
        elif event.kind == "phase-finished":
            spans.append(_finished(history, begun, event))
            begun = None
        elif not any(span.phase == _name(event) for span in spans):
            # A phase that was done before a --resume stands in the timeline already.
            spans.append(_span(history, event, event.at, "skipped", str(event.fields.get("reason", ""))))
    return spans + _interrupted(history, begun, history.finished)


def read_progress(history: History) -> list[Series]:
    """Return how each long work went on, from its progress events."""
    works: dict[tuple[str, str], list[Event]] = {}
    for event in history.of("progress"):
        key = (event.phase, str(event.fields.get("what", "work")))
        works.setdefault(key, []).append(event)
    series = [_series(history, phase, what, events) for (phase, what), events in works.items()]
    return [one for one in series if len(one.points) > 1]


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


def read_rows(history: History) -> list[Table]:
    """Return row counts a stage: a row a stage, a column a table (a row a table where there are many tables)."""
    rows: list[dict[str, Any]] = []
    for event in history.of("rows"):
        fields = dict(event.fields)
        counts = fields.pop("counts", fields.pop("tables", None))
        base = {"stage": event.phase, **fields}
        many = cast("dict[str, Any]", counts) if isinstance(counts, dict) else {}
        rows += [base | {"table": name, "rows": count} for name, count in many.items()] or [base]
    table = pivot("Row counts at each stage", rows, across="table", value="rows")
    return [table] if table else []


def _instant(at: str) -> float:
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _span(
    history: History,
    event: Event,
    end: str,
    state: Literal["ok", "failed", "interrupted", "skipped"],
    note: str = "",
) -> Span:
    start = history.second(event.at)
    took = round(history.second(end) - start, 3)
    title = str(event.fields.get("title") or _name(event))
    return Span(phase=_name(event), title=title, start_s=start, seconds=took, state=state, note=note)


def _name(event: Event) -> str:
    """Return the phase that an event is about; a phase that is skipped never became the current one."""
    return str(event.fields.get("name") or event.phase)


def _interrupted(history: History, begun: Event | None, end: str) -> list[Span]:
    return [_span(history, begun, end, "interrupted")] if begun else []


def _finished(history: History, begun: Event | None, event: Event) -> Span:
    state: Literal["ok", "failed"] = "ok" if event.fields.get("ok") is True else "failed"
    start = begun if begun is not None and _name(begun) == _name(event) else event
    return _span(history, start, event.at, state)


def _series(history: History, phase: str, what: str, events: Sequence[Event]) -> Series:
    # A total that is estimated on the way is exact at the end.
    total = _number(events[-1].fields, "total") or 0.0
    points = [(history.second(event.at), _number(event.fields, "done") or 0.0) for event in events]
    unit = str(events[-1].fields.get("unit", ""))
    title = f"{what} ({phase})" if phase else what
    return Series(title=title, unit=unit, total=total, points=points, paused_s=_paused(history, what, points))


def _paused(history: History, what: str, points: Sequence[tuple[float, float]]) -> float:
    """Return the seconds between the first and the last point in which a work was paused by command."""
    total, since = 0.0, None
    for event in history.of("pace"):
        if event.fields.get("what") != what.replace(" ", " of ", 1) or "paused" not in event.fields:
            continue
        at = min(max(history.second(event.at), points[0][0]), points[-1][0])
        if event.fields["paused"]:
            since = at
        elif since is not None:
            total, since = total + at - since, None
    return round(total + (points[-1][0] - since if since is not None else 0.0), 3)


def _latency_lines(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob(LATENCY_FILES)):
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            # A killed generator leaves half a line at the end.
            if text.endswith("\n") and (line := json.loads(text)).get("t", "second") == "second":
                yield line


def _moment(history: History, line: dict[str, Any]) -> float | None:
    value = next((line[name] for name in ("at", "second", "time") if name in line), None)
    if isinstance(value, str):
        return history.second(value)
    if isinstance(value, int | float) and history.events:
        # Seconds since 1970, or seconds of the run.
        return round(value - _instant(history.started), 3) if value > 1e9 else float(value)
    return None


def _number(fields: dict[str, Any], *names: str) -> float | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _greater(one: float | None, other: float | None) -> float | None:
    values = [value for value in (one, other) if value is not None]
    return max(values, default=None)
