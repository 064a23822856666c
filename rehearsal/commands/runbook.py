"""The verb `runbook`: what the on-call prints, from the evidence of a GO.

Owns which runs it may be made of, and where it is written: never into the run's folder, whose files are sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from rehearsal.commands.report import folder_of
from rehearsal.commands.session import DONE
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.run import runs_folder
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import fingerprint_of
from rehearsal.report.model import Report, Signature
from rehearsal.report.runbook import Runbook, named_parts

FOLDER = "runbooks"


def write_runbook(root: Path, name: str | None, env: str) -> int:
    """Write runbook.md and runbook.html of a run; a second time replaces them.

    Raises:
        UsageError: there is no such run, or it has no report.
        PreconditionError: it is no GO, or plan or tool changed since: what was measured is not what would run.
    """
    folder = folder_of(root, name)
    report = read_report(folder)
    if report.verdict.outcome != "GO":
        outcome = report.verdict.outcome
        message = f"run {folder.name} ended {outcome}: a runbook is made of a GO; `./inv report.open` says why"
        raise PreconditionError(message)
    plan = load_plan(find_plan(report.plan, root))
    if fingerprint_of(plan, SqlFiles(root / "sql")) != report.fingerprint:
        message = (
            f"plan {plan.name} or the tool changed since run {folder.name}: its times are of other steps; rehearse "
            "again"
        )
        raise PreconditionError(message)
    runbook = Runbook(plan, report, list(_like(root, folder, report)), env, _signature(folder))
    place = root / FOLDER / folder.name
    place.mkdir(parents=True, exist_ok=True)
    for file, text in named_parts(runbook).items():
        (place / file).write_text(text, encoding="utf-8")
        print(place / file)
    return DONE


def read_report(folder: Path) -> Report:
    """Read the report of a run.

    Raises:
        UsageError: there is none, or another version wrote it.
    """
    path = folder / "report.json"
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as exc:
        message = (
            f"run {folder.name} has no report: {exc.strerror}; finish it by `./inv rehearse --resume {folder.name}`"
        )
        raise UsageError(message) from exc
    except ValidationError as exc:
        message = f"the report of run {folder.name} cannot be read: {exc.errors()[0]['msg']}; another version wrote it"
        raise UsageError(message) from exc


def _like(root: Path, folder: Path, report: Report) -> Iterator[Report]:
    """Yield the reports of other GO runs with the same fingerprint, on the same kind of environment."""
    for path in sorted(runs_folder(root).glob("*/report.json")):
        if path.parent == folder:
            continue
        try:
            other = Report.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError:
            continue  # of another version, so not of this fingerprint
        same = (other.plan, other.fingerprint, other.kind, other.rows) == (
            report.plan, report.fingerprint, report.kind, report.rows,
        )  # fmt: skip
        if same and other.verdict.outcome == "GO":
            yield other


def _signature(folder: Path) -> Signature | None:
    path = folder / "signature.json"
    if not path.exists():
        return None
    try:
        return Signature.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as exc:
        message = f"the signature of run {folder.name} cannot be read; `./inv report.verify` says more"
        raise PreconditionError(message) from exc
