"""The verbs `db.provision` and `db.data`: hosts, roles, database and app servers as wanted, and rows to rehearse with.

Owns their order. Must not know how a host is brought to a state: that is pyinfra's.
"""

from __future__ import annotations

from contextlib import nullcontext

from psycopg import sql

from rehearsal.approval.production import Case, admit
from rehearsal.catalog.tables import split_name
from rehearsal.commands.session import DONE, FAILED, Target, alone, code_of, opened
from rehearsal.environment import Environment
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.evidence.run import Run, runs_folder
from rehearsal.hosts.inventory import load_environment
from rehearsal.hosts.pyinfra import run_pyinfra
from rehearsal.hosts.rights import bring_roles
from rehearsal.hosts.throwaway import stand_up
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.changes import migrate_schema
from rehearsal.rehearse.context import Context, fingerprint_of, hold_lock
from rehearsal.rehearse.rows import make_rows
from rehearsal.switchover import state
from rehearsal.terminal.views import make_terminal

NEXT = ". Rows: `./inv db.data`; to stop: `./inv hosts.down`"


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
        if dry:
            return FAILED if count_missing(env, plan, run) else DONE
        if env.kind == "production":
            files = SqlFiles(target.root / "sql")
            admit(Case(env, plan, files, fingerprint_of(plan, files), runs_folder(target.root), run), target)
        changed = stand_up(env, plan, run)
        env = load_environment(target.env, plan.name, target.root, secrets=False)
        changed += bring_roles(env.inventory, plan, run).changed
        changed += bring_application(target, plan, env, run, fresh=fresh)
        tell_provisioned(env, run, changed)
    return DONE


def count_missing(env: Environment, plan: Plan, run: Run) -> int:
    """Say what provisioning would change on each host, and return how much; changes nothing."""
    changed = 0
    first = "cluster" if env.kind == "local" else "hosts" if env.settings.get("provisioned") else None
    for phase in filter(None, (first, "roles", "app" if env.app_servers else None)):
        if phase == "roles":
            result = bring_roles(env.inventory, plan, run, dry=True)
        else:
            result = run_pyinfra(env.inventory, phase, plan=plan, run=run, dry=True)
        for host, operation in result.would_change:
            run.note(f"{host}: would change: {operation}")
        changed += len(result.would_change)
    run.note(f"{changed} operations would change something")
    return changed


def bring_application(target: Target, plan: Plan, env: Environment, run: Run, *, fresh: bool) -> int:
    """Bring the application's schema, where the environment lacks it, and its servers; return how much changed."""
    if not env.is_throwaway:
        return bring_servers(plan, env, run, fresh=False)
    files = SqlFiles(target.root / "sql")
    loaded = load_environment(target.env, plan.name, target.root)
    context = Context(target.root, plan, loaded, run, files, fingerprint_of(plan, files))
    # Held until the servers are up, so that no database is dropped under a rehearsal.
    with hold_lock(context) if fresh else nullcontext():
        changed = 0
        if fresh:
            changed += run_pyinfra(env.inventory, "roles", plan=plan, run=run, data={"reset": True}).changed
        changed += migrate_schema(context)
        return changed + bring_servers(plan, env, run, fresh=fresh)


def bring_servers(plan: Plan, env: Environment, run: Run, *, fresh: bool) -> int:
    """Bring the app servers, if there are any: a database alone can be switched over too; return how much changed."""
    if not env.app_servers:
        return 0
    return run_pyinfra(env.inventory, "app", plan=plan, run=run, data={"reset": fresh}).changed


def tell_provisioned(env: Environment, run: Run, changed: int) -> None:
    """Say how much changed, where everything is now, and what to do next."""
    run.note(f"{changed} operations changed something" if changed else "no change")
    servers = ", ".join(f"{server.name} at {server.url}" for server in env.app_servers)
    place = f"{env.database.name} at {env.database.host}:{env.database.port}"
    run.note(f"database {place}; {servers or 'no app server'}{NEXT if env.is_throwaway else ''}")


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
                refuse_rows_after_target(conn, spec.name)
            make_rows(context)
        return code_of(context)


def refuse_rows_after_target(conn: Connection, table: str) -> None:
    """Refuse rows for an empty table with a target: its partitions were made for the rows that there were.

    Raises:
        PreconditionError: it is such a table.
    """
    name = split_name(table)
    empty = sql.SQL("select not exists (select from {})").format(sql.Identifier(*name))
    if state.find_migration(conn, name) and scalar(conn, empty):
        message = (
            f"{table} has a partitioned target with partitions for no rows; rows are made before `./inv db.migrate`, "
            "and `./inv db.provision --fresh` begins anew"
        )
        raise PreconditionError(message)
