"""What runs in production is what was rehearsed. The one door that every verb goes through.

A verb that changes an environment of kind `production` needs a signed GO with the same fingerprint, of a kind, size,
server and age that fit, and the name of the plan typed by a person. The GO that opened a change also opens what
follows from it; nothing keeps anybody from pausing, going on, or going back in an emergency.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rehearsal.approval.acts import Consent
from rehearsal.approval.approvals import Approval, read_approval
from rehearsal.approval.fingerprint import Fingerprint
from rehearsal.approval.go import Conditions, Go, find_go
from rehearsal.catalog.tables import split_name
from rehearsal.environment import Environment
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident

FREE = (Consent.HARMLESS, Consent.READS, Consent.ALWAYS, Consent.BY_POLICY)
NAMED = 5
WAY_OUT = "; in an emergency `./inv db.rollback --emergency REASON` needs none, and is recorded"


class Asked(Protocol):
    """What a command was asked for, as far as this module cares."""

    @property
    def yes(self) -> bool:
        """Whether the confirmation was given on the command line."""
        ...

    @property
    def act(self) -> Consent:
        """What the verb does to the environment."""
        ...

    @property
    def emergency(self) -> str | None:
        """Why the rollback must be taken now; None when it is no emergency."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """What the door looks at: which plan with which fingerprint, on which environment, and where rehearsals are kept.

    `run` is the verb's own: its phase is the verb's name, and what the door says is said there.
    """

    env: Environment
    plan: Plan
    files: SqlFiles
    fingerprint: Fingerprint
    runs: Path
    run: Run


def admit(case: Case, asked: Asked) -> Approval | None:
    """Let a verb in, or refuse it before its first write; return why it was let in, to be stored with its work.

    Returns None where nothing is asked for: environments of other kinds are open. An emergency is returned there too.

    Raises:
        PreconditionError: nothing stands for it; says what was found instead.
        UsageError: it was not confirmed, it never runs on production, or an emergency has no reason.
    """
    approval = None if asked.emergency is None else declare(case, asked.emergency)
    if case.env.kind != "production" or asked.act in FREE:
        return approval
    if asked.act is Consent.NEVER:
        message = f"environment {case.env.name} is of kind production: this is for rehearsals only"
        raise UsageError(message)
    if approval is None:
        approval = approve(case, asked.act)
    ask_for_name(case, yes=asked.yes, emergency=approval.emergency is not None)
    return approval


def reason_of(said: str) -> str:
    """Return the reason of an emergency, in one line.

    Raises:
        UsageError: there is none.
    """
    reason = " ".join(said.split())
    if not reason:
        message = "an emergency has a reason, which is kept: --emergency REASON"
        raise UsageError(message)
    return reason


def declare(case: Case, said: str) -> Approval:
    """Return the approval of an emergency, which is its reason.

    Raises:
        UsageError: there is no reason.
    """
    reason = reason_of(said)
    case.run.note(f"emergency: {reason}")
    return Approval(case.fingerprint, emergency=reason)


def approve(case: Case, act: Consent) -> Approval:
    """Return what stands for a change of production.

    Raises:
        PreconditionError: nothing does.
    """
    stored = read_stored(case) if act is Consent.FOLLOWS else None
    if stored and stored.approved == case.fingerprint:
        return tell_approval(case, replace(stored, fingerprint=case.fingerprint), "opened before by")
    try:
        go = find_go(case.runs, look_at(case, act))
    except PreconditionError as exc:
        if stored:
            return warn(case, stored)
        raise PreconditionError(f"{exc}{WAY_OUT if case.run.phase == 'rollback' else ''}") from exc
    return tell_approval(case, from_go(case, go), "rehearsed as")


def from_go(case: Case, go: Go) -> Approval:
    """Return the approval that a GO is; reports that could not be read are named."""
    for unread in go.left_out[:NAMED]:
        case.run.note(f"left out, since it cannot be read: {unread}")
    report, signature = go.report, go.signature
    return Approval(
        fingerprint=case.fingerprint,
        rehearsed_as=report.run,
        approved=report.fingerprint,
        kind=report.kind,
        verdict=report.verdict.outcome,
        signed_by=signature.by,
        signed_at=signature.at,
    )


def tell_approval(case: Case, approval: Approval, how: str) -> Approval:
    """Say and record what opened a verb; return it."""
    text = f"{how} {approval.rehearsed_as} on {approval.kind}, signed by {approval.signed_by}"
    case.run.note(f"{text}, fingerprint {case.fingerprint[:16]}")
    return approval


def warn(case: Case, stored: Approval) -> Approval:
    """Let a verb follow a change that was opened under another fingerprint; the warning is recorded with it."""
    text = (
        f"the change was opened with fingerprint {(stored.approved or '')[:16]} ({stored.rehearsed_as}), now it is "
        f"{case.fingerprint[:16]}: plan or tool are others since, and this verb was not rehearsed with them"
    )
    case.run.note(f"warning: {text}")
    return replace(stored, fingerprint=case.fingerprint, warning=text)


def read_stored(case: Case) -> Approval | None:
    """Return the stored approval of the plan's newest change."""
    with connect(case.env.database, role="approval") as conn:
        return read_approval(conn, case.plan.name)


def look_at(case: Case, act: Consent) -> Conditions:
    """Return what a GO must fit, production's server and rows among it.

    What prepares a database may come before the database; what cannot be seen yet is compared by the next verb.

    Raises:
        PreconditionError: production does not answer, or nobody ever counted a table.
    """
    if act is Consent.PREPARES:
        return Conditions(case.plan, case.fingerprint)
    with connect(case.env.database, role="approval") as conn:
        rows = {spec.name: estimate_rows(conn, case, spec.name) for spec in case.plan.tables}
        return Conditions(case.plan, case.fingerprint, conn.info.server_version // 10_000, rows)


def estimate_rows(conn: Connection, case: Case, table: str) -> int:
    """Return about how many rows a table of production has; nothing is read of the table.

    Raises:
        PreconditionError: its statistics do not say.
    """
    name = quote_ident(split_name(table))
    rows = scalar(conn, case.files.query("approval/row_estimate.sql"), {"table": name})
    if rows is None:
        message = (
            f"how many rows {table} has in production is not known: it is not there, or was never analyzed; "
            f"run ANALYZE {name}, then this again"
        )
        raise PreconditionError(message)
    return int(rows)


def ask_for_name(case: Case, *, yes: bool, emergency: bool) -> None:
    """Let a person type the plan's name; `yes` is enough in an emergency only.

    Raises:
        UsageError: it was not typed.
    """
    if emergency and yes:
        return
    if yes or not sys.stdin.isatty():
        instead = "an emergency may be run with --yes" if emergency else "--yes does not do here"
        message = f"production wants the plan's name typed by a person on a terminal; {instead}"
        raise UsageError(message)
    if input(f"Type the plan's name ({case.plan.name}) to change production: ").strip() != case.plan.name:
        message = "not confirmed; nothing was changed"
        raise UsageError(message)
