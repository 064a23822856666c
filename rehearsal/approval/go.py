"""Which rehearsal stands for production: the reports of all runs, read one by one and judged.

Owns why a report does or does not do. A report that cannot be read is named and left out; it never stands for
anything, and never keeps another from it. Must not know who asks, or how production is reached.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from rehearsal.approval.fingerprint import name_differences, parts_of
from rehearsal.approval.signature import verify_signature
from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.report.model import Report, Signature
from rehearsal.report.write import SIGNATURE
from rehearsal.verdict.decide import Outcome, decide_run

# No report of ours comes near it: long tables are cut.
MAX_BYTES = 64 * 1024 * 1024
REPORT = "report.json"
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a GO must fit. `server_major` and `rows` are None where production cannot be looked at yet."""

    plan: Plan
    fingerprint: str
    server_major: int | None = None
    rows: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """A signed GO that fits, and the reports that could not be read."""

    report: Report
    signature: Signature
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One run with a report."""

    folder: Path
    report: Report

    @property
    def name(self) -> str:
        """Name of the run, in signs that can be written down."""
        return spoken(self.folder)


def find_go(runs: Path, wanted: Conditions) -> Go:
    """Return the newest signed GO that fits, unless a later verdict of the same fingerprint closes it.

    Raises:
        PreconditionError: there is none; says why the nearest ones do not do.
    """
    rehearsed, left_out = read_reports(runs)
    reasons: list[str] = []
    for rehearsal in rehearsed:
        reason = why_not(rehearsal, wanted) or closed_by(rehearsal, rehearsed, wanted)
        if reason is None:
            signature = Signature.model_validate_json((rehearsal.folder / SIGNATURE).read_bytes())
            return Go(rehearsal.report, signature, tuple(left_out))
        reasons.append(f"{rehearsal.name}: {reason}")
    message = (
        f"no GO report of plan {wanted.plan.name} with fingerprint {wanted.fingerprint[:16]} stands for production: "
        f"{_few(reasons) or 'there is no report at all'}"
        f"{f'; left out: {_few(left_out)}' if left_out else ''}. Rehearse it first"
    )
    raise PreconditionError(message)


def read_reports(runs: Path) -> tuple[list[Rehearsed], list[str]]:
    """Return all runs whose report can be read, the newest first, and what is wrong with the others."""
    rehearsed: list[Rehearsed] = []
    left_out: list[str] = []
    for path in report_paths(runs):
        try:
            rehearsed.append(Rehearsed(path.parent, read_report(path)))
        except PreconditionError as exc:
            left_out.append(f"{spoken(path.parent)}: {exc}")
    return rehearsed, left_out


def report_paths(runs: Path) -> list[Path]:
    """Return whatever has the name of a report, the newest run first; links to nowhere too, so that they are named."""
    folders = sorted((path for path in runs.iterdir() if path.is_dir()), reverse=True) if runs.is_dir() else []
    return [folder / REPORT for folder in folders if os.path.lexists(folder / REPORT)]


def read_report(path: Path) -> Report:
    """Read one report.json, whatever it is.

    Raises:
        PreconditionError: it is no report that can be read; says what it is.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise PreconditionError(f"{REPORT} is no file")
        if found.st_size > MAX_BYTES:
            raise PreconditionError(f"{REPORT} has {found.st_size:,} bytes, more than any report")
        return Report.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise PreconditionError(f"{REPORT} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PreconditionError(f"{REPORT} is no report: {where and f'{where}: '}{first['msg']}") from exc


def why_not(rehearsal: Rehearsed, wanted: Conditions) -> str | None:
    """Return the first reason why a run does not stand for production by itself; None when it does."""
    return next(_reasons(rehearsal, wanted), None)


def closed_by(rehearsal: Rehearsed, others: Sequence[Rehearsed], wanted: Conditions) -> str | None:
    """Return which later verdict of the same fingerprint closes a GO; None when there is none.

    A NO-GO closes from anywhere, signed or not. INCONCLUSIVE closes only where a GO would have opened.
    """
    finished = _moment(rehearsal.report.finished)
    for other in others:
        later = _moment(other.report.finished)
        same = (other.report.plan, other.report.fingerprint) == (rehearsal.report.plan, rehearsal.report.fingerprint)
        closes = _closes(other.report, wanted)
        # What has no time that can be read may be later, so it is taken to be.
        if same and closes and (later is None or finished is None or later > finished):
            return (
                f"a later verdict of the same fingerprint is {other.report.verdict.outcome} "
                f"({other.name}, on {other.report.kind})"
            )
    return None


def spoken(folder: Path) -> str:
    """Return the name of a folder in signs that can be written down."""
    return os.fsencode(folder.name).decode("utf-8", "backslashreplace")


def _closes(report: Report, wanted: Conditions) -> bool:
    outcome = Outcome(report.verdict.outcome)
    return outcome is Outcome.NO_GO or (outcome is Outcome.INCONCLUSIVE and report.kind in wanted.plan.go_kinds)


def _reasons(rehearsal: Rehearsed, wanted: Conditions) -> Iterator[str]:
    """Yield why a run does not do, the cheap and the telling reasons first."""
    report = rehearsal.report
    if report.plan != wanted.plan.name:
        yield f"it is of plan {report.plan}"
    if report.fingerprint != wanted.fingerprint:
        differs = name_differences(parts_of(wanted.fingerprint), report.fingerprint_parts)
        yield f"its fingerprint is {report.fingerprint[:16]}: another is {differs}"
    if report.verdict.outcome != Outcome.GO:
        yield f"its verdict is {report.verdict.outcome}"
    yield from _kind(report, wanted)
    yield from _age(report, wanted)
    yield from _server(report, wanted)
    yield from _rows(report, wanted)
    yield from _signed(rehearsal)
    yield from _judged_again(rehearsal, wanted)


def _kind(report: Report, wanted: Conditions) -> Iterator[str]:
    if report.kind not in wanted.plan.go_kinds:
        yield f"it is of kind {report.kind}, the plan wants one of kind {' or '.join(wanted.plan.go_kinds)}"


def _age(report: Report, wanted: Conditions) -> Iterator[str]:
    finished = _moment(report.finished)
    if finished is None:
        yield f"its end, {report.finished!r}, is no time with a zone"
        return
    age = datetime.now(UTC) - finished
    if age < timedelta(0):
        yield f"it ends in the future, {report.finished}; look at the clocks"
    if age > timedelta(days=wanted.plan.report_max_age_days):
        yield f"it is {age.days} days old, the plan allows {wanted.plan.report_max_age_days}"


def _server(report: Report, wanted: Conditions) -> Iterator[str]:
    if wanted.server_major not in (None, report.server_major):
        was = f"PostgreSQL {report.server_major}" if report.server_major else "not recorded"
        yield f"its server was {was}, production's is PostgreSQL {wanted.server_major}"


def _rows(report: Report, wanted: Conditions) -> Iterator[str]:
    share = wanted.plan.go_min_rows_share
    for table, there in (wanted.rows or {}).items():
        rehearsed = report.rows.get(table, 0)
        if rehearsed < there * share:
            yield (
                f"it rehearsed {rehearsed:,} rows of {table}, production has about {there:,}, and the plan wants "
                f"{share:.3g} of them at least"
            )


def _signed(rehearsal: Rehearsed) -> Iterator[str]:
    try:
        problems = verify_signature(rehearsal.folder)
    except OSError as exc:
        problems = [f"{exc.strerror}: {Path(str(exc.filename)).name}"]
    if problems:
        yield f"it does not verify: {problems[0]}"


def _judged_again(rehearsal: Rehearsed, wanted: Conditions) -> Iterator[str]:
    """Judge the gates anew: report.json says what they said, the evidence says what was seen."""
    try:
        verdict = decide_run(Run(rehearsal.folder).evidence(), kind=rehearsal.report.kind, plan=wanted.plan)
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        yield f"its evidence cannot be read: {type(exc).__name__}"
        return
    if verdict.outcome is not Outcome.GO:
        yield f"judged again from its evidence it is {verdict.outcome}: {next(iter(verdict.reasons), 'no reason')}"


def _moment(text: str) -> datetime | None:
    """Return a moment in time; None for what is none, or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.utcoffset() is not None else None


def _few(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return "; ".join(reasons[:SHOWN]) + more
