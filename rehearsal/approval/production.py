"""Law 1: what runs in production is what was rehearsed. The one door that every verb goes through.

A verb that changes an environment of kind `production` needs a signed GO with the same fingerprint, of a kind, size,
server and age that fit, and the name of the plan typed by a person. The GO that opened a change also opens what
follows from it; nothing keeps anybody from pausing, going on, or going back in an emergency.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Protocol

from rehearsal.approval.acts import Act
from rehearsal.approval.approvals import Approval, read_approval, store_approval
from rehearsal.approval.go import Go, Wanted, find_go
from rehearsal.catalog.tables import split_name
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence import runs_folder
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import quote_ident
from rehearsal.rehearse.context import Context

FREE = (Act.HARMLESS, Act.READS, Act.ALWAYS)
NAMED = 5
WAY_OUT = "; in an emergency `invoke db.rollback --emergency REASON` needs none, and is recorded"


class Asked(Protocol):
    """What a command was asked for, as far as this module cares."""

    @property
    def yes(self) -> bool:
        """Whether the confirmation was given on the command line."""
        ...

    @property
    def act(self) -> Act:
        """What the verb does to the environment."""
        ...

    @property
    def emergency(self) -> str | None:
        """Why the way back must be taken now; None when it is no emergency."""
        ...


def admit(context: Context, asked: Asked) -> None:
    """Let a verb in, or refuse it before its first write; why it was let in stays in `context.approval`.

    Environments of other kinds are open; an emergency is kept there too.

    Raises:
        PreconditionError: nothing stands for it; says what was found instead.
        UsageError: it was not confirmed, it never runs on production, or an emergency has no reason.
    """
    if asked.emergency is not None:
        context.approval = declare(context, asked.emergency)
    if context.env.kind != "production" or asked.act in FREE:
        return
    if asked.act is Act.NEVER:
        message = f"environment {context.env.name} is of kind production: this is for rehearsals only"
        raise UsageError(message)
    if context.approval is None:
        context.approval = approve(context, asked.act)
    ask_for_name(context, yes=asked.yes)


def keep_approval(context: Context, conn: Connection) -> None:
    """Store what let the verb in, right before its first write; nothing where nothing was asked for."""
    if context.approval is None:
        return
    name, verb = context.plan.name, context.run.phase
    store_approval(conn, context.files, context.approval, plan=name, verb=verb, run=context.run.name)


def declare(context: Context, reason: str) -> Approval:
    """Return the approval of an emergency, which is its reason.

    Raises:
        UsageError: there is no reason.
    """
    said = " ".join(reason.split())
    if not said:
        message = "an emergency has a reason, which is kept: --emergency REASON"
        raise UsageError(message)
    context.run.event("note", text=f"emergency: {said}")
    return Approval(context.fingerprint, emergency=said)


def approve(context: Context, act: Act) -> Approval:
    """Return what stands for a change of production.

    Raises:
        PreconditionError: nothing does.
    """
    stored = read_stored(context) if act is Act.FOLLOWS else None
    if stored and stored.approved == context.fingerprint:
        return tell(context, replace(stored, fingerprint=context.fingerprint), "opened before by")
    try:
        go = find_go(runs_folder(context.root), look_at(context, act))
    except PreconditionError as exc:
        if stored:
            return warn(context, stored)
        raise PreconditionError(f"{exc}{WAY_OUT if context.run.phase == 'rollback' else ''}") from exc
    return tell(context, from_go(context, go), "rehearsed as")


def from_go(context: Context, go: Go) -> Approval:
    """Return the approval that a GO is; reports that could not be read are named."""
    for one in go.left_out[:NAMED]:
        context.run.event("note", text=f"left out, since it cannot be read: {one}")
    report, signature = go.report, go.signature
    return Approval(
        fingerprint=context.fingerprint,
        rehearsed_as=report.run,
        approved=report.fingerprint,
        kind=report.kind,
        verdict=report.verdict.outcome,
        signed_by=signature.by,
        signed_at=signature.at,
    )


def tell(context: Context, approval: Approval, how: str) -> Approval:
    """Say and record what opened a verb; return it."""
    text = f"{how} {approval.rehearsed_as} on {approval.kind}, signed by {approval.signed_by}"
    context.run.event("note", text=f"{text}, fingerprint {context.fingerprint[:16]}")
    return approval


def warn(context: Context, stored: Approval) -> Approval:
    """Let a verb follow a change that was opened under another fingerprint; the warning is recorded with it."""
    text = (
        f"the change was opened with fingerprint {(stored.approved or '')[:16]} ({stored.rehearsed_as}), now it is "
        f"{context.fingerprint[:16]}: plan or tool are others since, and this verb was not rehearsed with them"
    )
    context.run.event("note", text=f"warning: {text}")
    return replace(stored, fingerprint=context.fingerprint, warning=text)


def read_stored(context: Context) -> Approval | None:
    """Return the stored approval of the plan's newest change."""
    with context.session("approval") as conn:
        return read_approval(conn, context.plan.name)


def look_at(context: Context, act: Act) -> Wanted:
    """Return what a GO must fit, production's server and rows among it.

    What prepares a database may come before the database; what cannot be seen yet is compared by the next verb.

    Raises:
        PreconditionError: production does not answer, or nobody ever counted a table.
    """
    if act is Act.PREPARES:
        return Wanted(context.plan, context.fingerprint)
    with context.session("approval") as conn:
        rows = {spec.name: estimate_rows(conn, context, spec.name) for spec in context.plan.tables}
        return Wanted(context.plan, context.fingerprint, conn.info.server_version // 10_000, rows)


def estimate_rows(conn: Connection, context: Context, table: str) -> int:
    """Return about how many rows a table of production has; nothing is read of the table.

    Raises:
        PreconditionError: its statistics do not say.
    """
    name = quote_ident(split_name(table))
    rows = scalar(conn, context.files.query("queries/row_estimate.sql"), {"table": name})
    if rows is None:
        message = (
            f"how many rows {table} has in production is not known: it is not there, or was never analyzed; "
            f"run ANALYZE {name}, then this again"
        )
        raise PreconditionError(message)
    return int(rows)


def ask_for_name(context: Context, *, yes: bool) -> None:
    """Let a person type the plan's name; `yes` is enough in an emergency only.

    Raises:
        UsageError: it was not typed.
    """
    emergency = context.approval is not None and context.approval.emergency is not None
    if emergency and yes:
        return
    if yes or not sys.stdin.isatty():
        instead = "an emergency may be run with --yes" if emergency else "--yes does not do here"
        message = f"production wants the plan's name typed by a person on a terminal; {instead}"
        raise UsageError(message)
    if input(f"Type the plan's name ({context.plan.name}) to change production: ").strip() != context.plan.name:
        message = "not confirmed; nothing was changed"
        raise UsageError(message)
