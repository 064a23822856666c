"""The single verbs: what each one does on its own, on any environment. Each returns an exit code.

Owns the order of calls behind `db.*`, `load.*`, `doctor`; flags and hosts have rooms of their own.
Must not parse command lines.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from rehearsal.application.rollout import set_flags
from rehearsal.approval.acts import Act
from rehearsal.approval.approvals import store_approval
from rehearsal.approval.confirm import confirm
from rehearsal.approval.production import Case, admit
from rehearsal.catalog.tables import split_name
from rehearsal.commands.cleanup import clean_up, end_attach
from rehearsal.commands.doctor import examine
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence import Run, runs_folder
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.manifest import Change
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.hosts.rights import bring_roles
from rehearsal.hosts.throwaway import stand_up
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.connection import Connection, advisory_lock, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.changes import apply_changes, migrate_schema
from rehearsal.rehearse.context import Context, Options, fingerprint_of, lock_database, lock_key, require_mark, scale_of
from rehearsal.rehearse.parity import compare_all
from rehearsal.rehearse.phases.data import make_rows
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover import state
from rehearsal.switchover.copy.pause import end_pause, read_pause, set_pause
from rehearsal.switchover.dryrun import catalog_digest, dry_run_text, plan_statements
from rehearsal.switchover.outdated import mend_targets
from rehearsal.switchover.parity import parity_text
from rehearsal.switchover.strategies.attach.split import Regrain
from rehearsal.switchover.target.target import render_changes
from rehearsal.terminal.views import make_terminal

DONE, FAILED, UNSEEN = 0, 1, 3
NEXT = ". Rows: `invoke db.data`; to stop: `invoke hosts.down`"


@dataclass(frozen=True, slots=True)
class Target:
    """Which plan on which environment, and what is asked for: a change, unless the command line says less."""

    root: Path
    plan: str
    env: str
    yes: bool = False
    act: Act = Act.CHANGES
    emergency: str | None = None


@contextmanager
def opened(target: Target, verb: str, rows: int | None = None) -> Generator[Context]:
    """Open a context with a run of its own, events shown on the terminal; production is asked for here, once for all.

    Raises:
        PlanError, UsageError, PreconditionError: plan, environment or secrets cannot be used, or nothing stands for
            a change of production.
    """
    plan = load_plan(find_plan(target.plan, target.root))
    env = load_environment(target.env, plan.name, target.root)
    files = SqlFiles(target.root / "sql")
    run = Run.create(runs_folder(target.root), target.env, f"{plan.name}-{verb}")
    with make_terminal() as terminal:
        run.listen(terminal)
        run.phase = verb
        options = Options(scale=scale_of(plan, rows), yes=target.yes)
        fingerprint, runs = fingerprint_of(plan, files), runs_folder(target.root)
        approval = admit(Case(env, plan, files, fingerprint, runs, run), target)
        yield Context(target.root, plan, env, run, files, fingerprint, options, approval=approval)


@contextmanager
def alone(context: Context) -> Generator[Connection]:
    """Hold the database's advisory lock for the block, and yield a session on the plan's database.

    What let the verb in is stored first, if it is production or an emergency.
    """
    with (
        connect(lock_database(context.env), role=f"run {context.run.name}") as conn,
        advisory_lock(conn, lock_key(context.env)),
        context.session() as session,
    ):
        require_mark(context, session)
        keep_approval(context, session)
        yield session


def keep_approval(context: Context, conn: Connection) -> None:
    """Store what let the verb in, right before its first write; nothing where nothing was asked for."""
    if context.approval is None:
        return
    name, verb = context.plan.name, context.run.phase
    store_approval(conn, context.files, context.approval, plan=name, verb=verb, run=context.run.name)


def provision(target: Target, *, dry: bool = False, fresh: bool = False) -> int:
    """Bring hosts, roles, database, registry and app servers to the wanted state; a second run changes nothing.

    With `fresh`, the plan's database of a throwaway environment is dropped and made anew. With `dry`, nothing is
    changed, and the exit code is 1 if anything would be.

    Raises:
        UsageError: `fresh` where the database is not ours to drop.
    """
    plan = load_plan(find_plan(target.plan, target.root))
    env = load_environment(target.env, plan.name, target.root, secrets=False)
    if fresh and not env.is_throwaway:
        message = f"environment {env.name} is no throwaway: its database is never dropped"
        raise UsageError(message)
    run = Run.create(runs_folder(target.root), target.env, f"{plan.name}-provision")
    with make_terminal() as terminal:
        run.listen(terminal)
        changed = 0
        if not dry and env.kind == "production":
            files = SqlFiles(target.root / "sql")
            admit(Case(env, plan, files, fingerprint_of(plan, files), runs_folder(target.root), run), target)
        if dry:
            first = "cluster" if env.kind == "local" else "hosts" if env.settings.get("provisioned") else None
            for phase in filter(None, (first, "roles", "app" if env.app_servers else None)):
                if phase == "roles":
                    result = bring_roles(env.inventory, plan, run, dry=True)
                else:
                    result = run_pyinfra(env.inventory, phase, plan=plan, run=run, dry=True)
                for host, operation in result.would_change:
                    run.event("note", text=f"{host}: would change: {operation}")
                changed += len(result.would_change)
            run.event("note", text=f"{changed} operations would change something")
            return FAILED if changed else DONE
        changed += stand_up(env, plan, run)
        env = load_environment(target.env, plan.name, target.root, secrets=False)
        changed += bring_roles(env.inventory, plan, run).changed
        with ExitStack() as stack:
            if env.is_throwaway:
                files = SqlFiles(target.root / "sql")
                loaded = load_environment(target.env, plan.name, target.root)
                context = Context(target.root, plan, loaded, run, files, fingerprint_of(plan, files))
                if fresh:
                    # Held until the end, so that no database is dropped under a rehearsal.
                    conn = stack.enter_context(connect(lock_database(context.env), role=f"run {run.name}"))
                    stack.enter_context(advisory_lock(conn, lock_key(loaded)))
                    changed += run_pyinfra(env.inventory, "roles", plan=plan, run=run, data={"reset": True}).changed
                changed += migrate_schema(context)
            if env.app_servers:  # a database alone can be switched over too
                changed += run_pyinfra(env.inventory, "app", plan=plan, run=run, data={"reset": fresh}).changed
        run.event("note", text=f"{changed} operations changed something" if changed else "no change")
        servers = ", ".join(f"{one.name} at {one.url}" for one in env.app_servers)
        place = f"{env.database.name} at {env.database.host}:{env.database.port}"
        run.event("note", text=f"database {place}; {servers or 'no app server'}{NEXT if env.is_throwaway else ''}")
    return DONE


def fill(target: Target, rows: int | None) -> int:
    """Make the plan's production-like rows; a table that has its rows is left alone.

    Raises:
        UsageError: the environment is somebody's own, which has rows of its own.
        PreconditionError: a table has rows, but not as many as asked for.
    """
    with opened(target, "data", rows) as context:
        if not context.env.is_throwaway:
            message = f"environment {context.env.name} is no throwaway: rows are made on local and docker hosts only"
            raise UsageError(message)
        with alone(context) as conn:
            for spec in context.plan.tables:
                refuse_rows_after_twin(conn, spec.name)
            make_rows(context)
        return code_of(context)


def refuse_rows_after_twin(conn: Connection, table: str) -> None:
    """Refuse rows for an empty table with a twin: its partitions were made for the rows that there were.

    Raises:
        PreconditionError: it is such a table.
    """
    name = split_name(table)
    empty = sql.SQL("select not exists (select from {})").format(sql.Identifier(*name))
    if state.find_migration(conn, name) and scalar(conn, empty):
        message = (
            f"{table} has a partitioned twin with partitions for no rows; rows are made before `invoke db.migrate`, "
            "and `invoke db.provision --fresh` begins anew"
        )
        raise PreconditionError(message)


def code_of(context: Context) -> int:
    """Return the exit code of what a verb saw: failed, unseen or done."""
    seen = [one.passed for one in context.run.evidence()]
    return FAILED if False in seen else UNSEEN if None in seen else DONE


def migrate(target: Target, *, dry: bool = False) -> int:
    """Apply twin and triggers through the registry; a second run changes nothing, an edited file is refused."""
    with opened(target, "migrate") as context:
        with alone(context) as conn:
            require_ready(context, conn, Intent.MIGRATE)
            if not dry:
                mend_targets(conn, context.env.database, context.files, context.plan, context.run)
            rendered = render_changes(conn, context.files, context.plan, context.run.began)
            if dry:
                print("\n".join(change.body for change in rendered))
                return DONE
            schema = [
                Change(name.removesuffix(".sql"), context.files.text(f"migrations/{name}"))
                for name in context.plan.app_schema.migrations
            ]
            changes = [*(schema if context.env.is_throwaway else []), *(Change(one.name, one.body) for one in rendered)]
            changed = apply_changes(context, changes)
        context.run.event("note", text=f"{changed} changes applied" if changed else "no change")
    return DONE


def switchover(target: Target, *, dry: bool = False) -> int:
    """Switch every table of the plan; with `dry`, print every statement and change nothing."""
    with opened(target, "switchover") as context:
        if dry:
            return dry_run(context)
        confirm(context.env, context.plan, yes=target.yes)
        with alone(context) as conn:
            require_ready(context, conn, Intent.SWITCHOVER)
            for spec in context.plan.tables:
                context.switchover(spec).require_fit(conn)
            for spec in context.plan.tables:
                work = context.switchover(spec)
                prepared, switched = work.prepare(), work.switch()
                context.run.event("note", text=f"{spec.name}: {'switched' if prepared or switched else 'no change'}")
            if context.plan.strategy != "attach":
                reports = compare_all(context, "parity-after", self_test=True)
                context.run.attach("post_migration_parity.txt", parity_text(reports))
        return code_of(context)


def dry_run(context: Context) -> int:
    """Print every statement to come in a read-only session, and prove that nothing changed."""
    with context.session("dry run") as conn:
        before = catalog_digest(conn, context.files)
        conn.read_only = True
        acts = plan_statements(conn, context.files, context.plan, context.run.began)
        conn.read_only = False
        after = catalog_digest(conn, context.files)
    print(dry_run_text(context.plan, acts, {}))
    context.run.event("note", text=f"nothing was changed: catalog digest {before} before, {after} after")
    return DONE if before == after else FAILED


def pause(target: Target, reason: str) -> int:
    """Pause the plan's copies and index builds, running or to come; a second pause changes nothing.

    It takes effect before the next chunk and the next index. Writes stay captured: the key log grows meanwhile.
    """
    with opened(target, "pause") as context, context.session("pause") as conn:
        require_mark(context, conn)
        changed = set_pause(conn, context.plan.name, reason)
        found = read_pause(conn, context.plan.name)
        context.run.event("note", text=f"{context.plan.name} {found}{'' if changed else '; no change'}")
    return DONE


def resume(target: Target) -> int:
    """Let the plan's copies and index builds go on; on a plan that is not paused, changes nothing."""
    with opened(target, "resume") as context, context.session("resume") as conn:
        require_mark(context, conn)
        changed = end_pause(conn, context.plan.name)
        context.run.event("note", text=f"{context.plan.name} goes on" if changed else "no change: it was not paused")
    return DONE


def roll_back(target: Target) -> int:
    """Take the switch back: flags off (dual-write), names back (swap); nothing acknowledged is lost."""
    with opened(target, "rollback") as context:
        confirm(context.env, context.plan, yes=target.yes)
        with alone(context) as conn:
            require_ready(context, conn, Intent.ROLLBACK)
            for spec in context.plan.tables:
                context.switchover(spec).require_fit(conn, leaving=True)
            if context.plan.strategy == "dual-write":
                flip = set_flags(context.env, context.plan, reads=False, writes=False, run=context.run)
                if not flip.ok:
                    return FAILED
                moved = sum(one.restarted for one in flip.servers)
                text = f"flags are off on {len(flip.servers)} app servers, {moved} restarted" if moved else "no change"
                context.run.event("note", text=text)
            for spec in context.plan.tables:
                changed = context.switchover(spec).roll_back()
                if context.plan.strategy != "dual-write":
                    context.run.event("note", text=f"{spec.name}: {'names are back' if changed else 'no change'}")
    return DONE


def regrain(target: Target) -> int:
    """Split the history of every attached table into partitions of the plan's interval, while writers are at work.

    Raises:
        PreconditionError: a table is not attached.
    """
    with opened(target, "regrain") as context:
        confirm(context.env, context.plan, yes=target.yes)
        with alone(context) as conn:
            require_ready(context, conn, Intent.REGRAIN)
            for spec in context.plan.tables:
                work = Regrain(context.env.database, context.files, context.plan, spec, context.run)
                context.run.event("note", text=f"{spec.name}: {'split' if work.split() else 'no change'}")
    return DONE


def cleanup(target: Target) -> int:
    """Drop the legacy tables, after the plan's stable days and a last exact comparison of all of them.

    Raises:
        PreconditionError: too early, not switched, or the tables differ; then nothing was dropped.
    """
    with opened(target, "cleanup") as context:
        confirm(context.env, context.plan, yes=target.yes)
        with alone(context) as conn:
            require_ready(context, conn, Intent.CLEANUP)
            (end_attach if context.plan.strategy == "attach" else clean_up)(context, conn)
    return DONE


def run_load(target: Target, seconds: float | None, rate: float) -> int:
    """Run the plan's load for a while, settle its ledger, and judge it."""
    with opened(target, "load") as context:
        length = seconds if seconds is not None else context.plan.load.duration_s

        def load(inner: Context) -> None:
            inner.writers.ensure("load", rate=rate)
            time.sleep(length)  # the load is open loop: its length is what was asked for
            with inner.session() as conn:
                live = [(spec, inner.names_now(conn, spec)[:1]) for spec in inner.plan.tables]
            inner.writers.settle("load", live)

        load(context)
        summary = context.writers.stop()
        for name, one in sorted((summary.operations if summary else {}).items()):
            print(
                f"{name:<40} {one.ok:>8} ok {one.failed:>6} failed {one.unknown:>5} unknown  p99 {one.p99_ms:>8.1f} ms"
            )
        return code_of(context)


def doctor(target: Target, *, fix: bool) -> int:
    """Look for the known troubles, name each remedy, and with `fix` perform those that are safe."""
    with opened(target, "doctor") as context:
        with alone(context) as conn:
            if fix:
                require_ready(context, conn, Intent.FIX)
            findings = examine(context, conn, fix=fix)
        for one in findings:
            print(f"{one.subject}: {one.trouble}\n    remedy: {one.remedy}{'  [done]' if one.fixed else ''}")
        if not findings:
            print("nothing found")
        return DONE if all(one.fixed for one in findings) else FAILED
