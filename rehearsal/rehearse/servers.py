"""What a rehearsal runs on, from its start to its end: throwaway hosts up, the right fingerprint, servers down again.

Owns when servers are started and stopped. What runs on them in between is the phases'.
"""

from __future__ import annotations

from pathlib import Path

from rehearsal.approval.fingerprint import name_differences, parts_of
from rehearsal.environment import Environment
from rehearsal.errors import PreconditionError, RehearsalError
from rehearsal.evidence.events import Event, FingerprintTaken, Note
from rehearsal.evidence.run import Run, utc_now
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.hosts.throwaway import stand_up, stop_local
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import advisory_lock, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context, fingerprint_of, lock_database, lock_key


def bring_up(root: Path, plan: Plan, env: Environment, run: Run, scale: float, *, resumed: bool) -> Context:
    """Start throwaway hosts, so that there is a server to hold the run's lock on; then resolve the secrets.

    Raises:
        HostsFailed: a host did not come up.
    """
    run.phase = "hosts"
    if env.is_throwaway:
        stand_up(env, plan, run)
        run_pyinfra(env.inventory, "roles", plan=plan, run=run)
        if resumed:
            run_pyinfra(env.inventory, "app", plan=plan, run=run)
    loaded = load_environment(env.name, plan.name, root)
    files = SqlFiles(root / "sql")
    context = Context(root, plan, loaded, run, files, fingerprint_of(plan, files), scale)
    if resumed:
        require_same_fingerprint(context)
    run.tell(FingerprintTaken(context.fingerprint, parts_of(context.fingerprint)))
    return context


def bring_down(root: Path, plan: Plan, env: Environment, run: Run, *, keep: bool) -> None:
    """Stop what a rehearsal on this machine started; the data stays, and `--resume` starts it again.

    What another run is at work on goes on running: the servers are that run's to stop.
    """
    if env.kind != "local" or keep or env.state_folder is None or is_in_use(root, plan, env):
        return
    stop_local(env)
    # Shown, not recorded: the report is written, and its manifest must go on fitting the run's files.
    run.show(Event(utc_now(), run.phase, Note("app servers and database stopped; --keep leaves them running")))


def is_in_use(root: Path, plan: Plan, env: Environment) -> bool:
    """Whether another run holds the environment just now; a server that does not answer is held by nobody."""
    try:
        found = env if env.database.password else load_environment(env.name, plan.name, root)
        conn = connect(lock_database(found), role="end of a run")
    except RehearsalError:
        return False
    with conn:
        try:
            with advisory_lock(conn, lock_key(found)):
                return False
        except PreconditionError:
            return True


def require_same_fingerprint(context: Context) -> None:
    """Refuse to go on with a run under another plan, other SQL or other code of the tool; name which of them.

    Raises:
        PreconditionError: one of them changed since the run began.
    """
    with context.session("resume") as conn:
        if scalar(conn, "select to_regclass('rehearsal.run') is null"):
            return
        query = "select fingerprint from rehearsal.run where name = %s"
        row = conn.execute(query, [context.run.name]).fetchone()
    if row and row[0] != context.fingerprint:
        told = [event.what for event in context.run.events()]
        begun = [what.parts for what in told if isinstance(what, FingerprintTaken)]
        changed = name_differences(parts_of(context.fingerprint), begun[-1] if begun else {})
        message = (
            f"run {context.run.name} was begun with fingerprint {row[0][:16]}, now it is {context.fingerprint[:16]}: "
            f"{changed} changed. Restore what was changed, or begin a new run"
        )
        raise PreconditionError(message)
