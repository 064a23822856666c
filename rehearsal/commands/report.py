"""The verbs of reports, `report.*`: open, sign, verify. Each returns an exit code.

Owns which report is meant when none is named. What a signature is worth is `rehearsal.approval`'s.
"""

from __future__ import annotations

import webbrowser
from pathlib import Path

from rehearsal.approval.signature import sign, verify_signature
from rehearsal.commands.session import DONE, FAILED
from rehearsal.errors import UsageError
from rehearsal.evidence.run import Run, runs_folder


def open_report(root: Path, name: str | None) -> int:
    """Open the newest report (or that of one run) in a browser, if there is one; print its path.

    Raises:
        UsageError: there is no report.
    """
    folder = folder_of(root, name)
    page = folder / "report.html"
    if not page.exists():
        message = f"run {folder.name} has no report yet"
        raise UsageError(message)
    webbrowser.open(page.as_uri())
    print(page)
    return DONE


def sign_report(root: Path, name: str | None, by: str, *, accept: str) -> int:
    """Sign the newest report (or that of one run); raises as `sign`."""
    signature = sign(folder_of(root, name), by, accept=accept)
    print(f"signed by {signature.by} at {signature.at}, fingerprint {signature.fingerprint[:16]}")
    return DONE


def verify_report(root: Path, name: str | None) -> int:
    """Check that the newest report (or that of one run) and its evidence are as they were written."""
    folder = folder_of(root, name)
    problems = verify_signature(folder)
    for problem in problems:
        print(problem)
    print(f"{folder.name}: {'does not verify' if problems else 'verified'}")
    return FAILED if problems else DONE


def folder_of(root: Path, name: str | None) -> Path:
    """Return the folder of a run, the newest with a report when none is named.

    Raises:
        UsageError: there is no such run, or no report at all.
    """
    runs = runs_folder(root)
    return newest(runs) if name is None else Run.open(runs, name).folder


def newest(runs: Path) -> Path:
    """Return the newest run's folder.

    Raises:
        UsageError: there is none.
    """
    folders = sorted((path for path in runs.glob("*-*-*") if (path / "report.html").exists()), key=lambda one: one.name)
    if not folders:
        message = f"no report in {runs}; make one with `./inv rehearse`"
        raise UsageError(message)
    return folders[-1]
