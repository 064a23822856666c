"""Timers in a rehearsal: brought to their hosts, and made to do what they will do alone once nobody looks.

Owns what must be seen of them. Where the inventory has no group `clock` there is none to rehearse, which is said.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rehearsal.errors import HostsFailed
from rehearsal.hosts.clock import Clock, problems_of
from rehearsal.rehearse.context import Context
from rehearsal.rehearse.looked_after import Care, Seen


def clock_of(context: Context) -> Clock:
    """Return the timers of the plan."""
    return Clock(context.env.inventory, context.plan, context.run, context.env.clocks)


@contextmanager
def brought(context: Context, clock: Clock) -> Generator[Seen]:
    """Bring the timers for the block; on hosts of others they go again, unless any was there before."""
    keep = True
    try:
        keep = context.env.is_throwaway or any(timer["enabled"] for timer in clock.look().values())
        clock.bring()
        seen = _again(clock)
    except HostsFailed as exc:
        seen = Seen(False, str(exc))
    try:
        yield seen
    finally:
        if not keep:
            clock.bring(remove=True)


def _again(clock: Clock) -> Seen:
    """Return what is seen of timers that were brought: a second time changes nothing, and each is due some time."""
    changed, timers = clock.bring().changed, clock.look()
    problems = problems_of(timers, clock.hosts)
    problems += [f"a second run changed {changed} things"] * bool(changed)
    due = "; ".join(f"{name} due {timer['next']}" for name, timer in timers.items())
    return Seen(not problems, "; ".join(problems) or f"installed and on, again: no change; {due}")


def rehearse_clock(context: Context, cares: list[Care]) -> list[tuple[str, Seen]]:
    """Return what was seen of the timers, of a leaf that they made and of leaves that they took, on one table."""
    clock = clock_of(context)
    if not clock.hosts:
        context.run.note("no timers are rehearsed: the inventory has no group `clock`")
        return []
    with brought(context, clock) as seen:
        found = [("timers", seen)]
        for care in [care for care in cares if care.key.tells_time][:1] if seen.passed else []:
            timed = care.by(clock.do)
            found += [
                (f"{care.spec.name} premake by its timer", timed.premake()),
                (f"{care.spec.name} retention by its timer", timed.retain()),
            ]
    return found
