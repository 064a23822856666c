"""One rehearsal from the command line to the verdict: environment up, phases, report, environment down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.approval.confirm import confirm
from rehearsal.approval.fingerprint import name_differences, parts_of
from rehearsal.environment import Environment
from rehearsal.errors import UsageError
from rehearsal.evidence.events import OptionsChosen
from rehearsal.evidence.run import Run, resume_command, runs_folder
from rehearsal.hosts.inventory import load_environment
from rehearsal.limits import require_limits
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context, fingerprint_of, scale_before, scale_of
from rehearsal.rehearse.interrupt import interruptible
from rehearsal.rehearse.order import PHASES
from rehearsal.rehearse.phase import choose, index_of
from rehearsal.rehearse.runner import Runner
from rehearsal.rehearse.servers import bring_down, bring_up
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
        message = "a rehearsal never runs against production; `./inv db.switchover --env production` is the real thing"
        raise UsageError(message)
    require_limits(env)
    run = open_run(root, plan, request)
    confirm(env, plan, yes=request.yes)
    scale = scale_of(plan, request.rows) if request.resume is None or request.rows else scale_before(run)
    run.tell(OptionsChosen(scale))
    resumed = request.resume is not None
    with interruptible(), make_terminal() as terminal:
        run.listen(terminal)
        for line in announce(plan, env, run, scale, phases=len(phases), resumed=resumed):
            run.note(line)
        try:
            context = bring_up(root, plan, env, run, scale, resumed=resumed)
            env = context.env
            verdict = run_phases(context, Runner(context, phases, request.start, request.until), plan_file)
        except KeyboardInterrupt:
            run.note(
                f"interrupted; everything started is stopped, go on with {resume_command(run.name, plan.name)}",
            )
            return INTERRUPTED
        finally:
            bring_down(root, plan, env, run, keep=request.keep)
        terminal.show_verdict(verdict, run.folder / "report.html")
    return verdict.exit_code


def announce(plan: Plan, env: Environment, run: Run, scale: float, *, phases: int, resumed: bool) -> list[str]:
    """Return what is going to happen, for people: on which tables of which environment, and where it is recorded."""
    rows = sum(round(table.rows * (scale if table.scaled else 1)) for table in plan.data.tables)
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


def run_phases(context: Context, runner: Runner, plan_file: Path | None = None) -> Verdict:
    """Run the phases and write the report, whatever became of them.

    `plan_file` is what the plan was read from, if not from where a plan of its name lies.
    """
    try:
        runner.run()
        context.writers.stop()
    finally:
        context.writers.abandon()
    run = context.run
    run.phase = "report"
    plan = load_plan(plan_file or find_plan(context.plan.name, context.root))
    now = fingerprint_of(plan, SqlFiles(context.root / "sql"))
    same = now == context.fingerprint
    changed = name_differences(parts_of(now), parts_of(context.fingerprint))
    run.record(
        "fingerprint",
        "plan, SQL and tool",
        same,
        f"{now[:16]}, {'as at the start' if same else f'CHANGED since the start: {changed}'}",
    )
    return write_report(run, context.plan, describe_environment(context.env), context.fingerprint)


def describe_environment(env: Environment) -> dict[str, Any]:
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
        "app servers": ", ".join(f"{server.name} at {server.url}" for server in env.app_servers),
        "backup folder": str(env.backup_folder),
        "admin mail": env.admin_email,
    }
