"""What every verb begins with: plan and environment, a run of its own, the door to production, the lock; exit codes.

Owns when a verb is let in and what it holds while it works. What verbs do is said beside, one module a noun.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rehearsal.approval.acts import Consent
from rehearsal.approval.approvals import store_approval
from rehearsal.approval.production import Case, admit
from rehearsal.evidence.run import Run, runs_folder
from rehearsal.hosts.inventory import load_environment
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context, fingerprint_of, hold_lock, require_mark, scale_of
from rehearsal.terminal.views import make_terminal

DONE, FAILED, UNSEEN = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Target:
    """Which plan on which environment, and what is asked for: a change, unless the command line says less."""

    root: Path
    plan: str
    env: str
    yes: bool = False
    act: Consent = Consent.CHANGES
    emergency: str | None = None


@contextmanager
def opened(target: Target, verb: str, rows: int | None = None, *, shown: TextIO | None = None) -> Generator[Context]:
    """Open a context with a run of its own, events shown on the terminal; production is asked for here, once for all.

    `shown` is where events go (stdout, if left out), for verbs whose answer is read by a program.

    Raises:
        PlanError, UsageError, PreconditionError: plan, environment or secrets cannot be used, or nothing stands for
            a change of production.
    """
    plan = load_plan(find_plan(target.plan, target.root))
    env = load_environment(target.env, plan.name, target.root)
    files = SqlFiles(target.root / "sql")
    run = Run.create(runs_folder(target.root), target.env, f"{plan.name}-{verb}")
    with make_terminal(shown) as terminal:
        run.listen(terminal)
        run.phase = verb
        fingerprint, runs = fingerprint_of(plan, files), runs_folder(target.root)
        approval = admit(Case(env, plan, files, fingerprint, runs, run), target)
        yield Context(target.root, plan, env, run, files, fingerprint, scale_of(plan, rows), approval)


@contextmanager
def alone(context: Context) -> Generator[Connection]:
    """Hold the database's advisory lock for the block, and yield a session on the plan's database.

    What let the verb in is stored first, if it is production or an emergency.
    """
    with hold_lock(context), context.session() as conn:
        require_mark(context, conn)
        keep_approval(context, conn)
        yield conn


def keep_approval(context: Context, conn: Connection) -> None:
    """Store what let the verb in, right before its first write; nothing where nothing was asked for."""
    if context.approval is None:
        return
    name, verb = context.plan.name, context.run.phase
    store_approval(conn, context.files, context.approval, plan=name, verb=verb, run=context.run.name)


def code_of(context: Context) -> int:
    """Return the exit code of what a verb saw: failed, unseen or done."""
    seen = [item.passed for item in context.run.evidence()]
    return FAILED if False in seen else UNSEEN if None in seen else DONE
