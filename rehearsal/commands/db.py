"""The verbs of a plan's tables, `db.*`: migrate, switch over, roll back, split, pause, resume, verify.

Owns the order of their calls; each returns an exit code. Must not parse command lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from rehearsal.application.rollout import set_flags
from rehearsal.approval.confirm import confirm
from rehearsal.catalog.tables import dotted, split_name
from rehearsal.checks.duplicates import Duplicates, find_duplicates
from rehearsal.commands.cleanup import clean_up
from rehearsal.commands.session import DONE, FAILED, UNSEEN, Target, alone, code_of, opened
from rehearsal.errors import PreconditionError
from rehearsal.hosts.manifest import Change
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.changes import apply_changes, schema_changes
from rehearsal.rehearse.context import Context, require_mark
from rehearsal.rehearse.parity import compare_all
from rehearsal.rehearse.readiness import Intent, require_ready
from rehearsal.switchover import state
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.copy.pause import end_pause, read_pause, set_pause
from rehearsal.switchover.dryrun import dry_run_text, plan_read_only
from rehearsal.switchover.outdated import mend_targets
from rehearsal.switchover.parity import ParityReport, parity_text
from rehearsal.switchover.strategies.attach.prepare import Preparation
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.table import Switchover

NO_CHANGE = "no change"


def migrate(target: Target, *, dry: bool = False) -> int:
    """Apply target and triggers through the registry; a second run changes nothing, an edited file is refused."""
    with opened(target, "migrate") as context:
        with alone(context) as conn:
            require_ready(context, conn, Intent.MIGRATE)
            for spec in context.plan.tables:
                context.switchover(spec).require_own(conn)
            if not dry:
                mend_targets(conn, map(context.switchover, context.plan.tables))
            rendered = render_changes(conn, context.files, context.plan, context.run.began)
            if dry:
                print("\n".join(change.body for change in rendered))
                return DONE
            schema = schema_changes(context) if context.env.is_throwaway else []
            changes = [*schema, *(Change(change.name, change.body) for change in rendered)]
            changed = apply_changes(context, changes)
        context.run.note(f"{changed} changes applied" if changed else "no change")
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
                context.run.note(f"{spec.name}: {'switched' if prepared or switched else 'no change'}")
            if context.plan.traits.copies:
                reports = compare_all(context, "parity-after", self_test=True)
                context.run.attach("post_migration_parity.txt", parity_text(reports))
        return code_of(context)


def dry_run(context: Context) -> int:
    """Print every statement to come in a read-only session, and prove that nothing changed."""
    with context.session("dry run") as conn:
        acts = plan_read_only(conn, context.files, context.plan, context.run.began)
    print(dry_run_text(context.plan, acts, {}))
    context.run.note("nothing was changed: the transaction was read only, and PostgreSQL gave it no number")
    return DONE


def pause(target: Target, reason: str) -> int:
    """Pause the plan's copies and index builds, running or to come; a second pause changes nothing.

    It takes effect before the next chunk and the next index. Writes stay captured: the change log grows meanwhile.
    """
    with opened(target, "pause") as context, context.session("pause") as conn:
        require_mark(context, conn)
        changed = set_pause(conn, context.plan.name, reason)
        found = read_pause(conn, context.plan.name)
        context.run.note(f"{context.plan.name} {found}{'' if changed else '; no change'}")
    return DONE


def resume(target: Target) -> int:
    """Let the plan's copies and index builds go on; on a plan that is not paused, changes nothing."""
    with opened(target, "resume") as context, context.session("resume") as conn:
        require_mark(context, conn)
        changed = end_pause(conn, context.plan.name)
        context.run.note(f"{context.plan.name} goes on" if changed else "no change: it was not paused")
    return DONE


def roll_back(target: Target, *, whole: bool = False) -> int:
    """Take the switchover back: flags off (dual-write), names back (swap); nothing acknowledged is lost.

    `whole`: remove what was made for it too, from every state; the tables are what they were before `db.migrate`.
    """
    with opened(target, "rollback") as context:
        what = "rolled back, and everything that was made for the switchover removed" if whole else "rolled back"
        confirm(context.env, context.plan, yes=target.yes, what=what)
        with alone(context) as conn:
            if context.plan.traits.mirrors and has_ended(context, conn):
                return DONE
            require_ready(context, conn, Intent.ROLLBACK)
            for spec in context.plan.tables:
                context.switchover(spec).require_fit(conn, leaving=True)
            if context.plan.traits.mirrors and not take_flags_off(context):
                return FAILED
            for spec in context.plan.tables:
                done = roll_back_table(context.switchover(spec), conn)
                # Where flags decide, they have said already what changed.
                if done != NO_CHANGE or context.plan.traits.takes_name:
                    context.run.note(f"{spec.name}: {done}")
            if whole:
                require_ready(context, conn, Intent.CLEANUP)
                clean_up(context, conn, None if context.env.app_servers else "source")
    return DONE


def has_ended(context: Context, conn: Connection) -> bool:
    """Return whether the clean-up left the targets alone, and say so: flags must not lead back to what is no more.

    Raises:
        PreconditionError: it did so with some tables only, and has to go on with the others.
    """
    names = [split_name(spec.name) for spec in context.plan.tables]
    ended = [dotted(name) for name in names if state.is_ended(conn, name)]
    if ended and any(state.find_migration(conn, name) for name in names):
        message = (
            f"`./inv db.cleanup` was interrupted after it had ended {', '.join(ended)}, which cannot be taken back any "
            "more: run it again, it goes on with the others. Nothing was changed"
        )
        raise PreconditionError(message)
    if ended:
        context.run.note(f"no change: `./inv db.cleanup` ended {', '.join(ended)}; there is no rollback any more")
    return bool(ended)


def roll_back_table(work: Switchover, conn: Connection) -> str:
    """Take the switchover of one table back, or the preparation of one; return what was done."""
    before = state.find_migration(conn, work.names.source)
    if before is None:
        return "no change: no switchover of it is under way"
    if not work.roll_back():
        return NO_CHANGE
    if before.state not in work.strategy.switched:
        return "the switchover that was under way is given up; the table is as it was"
    after = state.find_migration(conn, work.names.source)
    if after is not None and after.state == state.FOLLOWING:
        return (
            "names are back; its target goes on following, so that `./inv db.switchover` need not copy again. "
            "`./inv db.cleanup` ends that"
        )
    return "names are back"


def take_flags_off(context: Context) -> bool:
    """Let every app server use the source again; return whether all of them do."""
    if not context.env.app_servers:
        context.run.note("the inventory has no app server: where the application has flags, take them off there")
        return True
    flip = set_flags(context.env, context.plan, reads=False, writes=False, run=context.run)
    if flip.ok:
        moved = sum(server.restarted for server in flip.servers)
        text = f"flags are off on {len(flip.servers)} app servers, {moved} restarted" if moved else "flags: no change"
        context.run.note(text)
    return flip.ok


def split(target: Target) -> int:
    """Split the history of every attached table into partitions of the plan's interval, while writers are at work.

    Raises:
        PreconditionError: a table is not attached.
    """
    with opened(target, "split") as context:
        confirm(context.env, context.plan, yes=target.yes, what="split")
        with alone(context) as conn:
            require_ready(context, conn, Intent.SPLIT)
            for spec in context.plan.tables:
                work = HistorySplit(context.switchover(spec))
                context.run.note(f"{spec.name}: {'split' if work.split() else 'no change'}")
    return DONE


def verify(target: Target) -> int:
    """Compare every pair exactly, under whatever load there is; prints the parity report, and values that repeat."""
    with opened(target, "verify") as context, context.session("verify") as conn:
        reports: list[ParityReport] = []
        codes: list[int] = []
        repeated: list[Duplicates] = []
        specs = [spec for spec in context.plan.tables if not state.is_ended(conn, split_name(spec.name))]
        if not specs:
            print("every table is partitioned, and nothing is kept to compare it with")
            return DONE
        if not context.plan.traits.copies:
            return look_at_history(context, conn, specs)
        for spec in specs:
            work = context.switchover(spec)
            report = work.compare(conn)
            reports.append(report)
            codes.append(judge_rows(context, spec.name, work.migration(conn).state, report))
            both = work.pair(conn)
            repeated += [found for found in find_duplicates(conn, context.files, *both, spec.key) if found.sets]
        print(parity_text(reports))
        for found in repeated:
            print(f"duplicates: {found.name}: {found.text()}")
        codes += [FAILED] * bool(repeated)
        return next((code for code in (FAILED, UNSEEN) if code in codes), DONE)


def look_at_history(context: Context, conn: Connection, specs: Sequence[TableSpec]) -> int:
    """Say where the rows are, which are in one place each; history that was split is compared with its partitions."""
    codes = [DONE]
    for spec in specs:
        work = context.switchover(spec)
        found = work.migration(conn)
        if found.state not in (state.ATTACHED, state.SPLIT):
            print(f"{spec.name}: {found.state}; every row is in the table itself")
            continue
        attached = Preparation(work).attached(conn)
        attached.refuse_duplicates(conn)
        print(f"{spec.name}: {attached.told(conn)}, no primary key twice")
        if work.keeps_two(conn):
            report = work.compare(conn)
            print(parity_text([report]))
            codes.append(judge_rows(context, spec.name, found.state, report))
    return next((code for code in (FAILED, UNSEEN) if code in codes), DONE)


def judge_rows(context: Context, table: str, found: str, report: ParityReport) -> int:
    """Return the exit code of a comparison. Before its copy has ended, a target may lack rows and hold no wrong one."""
    copied = found not in (state.PREPARED, state.COPYING)
    wrong = sum(count for kind, count in report.differences.items() if kind != "missing")
    if report.self_test is False or (not report.has_explanation if copied else wrong):
        return FAILED
    if not copied:
        text = f"{table} is {found}: its target may lack rows until `./inv db.switchover` has copied them"
        context.run.note(text)
    return UNSEEN if report.self_test is None or not copied else DONE
