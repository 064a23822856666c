"""Approvals: which GO opened which change, kept in the database beside the change (`rehearsal.approval`).

Owns that table. Rows are only added. A change that was opened may be taken back, split and cleaned up by the same GO,
whatever became of the report, the plan or the tool since; so the record must be where the change is.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass

from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles

# What a stored approval was given for; the verbs that follow do not lengthen it.
OPENING = ("migrate", "switchover")


@dataclass(frozen=True, slots=True)
class Approval:
    """Why a verb may change an environment: the GO that stands for it, or the reason of an emergency."""

    fingerprint: str
    rehearsed_as: str | None = None
    approved: str | None = None
    kind: str | None = None
    verdict: str | None = None
    signed_by: str | None = None
    signed_at: str | None = None
    warning: str | None = None
    emergency: str | None = None


def read_approval(conn: Connection, plan: str) -> Approval | None:
    """Return the approval of the plan's newest change that a GO opened; None when none is stored."""
    if not _is_there(conn):
        return None
    row = conn.execute(
        "select fingerprint, rehearsed_as, approved, kind, verdict, signed_by, signed_at from rehearsal.approval "
        "where plan = %s and verb = any(%s) and rehearsed_as is not null order by id desc limit 1",
        [plan, list(OPENING)],
    ).fetchone()
    return Approval(*row) if row else None


def store_approval(conn: Connection, files: SqlFiles, approval: Approval, *, plan: str, verb: str, run: str) -> None:
    """Write down what opened a verb, and who ran it; each call adds a row.

    A registry of an earlier version gets the table first. Locks: none that the application could feel.
    """
    if not _is_there(conn):
        conn.execute(files.query("registry.sql"))
    conn.execute(
        "insert into rehearsal.approval (plan, verb, run, opened_by, fingerprint, rehearsed_as, approved, kind, "
        "verdict, signed_by, signed_at, warning, emergency) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [plan, verb, run, who(), approval.fingerprint, approval.rehearsed_as, approval.approved, approval.kind,
         approval.verdict, approval.signed_by, approval.signed_at, approval.warning, approval.emergency],
    )  # fmt: skip


def who() -> str:
    """Return the user of the machine who runs a verb, and the machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = f"uid {os.getuid()}"
    return f"{name} on {socket.gethostname()}"


def _is_there(conn: Connection) -> bool:
    return bool(scalar(conn, "select pg_catalog.to_regclass('rehearsal.approval') is not null"))
