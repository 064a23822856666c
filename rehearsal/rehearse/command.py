"""One rehearsal from the command line to the verdict: environment up, phases, report, environment down."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rehearsal.approval.fingerprint import name_differences, parts_of
from rehearsal.environment import Environment
from rehearsal.errors import HostsFailed, PreconditionError, RehearsalError, UsageError
from rehearsal.evidence import Event, Run, resume_command, runs_folder, utc_now
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.hosts.throwaway import stand_up
from rehearsal.limits import require_limits
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import advisory_lock, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context, Options, fingerprint_of, lock_database, lock_key, scale_before, scale_of
from rehearsal.rehearse.order import PHASES
from rehearsal.rehearse.phase import choose, index_of
from rehearsal.rehearse.runner import Runner
from rehearsal.report.write import write_report
from rehearsal.terminal.views import make_terminal
from rehearsal.variables import left_out
from rehearsal.verdict.decide import Verdict

INTERRUPTED = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What `rehearse` was asked for."""

    env: str
    rows: int | None = None
    start: str | None = None
    until: str | None = None
    resume: str | None = None
    yes: bool = False
    keep: bool = False


def rehearse(root: Path, plan_name: str, request: Request) -> int:
    """Rehearse one plan; return the exit code of the verdict.

    Raises:
        RehearsalError: the rehearsal could not begin; nothing was changed.
    """
    plan_file = find_plan(plan_name, root).absolute()
    plan = load_plan(plan_file)
    phases = choose(PHASES, plan.strategy)
    for name in (request.start, request.until):
        if name:
            index_of(phases, name)
    env = load_environment(request.env, plan.name, root, secrets=False)
    if env.kind == "production":
        message = "a rehearsal never runs against production; `invoke db.switchover --env production` is the real thing"
        raise UsageError(message)
    require_limits(env)
    run = open_run(root, plan, request)
    confirm(env, plan, yes=request.yes)
    scale = scale_of(plan, request.rows) if request.resume is None or request.rows else scale_before(run)
    run.event("options", scale=scale)
    options = Options(scale=scale, yes=request.yes, keep=request.keep)
    with interruptible(), make_terminal() as terminal:
        run.listen(terminal)
        for line in announce(plan, env, run, options, phases=len(phases), resumed=request.resume is not None):
            run.event("note", text=line)
        try:
            context = bring_up(root, plan, env, run, options, resumed=request.resume is not None)
            env, context.plan_file = context.env, plan_file
            verdict = run_phases(context, Runner(context, phases, request.start, request.until))
        except KeyboardInterrupt:
            run.event(
                "note",
                text=f"interrupted; everything started is stopped, go on with {resume_command(run.name, plan.name)}",
            )
            return INTERRUPTED
        finally:
            bring_down(root, plan, env, run, keep=request.keep)
        terminal.show_verdict(verdict, run.folder / "report.html")
    return verdict.exit_code


def announce(plan: Plan, env: Environment, run: Run, options: Options, *, phases: int, resumed: bool) -> list[str]:
    """Return what is going to happen, for people: on which tables of which environment, and where it is recorded."""
    rows = sum(round(table.rows * (options.scale if table.scaled else 1)) for table in plan.data.tables)
    made = f", {rows:,} rows made for it" if env.is_throwaway and rows and not resumed else ""
    verb = "going on with the rehearsal of" if resumed else "rehearsing"
    tables = ", ".join(spec.name for spec in plan.tables)
    ignored = [f"variables of the shell that have no effect here: {', '.join(names)}"] if (names := left_out()) else []
    return [
        *ignored,
        f"{verb} plan {plan.name} ({plan.strategy}) on environment {env.name}: {tables}{made}",
        f"{phases} phases: switched over under load, measured, taken back, switched again; kept in runs/{run.name}",
    ]


def open_run(root: Path, plan: Plan, request: Request) -> Run:
    """Return the run to go on with, or a new one.

    Raises:
        UsageError: no such run, or it is of another plan or environment.
    """
    runs = runs_folder(root)
    if request.resume is None:
        if request.start:
            message = f"--from needs --resume RUN, since phases before {request.start!r} must have been done"
            raise UsageError(message)
        return Run.create(runs, request.env, plan.name)
    run = Run.open(runs, request.resume)
    if f"-{request.env}-{plan.name}" not in run.name:
        message = (
            f"run {run.name} is not of environment {request.env} and plan {plan.name}; name those that it "
            "was begun with"
        )
        raise UsageError(message)
    if (run.folder / "signature.json").exists():
        message = f"run {run.name} is signed, so nothing may be added to it; begin a new one"
        raise UsageError(message)
    return run


def confirm(env: Environment, plan: Plan, *, yes: bool) -> None:
    """Ask before tables of somebody's staging database are switched over; throwaway hosts are not asked about.

    Production was asked for already, by a question of its own (`rehearsal.approval.approvals.production`).

    Raises:
        UsageError: the answer was not yes, or there is no terminal to ask on.
    """
    if env.is_throwaway or yes or env.kind == "production":
        return
    tables = ", ".join(spec.name for spec in plan.tables)
    if not sys.stdin.isatty():
        message = f"{tables} on {env.name} will be switched over; there is no terminal to ask on, so say --yes"
        raise UsageError(message)
    print(
        f"{tables} on {env.name} ({env.database.name} at {env.database.host}) will be switched over.", file=sys.stderr
    )
    if input('Type "yes" to go on: ').strip() != "yes":
        message = "not confirmed; nothing was changed"
        raise UsageError(message)


def bring_up(root: Path, plan: Plan, env: Environment, run: Run, options: Options, *, resumed: bool) -> Context:
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
    context = Context(root, plan, loaded, run, files, fingerprint_of(plan, files), options)
    if resumed:
        require_same_fingerprint(context)
    run.event("fingerprint", whole=context.fingerprint, parts=parts_of(context.fingerprint))
    return context


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
        begun = [event.fields.get("parts", {}) for event in context.run.events() if event.kind == "fingerprint"]
        changed = name_differences(parts_of(context.fingerprint), begun[-1] if begun else {})
        message = (
            f"run {context.run.name} was begun with fingerprint {row[0][:16]}, now it is {context.fingerprint[:16]}: "
            f"{changed} changed. Restore what was changed, or begin a new run"
        )
        raise PreconditionError(message)


def run_phases(context: Context, runner: Runner) -> Verdict:
    """Run the phases and write the report, whatever became of them."""
    try:
        runner.run()
        context.writers.stop()
    finally:
        context.writers.abandon()
    run = context.run
    run.phase = "report"
    plan = load_plan(context.plan_file or find_plan(context.plan.name, context.root))
    now = fingerprint_of(plan, SqlFiles(context.root / "sql"))
    same = now == context.fingerprint
    changed = name_differences(parts_of(now), parts_of(context.fingerprint))
    run.record(
        "fingerprint",
        "plan, SQL and tool",
        same,
        f"{now[:16]}, {'as at the start' if same else f'CHANGED since the start: {changed}'}",
    )
    return write_report(run, context.plan, describe(context.env), context.fingerprint)


def describe(env: Environment) -> dict[str, Any]:
    """Return what the report shows of an environment; no secret is in it."""
    return {
        "name": env.name,
        "kind": env.kind,
        "inventory": env.inventory.name,
        "database": env.database.name,
        "host": env.database.host,
        "port": env.database.port,
        "migrating role": env.database.user,
        "application role": env.app_database.user,
        "TLS": env.database.sslmode,
        "app servers": ", ".join(f"{one.name} at {one.url}" for one in env.app_servers),
        "backup folder": str(env.backup_folder),
        "admin mail": env.admin_email,
    }


def bring_down(root: Path, plan: Plan, env: Environment, run: Run, *, keep: bool) -> None:
    """Stop what a rehearsal on this machine started; the data stays, and `--resume` starts it again.

    What another run is at work on goes on running: the servers are that run's to stop.
    """
    if env.kind != "local" or keep or env.state_folder is None or is_in_use(root, plan, env):
        return
    stop_local(env)
    # Shown, not recorded: the report is written, and its manifest must go on fitting the run's files.
    run.show(
        Event("note", utc_now(), run.phase, {"text": "app servers and database stopped; --keep leaves them running"})
    )


def stop_local(env: Environment) -> bool:
    """Stop the app servers and the database of the environment `local`; return whether any ran.

    Raises:
        HostsFailed: one could not be stopped.
    """
    command = [sys.executable, "-m", "fleet.local", "stop", "--base", str(env.state_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"environment {env.name} could not be stopped: {done.stderr.strip()}"
        raise HostsFailed(message)
    return bool(json.loads(done.stdout)["changed"])


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


@contextmanager
def interruptible() -> Generator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: in good order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_report(root: Path, name: str | None) -> Path:
    """Open the newest report (or that of one run) in a browser, if there is one; return its path.

    Raises:
        UsageError: there is no report.
    """
    runs = runs_folder(root)
    folder = Run.open(runs, name).folder if name else newest(runs)
    page = folder / "report.html"
    if not page.exists():
        message = f"run {folder.name} has no report yet"
        raise UsageError(message)
    webbrowser.open(page.as_uri())
    return page


def newest(runs: Path) -> Path:
    """Return the newest run's folder.

    Raises:
        UsageError: there is none.
    """
    folders = sorted((path for path in runs.glob("*-*-*") if (path / "report.html").exists()), key=lambda one: one.name)
    if not folders:
        message = f"no report in {runs}; make one with `invoke rehearse`"
        raise UsageError(message)
    return folders[-1]
