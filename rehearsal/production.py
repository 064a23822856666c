"""Law 1: what runs in production is what was rehearsed.

A run against an environment of kind `production` needs a GO report with the same fingerprint, not older than the
plan allows, and the name of the plan typed by a person.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence import runs_folder
from rehearsal.rehearse.context import Context
from rehearsal.signature import verify


class Asked(Protocol):
    """What a command was asked for, as far as this module cares."""

    @property
    def yes(self) -> bool:
        """Whether the confirmation was given on the command line."""
        ...


def require_go(context: Context, asked: Asked) -> None:
    """Refuse to touch production without a fresh GO report of the same fingerprint and a typed confirmation.

    Does nothing for environments of other kinds.

    Raises:
        PreconditionError: there is no such report; says what was found instead.
        UsageError: it was not confirmed.
    """
    if context.env.kind != "production":
        return
    report = find_go(
        runs_folder(context.root), context.plan.name, context.fingerprint, context.plan.report_max_age_days
    )
    context.run.event("note", text=f"rehearsed as {report.name} with fingerprint {context.fingerprint[:16]}")
    if asked.yes or not sys.stdin.isatty():
        message = "production wants the plan's name typed by a person on a terminal; --yes does not do here"
        raise UsageError(message)
    if input(f"Type the plan's name ({context.plan.name}) to change production: ").strip() != context.plan.name:
        message = "not confirmed; nothing was changed"
        raise UsageError(message)


def find_go(runs: Path, plan: str, fingerprint: str, max_age_days: int) -> Path:
    """Return the newest run with a GO report of this fingerprint that is young enough and unedited.

    Raises:
        PreconditionError: there is none; says why the nearest ones do not do.
    """
    reasons: list[str] = []
    for path in sorted(runs.glob("*/report.json"), reverse=True):
        reason = why_not(path, plan, fingerprint, max_age_days)
        if reason is None:
            return path.parent
        reasons.append(f"{path.parent.name}: {reason}")
    seen = "; ".join(reasons[:3]) or "there is no report at all"
    message = f"no GO report of plan {plan} with fingerprint {fingerprint[:16]}: {seen}. Rehearse it first"
    raise PreconditionError(message)


def why_not(path: Path, plan: str, fingerprint: str, max_age_days: int) -> str | None:
    """Return why a report does not stand for this plan; None when it does."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    outcome = report["verdict"]["outcome"]
    finished = datetime.fromisoformat(str(report["finished"]))
    age = datetime.now(UTC) - finished
    if report["plan"] != plan:
        return f"it is of plan {report['plan']}"
    if report["fingerprint"] != fingerprint:
        return f"its fingerprint is {str(report['fingerprint'])[:16]}"
    if outcome != "GO":
        return f"its verdict is {outcome}"
    if age > timedelta(days=max_age_days):
        return f"it is {age.days} days old, the plan allows {max_age_days}"
    problems = verify(path.parent)
    return f"it does not verify: {problems[0]}" if problems else None
