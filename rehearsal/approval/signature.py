"""Sign a report, and check later that nothing of the run was edited.

Owns `signature.json`. A signature holds who, when, the fingerprint, and the checksums of report.json and of the
manifest, which names every other file of the run. It shows edits; it does not prove identity: whoever can write the
folder can write a new one, so keep the seal (or the folder) where they cannot, the change ticket for instance.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.run import Run
from rehearsal.report.build import file_sha256
from rehearsal.report.model import Report, Signature
from rehearsal.report.render import render_html, render_markdown
from rehearsal.report.write import MANIFEST, SIGNATURE, list_files, write_checksums


def sign(run_folder: Path, by: str, when: str = "", *, accept: str = "") -> Signature:
    """Sign the report of a run; its signature block is rendered again.

    Args:
        run_folder: the folder of the run, with a report.
        by: name of who approves.
        when: date or time, ISO 8601; now if empty.
        accept: why a report that is not a GO is accepted; it is printed in the signature block.

    Raises:
        UsageError: no name, a date that is none, already signed, or not a GO and no reason to accept it.
        PreconditionError: there is no report, or a file was changed since the report was written.
    """
    report = _read_report(run_folder)
    moment = _moment(when)
    _check_may_sign(run_folder, report, by, accept)
    problems = _check_manifest(run_folder)
    if problems:
        message = f"cannot sign {run_folder.name}: {problems[0]}; render the report again, read it, then sign"
        raise PreconditionError(message)
    fields: dict[str, Any] = {
        "run": report.run,
        "by": " ".join(by.split()),
        "at": moment,
        "accept": " ".join(accept.split()),
        "outcome": report.verdict.outcome,
        "fingerprint": report.fingerprint,
        "report_sha256": file_sha256(run_folder / "report.json"),
    }
    return _write(run_folder, report, fields)


def verify_signature(run_folder: Path) -> list[str]:
    """Return what does not fit the signature of a run; empty when all of it holds."""
    path = run_folder / SIGNATURE
    if not path.is_file():
        changed = _check_manifest(run_folder)
        return [f"{run_folder.name} is not signed{'' if changed else ', its files are as they were written'}", *changed]
    try:
        signature = Signature.model_validate_json(path.read_bytes())
        report = _read_report(run_folder)
    except ValidationError as exc:
        return [f"{SIGNATURE} cannot be read: {exc.errors()[0]['msg']}"]
    except PreconditionError as exc:
        return [str(exc)]
    return [*_check_seal(run_folder, signature, report), *_check_manifest(run_folder)]


def _write(run_folder: Path, report: Report, fields: dict[str, Any]) -> Signature:
    """Render the block first: the manifest must name the pages as they are once signed."""
    draft = Signature(**fields, manifest_sha256="", seal="")
    run = Run(run_folder)
    run.attach("report.md", render_markdown(report, draft))
    run.attach("report.html", render_html(report, draft))
    fields["manifest_sha256"] = file_sha256(write_checksums(run_folder))
    unsealed = Signature(**fields, seal="")
    signature = unsealed.model_copy(update={"seal": _seal(unsealed)})
    run.attach(SIGNATURE, signature.model_dump_json(indent=2) + "\n")
    return signature


def _check_may_sign(run_folder: Path, report: Report, by: str, accept: str) -> None:
    if not by.strip():
        message = "a signature needs a name: --by NAME"
        raise UsageError(message)
    if (run_folder / SIGNATURE).exists():
        message = f"{run_folder.name} is signed already; {_way_out(run_folder)}"
        raise UsageError(message)
    if report.verdict.outcome != "GO" and not accept.strip():
        message = f"the verdict is {report.verdict.outcome}: only a GO is signed, unless --accept gives a reason"
        raise UsageError(message)


def _way_out(run_folder: Path) -> str:
    if verify_signature(run_folder):
        return f"it does not hold any more: move {run_folder / SIGNATURE} away and render the report again, then sign"
    return "its signature holds"


def _check_seal(run_folder: Path, signature: Signature, report: Report) -> list[str]:
    """Return where signature, report and manifest contradict each other."""
    manifest = run_folder / MANIFEST
    checks = {
        f"{SIGNATURE} was edited": signature.seal == _seal(signature),
        f"{SIGNATURE} belongs to another run": signature.run == report.run == run_folder.name,
        "report.json was edited": signature.report_sha256 == file_sha256(run_folder / "report.json"),
        "the fingerprint differs from the signed one": signature.fingerprint == report.fingerprint,
        "the verdict differs from the signed one": signature.outcome == report.verdict.outcome,
        f"{MANIFEST} was edited": manifest.is_file() and signature.manifest_sha256 == file_sha256(manifest),
    }
    return [problem for problem, holds in checks.items() if not holds]


def _check_manifest(run_folder: Path) -> list[str]:
    """Return the files that are missing, new or changed since the manifest was written."""
    manifest = run_folder / MANIFEST
    if not manifest.is_file():
        return [f"{MANIFEST} is missing"]
    lines = manifest.read_text(encoding="utf-8", errors="replace").splitlines()
    listed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    there = set(list_files(run_folder))
    return [
        *(f"{name} is missing" for name in sorted(listed.keys() - there)),
        *(f"{name} was added" for name in sorted(there - listed.keys())),
        *(f"{name} was edited" for name in sorted(there & listed.keys()) if _changed(run_folder, name, listed[name])),
    ]


def _changed(run_folder: Path, name: str, checksum: str) -> bool:
    return file_sha256(run_folder / name) != checksum


def _seal(signature: Signature) -> str:
    fields = signature.model_dump(exclude={"seal"})
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _moment(when: str) -> str:
    if not when:
        return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        datetime.fromisoformat(when)
    except ValueError as exc:
        message = f"{when!r} is not a date: write it as 2026-02-01 or 2026-02-01T14:00:00Z"
        raise UsageError(message) from exc
    return when


def _read_report(run_folder: Path) -> Report:
    path = run_folder / "report.json"
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as exc:
        message = f"no report in {run_folder}: {exc.strerror}; render it first"
        raise PreconditionError(message) from exc
    except ValidationError as exc:
        message = f"{path.name} cannot be read: {exc.errors()[0]['msg']}; it was edited or written by another version"
        raise PreconditionError(message) from exc
