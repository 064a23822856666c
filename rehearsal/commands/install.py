"""The verb `lifecycle.install`: a clock that makes and drops partitions by itself, without this program.

Three clocks: timers of systemd on hosts, jobs of pg_cron, and CronJobs of Kubernetes. The first and the last run the
same two SQL files (`templates/lifecycle/`); all do what the functions in the database decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rehearsal.commands.lifecycle import asked, save_text
from rehearsal.commands.session import DONE, FAILED, Target, keep_approval, opened
from rehearsal.errors import HostsFailed, UsageError
from rehearsal.hosts.clock import problems_of
from rehearsal.lifecycle.cron import CronJobs
from rehearsal.lifecycle.cronjob import manifest_of
from rehearsal.postgres.connection import Connection
from rehearsal.rehearse.clockwork import clock_of
from rehearsal.rehearse.context import Context, require_mark

VERB = "lifecycle-install"


@dataclass(frozen=True, slots=True)
class ClockWish:
    """What was typed: which clock, and what is to become of it."""

    clock: str = "systemd"
    dry: bool = False
    remove: bool = False
    save: str | None = None


def install(target: Target, wanted: ClockWish) -> int:
    """Bring a clock for the plan's database, or remove it; a second run changes nothing.

    With `dry` nothing is changed, and the exit code is 1 if anything would be. Locks: none on tables of the
    application.

    Raises:
        UsageError: the inventory has no host for timers; an option that the clock does not know.
        PreconditionError: nothing is adopted there; a right or an extension is missing.
        HostsFailed: a timer is not what it must be.
    """
    _require_options(wanted)
    if wanted.remove:
        # Also where nothing is looked after any more.
        with opened(target, VERB) as context, context.session("lifecycle.install") as conn:
            require_mark(context, conn)
            return CLOCKS[wanted.clock](context, conn, wanted)
    with asked(target, VERB, "lifecycle.install") as (context, conn, _policies):
        if not (wanted.dry or wanted.save):
            with conn.transaction():
                keep_approval(context, conn)
        return CLOCKS[wanted.clock](context, conn, wanted)


def _require_options(wanted: ClockWish) -> None:
    if wanted.clock == "kubernetes":
        if wanted.save is None or wanted.remove or wanted.dry:
            message = (
                "--clock kubernetes writes a manifest, which `kubectl apply -f` and `kubectl delete -f` take: say "
                "where by --save FILE, and leave --remove and --dry-run out"
            )
            raise UsageError(message)
    elif wanted.save is not None:
        message = f"--save belongs to --clock kubernetes; {wanted.clock} has no file"
        raise UsageError(message)


def _timers(context: Context, _conn: Connection, wanted: ClockWish) -> int:
    clock = clock_of(context)
    result = clock.bring(dry=wanted.dry, remove=wanted.remove)
    if wanted.dry:
        for host, operation in result.would_change:
            context.run.note(f"{host}: would change: {operation}")
        context.run.note(f"{len(result.would_change)} operations would change something")
        return FAILED if result.would_change else DONE
    context.run.note(f"{result.changed} operations changed something" if result.changed else "no change")
    if wanted.remove:
        return DONE
    timers = clock.look()
    if problems := problems_of(timers, clock.hosts):
        raise HostsFailed("; ".join(problems))
    for name, timer in timers.items():
        context.run.note(f"timer {name}: due {timer['next']}")
    return DONE


def _manifest(context: Context, conn: Connection, wanted: ClockWish) -> int:
    major = conn.info.server_version // 10_000
    place = context.env.database
    variables = {
        "PGHOST": place.host,
        "PGPORT": str(place.port),
        "PGDATABASE": place.name,
        "PGUSER": place.user,
        "PGSSLMODE": place.sslmode,
        **({"PGSSLROOTCERT": place.sslrootcert} if place.sslrootcert else {}),
    }
    text = manifest_of(context.root / "templates", context.plan.name, variables, major)
    save_text(Path(wanted.save or ""), text)
    context.run.note(f"written to {wanted.save}; make the secret that it names, then `kubectl apply -f {wanted.save}`")
    return DONE


def _cron(context: Context, conn: Connection, wanted: ClockWish) -> int:
    jobs = CronJobs(conn)
    jobs.require()
    if wanted.dry:
        names = jobs.there() if wanted.remove else jobs.missing()
        for name in names:
            context.run.note(f"would change: job {name} of pg_cron")
        context.run.note(f"{len(names)} jobs would change")
        return FAILED if names else DONE
    with conn.transaction():
        changed = [f"{jobs.remove()} jobs removed"] if wanted.remove else jobs.bring()
    context.run.note(", ".join(changed) if changed and changed != ["0 jobs removed"] else "no change")
    return DONE


CLOCKS: dict[str, Callable[[Context, Connection, ClockWish], int]] = {
    "systemd": _timers,
    "pg_cron": _cron,
    "kubernetes": _manifest,
}
