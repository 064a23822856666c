"""The verbs of the routing flags, `flags.show` and `flags.set`: what they print, and their exit codes.

Owns the words about a flip. Must not decide how one goes: that is `rehearsal.application.rollout`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rehearsal.application.flags import ServerFlags, disagreements, require_servers, show_flags
from rehearsal.application.rollout import FlipResult, Rollout, ServerFlip, set_flags
from rehearsal.catalog.tables import dotted, split_name
from rehearsal.commands.session import DONE, FAILED, UNSEEN, Target, alone, opened
from rehearsal.errors import PreconditionError
from rehearsal.hosts.inventory import load_environment
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.interrupt import interruptible
from rehearsal.switchover import state

ON_OFF = {True: "on", False: "off"}


def show_routing(target: Target) -> int:
    """Print the routing flags of every server: in its file, in its process, as the inventory wants them.

    Returns 1 if any two of them disagree, or two servers do; 3 if something could not be seen. Where neither the plan
    has flags nor the environment an app server, there is nothing that could disagree.

    Raises:
        CannotSee: the plan has flags, and no app server is there to be asked.
    """
    plan = load_plan(find_plan(target.plan, target.root))
    env = load_environment(target.env, plan.name, target.root, secrets=False)
    if not plan.flags and not env.app_servers:
        print(f"nothing to show: plan {plan.name} has no routing flags, and environment {env.name} no app server")
        return DONE
    require_servers(env)
    servers = show_flags(env, plan)
    print_servers(servers)
    if found := disagreements(servers):
        print("\n".join(found))
        print("`./inv flags.set` brings file, process and fleet together")
        return FAILED
    return DONE if all(server.file and server.process for server in servers) else UNSEEN


def set_routing(target: Target, *, reads: bool, writes: bool, rollout: Rollout) -> int:
    """Set the routing flags, batch by batch, health-gated, reverted on failure; a second run changes nothing.

    Holds the lock of the environment, so that a second flip or a rehearsal at the same time is refused by name.
    After Ctrl-C the servers stay as they are, and what to run next is printed.

    Raises:
        PreconditionError: another run is at work, the database belongs to another kind of environment, or flags are
            to go on before the partitioned tables have every row.
    """
    again = f"--reads {ON_OFF[reads]} --writes {ON_OFF[writes]}"
    with opened(target, "flags") as context, alone(context) as conn, interruptible():
        if not (reads and writes):
            require_source(context, conn)
        if reads or writes:
            require_mirrored(context, conn)
        try:
            flip = set_flags(context.env, context.plan, reads=reads, writes=writes, run=context.run, rollout=rollout)
        except KeyboardInterrupt:
            return tell_interrupted(context, rollout, again)
        print_flip(flip)
        return tell_rollout(flip, again)


def require_mirrored(context: Context, conn: Connection) -> None:
    """Refuse partitioned routing while a partitioned table may lack rows: readers would miss them.

    Raises:
        PreconditionError: a table of the plan is not mirrored.
    """
    if not context.plan.traits.mirrors:
        return
    for spec in context.plan.tables:
        if state.is_ended(conn, split_name(spec.name)):
            continue  # its target is the only table
        found = state.read_migration(conn, split_name(spec.name)).state
        if found != state.MIRRORED:
            message = (
                f"{spec.name} is {found}: its partitioned table may lack rows, so nothing may be routed there; "
                "run `./inv db.switchover` first"
            )
            raise PreconditionError(message)
        context.switchover(spec).require_fit(conn)


def require_source(context: Context, conn: Connection) -> None:
    """Refuse routing to tables that a clean-up has dropped: every request would fail.

    Raises:
        PreconditionError: names them.
    """
    names = [split_name(spec.name) for spec in context.plan.tables] if context.plan.traits.mirrors else []
    if gone := [dotted(name) for name in names if state.find_ended(conn, name) not in (None, name)]:
        message = (
            f"{', '.join(gone)} is no more: `./inv db.cleanup` dropped it and kept its target, so nothing may be "
            "routed there; keep both flags on. Nothing was changed"
        )
        raise PreconditionError(message)


def tell_rollout(flip: FlipResult, again: str) -> int:
    """Say how a flip ended, and what to do next; return the exit code."""
    moved = sum(server.restarted for server in flip.servers)
    if flip.ok:
        print(f"{len(flip.servers)} servers run with {flip.wanted}, {moved} restarted" if moved else "no change")
        return DONE
    print(f"error: {flip.error}", file=sys.stderr)
    left = [server.server for server in flip.servers if server.reverted is False]
    if left:
        print(f"the rollback failed on {', '.join(left)}: look there first", file=sys.stderr)
    else:
        print("every server that was touched has its flags back", file=sys.stderr)
    print(f"mend the server and run `./inv flags.set {again}` again: it changes what is not there yet", file=sys.stderr)
    return FAILED


def tell_interrupted(context: Context, rollout: Rollout, again: str) -> int:
    """Say where an interrupted flip stands, server by server, and how to go on or back; return the exit code."""
    print("interrupted; looking at the servers", file=sys.stderr)
    chosen = [server for batch in rollout.batches(context.env.app_servers) for server in batch]
    print_servers(show_flags(context.env, context.plan, chosen))
    print(f"to finish: `./inv flags.set {again}`, which changes what is not there yet", file=sys.stderr)
    print("to go back: the same with the flags as they were", file=sys.stderr)
    return UNSEEN


def print_servers(servers: Sequence[ServerFlags]) -> None:
    """Print a line for each server."""
    rows = [
        (
            server.server,
            str(server.file or "unseen"),
            str(server.process or "unseen"),
            str(server.wish or "-"),
            server.problem or "",
        )
        for server in servers
    ]
    print_table(("server", "file", "process", "inventory", ""), rows)


def print_flip(flip: FlipResult) -> None:
    """Print what became of each server, those that were not touched too."""
    rows = [_row(server) for server in flip.servers]
    rows += [(server, "", "", "not touched", "", "") for server in flip.untouched]
    print_table(("server", "before", "after", "what was done", "seconds", ""), rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with columns as wide as they need."""
    lines = [columns, *rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _row(one: ServerFlip) -> tuple[str, ...]:
    what = "restarted" if one.restarted else "not restarted"
    if one.reverted is not None:
        what = "put back" if one.reverted else "NOT PUT BACK"
    before, after = str(one.before.process or "unseen"), str((one.after and one.after.process) or "unseen")
    return (one.server, before, after, what, f"{one.seconds:.1f}", one.error or "")
