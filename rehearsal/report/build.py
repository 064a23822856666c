"""Build the report: a pure reading of one run's evidence, events and attachments.

Owns how results become the values of `rehearsal.report.model`. The same folder gives the same report, byte for byte:
no clock is read here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rehearsal
from rehearsal.evidence.data import Baseline, Grid, Parity
from rehearsal.evidence.events import FingerprintTaken, LockTaken, ServerSeen
from rehearsal.evidence.run import Evidence, Run
from rehearsal.plan.model import Plan
from rehearsal.report.advice import RunFacts, learn, list_issues, list_next_steps, list_recommendations
from rehearsal.report.chapters import build_sections
from rehearsal.report.model import Attachment, Bar, GateRow, Observation, Report, Series, VerdictPart
from rehearsal.report.numbers import estimate, read_numbers
from rehearsal.report.tables import settings_table, tables_of
from rehearsal.report.timeline import History, read_history, read_latency, read_progress, read_spans
from rehearsal.verdict.decide import GateResult, Verdict

NOTES = "notes.md"
CONNECTOR = re.compile(r"@\w+/(?=\w)")
BAR_COLUMNS = ("partition", "source rows", "partitioned rows", "equal")
OWN = frozenset({"report.md", "report.html", "report.json", "report.junit.xml", "MANIFEST.sha256", "signature.json"})


def build_report(run: Run, *, plan: Plan, environment: Mapping[str, Any], fingerprint: str, verdict: Verdict) -> Report:
    """Return the report of a run. `environment` has at least `name` and `kind`."""
    history = read_history(run)
    spans, progress = read_spans(history), read_progress(history)
    counted = [item for result in verdict.gates for item in result.evidence]
    numbers = read_numbers(verdict.gates, history, plan)
    kind = str(environment["kind"])
    facts = RunFacts(run.name, plan, kind, verdict, numbers, spans, [lock for _, lock in history.of(LockTaken)])
    forecast = estimate(progress, kind)
    report = Report(
        tool_version=rehearsal.__version__,
        run=run.name,
        plan=plan.name,
        title=plan.title or plan.name,
        strategy=plan.strategy,
        environment=str(environment["name"]),
        kind=kind,
        fingerprint=fingerprint,
        **_clock(history),
        verdict=_verdict(verdict),
        numbers=numbers,
        gates=[_gate(result) for result in verdict.gates],
        settings=settings_table(environment),
        sections=build_sections(history),
        timeline=spans,
        latency=read_latency(history),
        progress=[_scaled(series) for series in progress],
        parity=_bars(counted),
        issues=list_issues(facts),
        recommendations=list_recommendations(facts),
        lessons=learn(facts, _notes(run.folder), forecast),
        estimate=forecast,
        next_steps=list_next_steps(facts),
        attachments=list_attachments(run.folder),
        fingerprint_parts=_parts(history, fingerprint),
        server_major=_server_major(history),
        rows=_rows(counted),
    )
    # People call a host by its name; the connector before it is for the machine.
    return Report.model_validate_json(CONNECTOR.sub("", report.model_dump_json()))


def list_attachments(folder: Path) -> list[Attachment]:
    """Return every file of the run but the report's own, with checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(path.relative_to(folder).as_posix(), path) for path in files]
    return [
        Attachment(name=name, bytes=path.stat().st_size, sha256=file_sha256(path))
        for name, path in names
        if name not in OWN
    ]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; a backup of many gigabytes is not read into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clock(history: History) -> dict[str, Any]:
    return {
        "started": history.started,
        "finished": history.finished,
        "duration_s": history.second(history.finished) if history.events else 0.0,
    }


def _parts(history: History, fingerprint: str) -> dict[str, str]:
    """Return the digests of the fingerprint's parts, as the run kept them at its beginning."""
    found = [taken.parts for _, taken in history.of(FingerprintTaken) if taken.whole == fingerprint]
    return found[-1] if found else {}


def _server_major(history: History) -> int | None:
    """Return the major version of the server; of the last one that was looked at."""
    seen = [server.version // 10_000 for _, server in history.of(ServerSeen)]
    return seen[-1] if seen else None


def _rows(evidence: Sequence[Evidence]) -> dict[str, int]:
    """Return the rows of each table as they were counted at the baseline."""
    return {item.subject: item.data.rows for item in evidence if isinstance(item.data, Baseline)}


def _verdict(verdict: Verdict) -> VerdictPart:
    return VerdictPart(
        outcome=verdict.outcome.value,
        exit_code=verdict.exit_code,
        reasons=list(verdict.reasons),
        not_rehearsed=list(verdict.not_rehearsed),
    )


def _gate(result: GateResult) -> GateRow:
    gate = result.gate
    return GateRow(
        id=gate.id,
        title=gate.title,
        state=result.state.value,
        reason=result.reason,
        condition=gate.condition,
        effect=gate.effect,
        remedy=gate.remedy,
        steps=list(gate.steps),
        observations=[_observation(item) for item in result.evidence],
        tables=tables_of(result.evidence),
    )


def _observation(item: Evidence) -> Observation:
    return Observation(subject=item.subject, passed=item.passed, observed=item.observed, phase=item.phase, at=item.at)


def _scaled(series: Series) -> Series:
    top = max([series.total, *(done for _, done in series.points), 1.0])
    return series.model_copy(update={"points": [(at, round(done / top, 4)) for at, done in series.points]})


def _bars(evidence: Sequence[Evidence]) -> list[Bar]:
    """Return the last parity of each partition, from tables with the columns of `BAR_COLUMNS`."""
    bars: dict[str, Bar] = {}
    for item in evidence:
        if isinstance(item.data, Parity):
            bars |= _bars_of(item.data.table)
    return list(bars.values())


def _bars_of(grid: Grid) -> dict[str, Bar]:
    rows = [dict(zip(grid.columns, row, strict=False)) for row in grid.rows]
    found = [[row.get(name) for name in BAR_COLUMNS] for row in rows]
    return {
        str(label): Bar(label=str(label), source=source, target=target, equal=equal is True)
        for label, source, target, equal in found
        if isinstance(source, int) and isinstance(target, int)
    }


def _notes(folder: Path) -> str:
    path = folder / NOTES
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
