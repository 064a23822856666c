"""The report as values: what `report.json` holds and every other form is rendered from.

Owns the contract of `report.json` (`docs/report.schema.json` is exported from here; `version` rises when a field
changes its meaning or goes). Must not know where the values come from or how they look.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Cell = str | int | float | bool | None
Tone = Literal["good", "bad", "unknown"]


class Part(BaseModel):
    """A part of the report; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReportTable(Part):
    """A table of values; `omitted` rows are in evidence.jsonl only."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    omitted: int = 0


class Observation(Part):
    """One evidence that counted."""

    subject: str
    passed: bool | None
    observed: str
    phase: str
    at: str


class GateRow(Part):
    """One gate with its state, why, and what was seen."""

    id: str
    title: str
    state: Literal["passed", "failed", "unseen", "not rehearsed here", "not applicable"]
    reason: str
    condition: str
    effect: str
    remedy: str
    steps: list[str]
    observations: list[Observation]
    tables: list[ReportTable]


class Number(Part):
    """One of the five numbers of page one; `value` is null when it was not measured."""

    id: str
    title: str
    value: float | None
    unit: str
    text: str
    note: str
    tone: Tone


class TimeSpan(Part):
    """One attempt of a phase; seconds are counted from the start of the run."""

    phase: str
    title: str
    start_s: float
    seconds: float | None
    state: Literal["ok", "failed", "interrupted", "skipped"]
    note: str = ""


class Point(Part):
    """Latency of one second of load, counted from the scheduled time: the slowest kind of request."""

    at_s: float
    p50_ms: float | None
    p99_ms: float | None


class Series(Part):
    """How one long work went on: points of (second of the run, share done)."""

    title: str
    unit: str
    total: float
    points: list[tuple[float, float]]
    paused_s: float = 0.0


class Bar(Part):
    """Parity of one partition: rows on either side, and whether their content is equal."""

    label: str
    source: int
    target: int
    equal: bool


class Section(Part):
    """One chapter: sentences, gates, tables and at most one chart."""

    id: str
    title: str
    text: list[str] = Field(default_factory=list[str])
    gates: list[str] = Field(default_factory=list[str])
    tables: list[ReportTable] = Field(default_factory=list[ReportTable])
    chart: Literal["", "timeline", "progress", "parity", "latency"] = ""


class Lessons(Part):
    """Lessons learned: pre-filled from evidence; `notes` is the free text of notes.md."""

    well: list[str]
    wrong: list[str]
    adjustments: list[str]
    notes: str


class Attachment(Part):
    """A file of the run with its checksum."""

    name: str
    bytes: int
    sha256: str


class VerdictPart(Part):
    """The verdict and what it rests on."""

    outcome: Literal["GO", "NO-GO", "INCONCLUSIVE"]
    exit_code: int
    reasons: list[str]
    not_rehearsed: list[str]


class Report(Part):
    """One rehearsal's report."""

    version: Literal[1] = 1
    tool_version: str
    run: str
    plan: str
    title: str
    strategy: str
    environment: str
    kind: str
    fingerprint: str
    started: str
    finished: str
    duration_s: float
    verdict: VerdictPart
    numbers: list[Number]
    gates: list[GateRow]
    settings: ReportTable
    sections: list[Section]
    timeline: list[TimeSpan]
    latency: list[Point]
    progress: list[Series]
    parity: list[Bar]
    issues: list[str]
    recommendations: list[str]
    lessons: Lessons
    estimate: str
    next_steps: list[str]
    attachments: list[Attachment]
    # What production compares by name; a report that an earlier version wrote has none of them, and opens nothing.
    fingerprint_parts: dict[str, str] = Field(default_factory=dict[str, str])
    server_major: int | None = None
    rows: dict[str, int] = Field(default_factory=dict[str, int], description="rows of each table at the baseline")


class Signature(Part):
    """Who accepted which report, and when; `seal` is the SHA-256 of the other fields."""

    version: Literal[1] = 1
    run: str
    by: str
    at: str
    accept: str
    outcome: Literal["GO", "NO-GO", "INCONCLUSIVE"]
    fingerprint: str
    report_sha256: str
    manifest_sha256: str
    seal: str


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of report.json."""
    schema = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
