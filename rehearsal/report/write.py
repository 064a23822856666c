"""Write the report of a run into its folder, and the manifest of every file there.

Owns which files the report consists of. Write it after the last event of the run: what is appended later no longer
fits the manifest, and `signature.verify` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.report.build import build_report, file_sha256
from rehearsal.report.model import Report, Signature
from rehearsal.report.render import render_html, render_json, render_junit, render_markdown
from rehearsal.verdict.decide import Verdict, decide_run

MANIFEST = "MANIFEST.sha256"
SIGNATURE = "signature.json"
UNLISTED = frozenset({MANIFEST, SIGNATURE})


def write_report(run: Run, plan: Plan, environment: Mapping[str, Any], fingerprint: str) -> Verdict:
    """Judge a run and write its report. A second call with the same evidence writes the same bytes.

    Raises:
        PreconditionError: the folder cannot be written.
    """
    verdict = decide_run(run.evidence(), kind=str(environment["kind"]), plan=plan)
    report = build_report(run, plan=plan, environment=environment, fingerprint=fingerprint, verdict=verdict)
    try:
        run.attach("report.json", render_json(report))
        run.attach("report.junit.xml", render_junit(report))
        write_report_pages(run.folder, report)
        write_checksums(run.folder)
    except OSError as exc:
        message = f"cannot write the report in {run.folder}: {exc.strerror}; free room, then render it again"
        raise PreconditionError(message) from exc
    return verdict


def write_report_pages(folder: Path, report: Report) -> None:
    """Write report.md and report.html, with the signature that is there."""
    signature, problem = read_signature(folder)
    run = Run(folder)
    run.attach("report.md", render_markdown(report, signature, problem))
    run.attach("report.html", render_html(report, signature, problem))


def read_signature(folder: Path) -> tuple[Signature | None, str]:
    """Return the signature of a run, and why it does not fit report.json; empty when it does."""
    path = folder / SIGNATURE
    if not path.exists():
        return None, ""
    try:
        signature = Signature.model_validate_json(path.read_bytes())
    except ValidationError:
        return None, "the signature cannot be read"
    if signature.report_sha256 != file_sha256(folder / "report.json"):
        return signature, "the report changed after it was signed: this signature does not hold"
    return signature, ""


def write_checksums(folder: Path) -> Path:
    """Write the checksum of every file of the run, in the form that `sha256sum --check` reads."""
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in list_files(folder)]
    return Run(folder).attach(MANIFEST, "".join(lines))


def list_files(folder: Path) -> list[str]:
    """Return the files of a run that the manifest names."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in UNLISTED)
