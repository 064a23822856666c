"""How the application is led from one table to the other under load: by routing flags, or by an exchange of names."""

from __future__ import annotations

from rehearsal.application.flags import show_flags
from rehearsal.application.rollout import FlipResult, set_flags
from rehearsal.evidence.data import Flipped
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.locks import judge_locks
from rehearsal.rehearse.phase import StopHere


def route(context: Context, *, on: bool) -> None:
    """Set or take both flags on every server, once table and target are seen to fit, as `db.flags` and `db.rollback`.

    Raises:
        PreconditionError: one was altered; names it. No flag was touched.
    """
    with context.session("flags") as conn:
        for spec in context.plan.tables:
            context.switchover(spec).require_fit(conn, leaving=not on)
    require_flip(context, set_flags(context.env, context.plan, reads=on, writes=on, run=context.run))


def route_if_wanted(context: Context, *, on: bool) -> None:
    """Route where the flags decide which table is used; elsewhere there is nothing to set. Raises as `route`."""
    if context.plan.traits.mirrors:
        route(context, on=on)


def judge_move(context: Context, *, on: bool) -> None:
    """Judge how the application came to the other table: by flags that agree, or by what each lock held."""
    if context.plan.traits.mirrors:
        check_drift(context, expected=on)
    else:
        judge_locks(context)


def require_flip(context: Context, flip: FlipResult) -> None:
    """Record what a rolling flip did on each server; one that failed was reverted and stops the run."""
    for done in flip.servers:
        before, after = done.before.process or "unseen", (done.after.process if done.after else None) or "unseen"
        how = "restarted" if done.restarted else "not restarted, nothing to change"
        how = how if done.reverted is None else "put back" if done.reverted else "NOT PUT BACK"
        observed = f"{before} -> {after}, {how}, {done.seconds:.1f} s" + (f"; {done.error}" if done.error else "")
        passed = done.error is None and done.reverted is None
        context.run.record("flags", done.server, passed, observed, Flipped(done.seconds, str(flip.wanted)))
    for server in flip.untouched:
        context.run.record("flags", server, False, "not touched: the rollout stopped before it")
    if not flip.ok:
        context.run.record("flags", "the fleet", False, str(flip.error))
        raise StopHere


def check_drift(context: Context, *, expected: bool) -> None:
    """Compare flag file and process on every server: a fleet that disagrees is a NO-GO."""
    for flags in show_flags(context.env, context.plan):
        agrees = (
            flags.process is not None
            and flags.process.reads == flags.process.writes == expected
            and flags.drift is False
        )
        passed = None if flags.process is None else agrees
        context.run.record(
            "flags", f"{flags.server} file and process", passed, f"file {flags.file}, process {flags.process}"
        )
