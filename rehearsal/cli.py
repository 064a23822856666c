"""The command line: the only place that parses arguments, prints errors and decides exit codes.

What can be typed is declared in `rehearsal.verbs`; here each verb is bound to what it works with.
Exit codes: 0 GO or done, 1 NO-GO or failed, 2 usage or plan error, 3 INCONCLUSIVE.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from rehearsal.application.rollout import Rollout
from rehearsal.approval.acts import ACTS, act_of
from rehearsal.approval.production import reason_of
from rehearsal.commands import (
    archive,
    cleanup,
    db,
    doctor,
    flags,
    hosts,
    install,
    lifecycle,
    load,
    plan,
    provision,
    report,
    runbook,
    status,
)
from rehearsal.commands.explain import explain, gates
from rehearsal.commands.session import DONE, Target
from rehearsal.errors import RehearsalError, UsageError
from rehearsal.postgres.connection import clear_error
from rehearsal.rehearse.run import Request, rehearse
from rehearsal.verbs.table import AS_TYPED, RENAMED, VERBS
from rehearsal.verbs.verb import Kind, Option, Verb, command_of

ROOT = Path(__file__).resolve().parent.parent
EXIT_CODES = "exit codes: 0 GO or done, 1 NO-GO or failed, 2 usage or plan error, 3 INCONCLUSIVE"
MIN_ROWS = 1000
FLAG = {"on": True, "off": False}
Words = argparse.Namespace


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = make_parser().parse_args(with_todays_verb(sys.argv[1:] if argv is None else argv))
    try:
        code: int = words.work(words)
    except RehearsalError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    except psycopg.Error as exc:
        told = clear_error(exc, words.verb)
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 3
    return code


# ---- what is typed -----------------------------------------------------------------------------------------------


def with_todays_verb(argv: list[str]) -> list[str]:
    """Return the words with the verb's name of today; an old one is said on stderr, that of `./inv` is taken too.

    >>> with_todays_verb(["verify", "--plan", "regrain"]), with_todays_verb(["db.verify"])
    (['verify', '--plan', 'regrain'], ['verify'])
    """
    if not argv:
        return argv
    name, today = argv[0], {command_of(old): command_of(new) for old, new in RENAMED.items()}
    if name in today:
        print(f"note: `{name}` is called `{today[name]}`; the old name ends with the next version", file=sys.stderr)
    spelled = {verb.name: verb.command for verb in VERBS}
    return [today.get(name) or spelled.get(name, name), *argv[1:]]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; a usage line names what was typed, also where `./inv` asks."""
    parser = argparse.ArgumentParser(
        prog="rehearsal", epilog=EXIT_CODES, description="PostgreSQL partition switchovers, rehearsed"
    )
    commands = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb in VERBS:
        prog = os.environ.get(AS_TYPED) or f"rehearsal {verb.command}"
        _fill(
            commands.add_parser(verb.command, help=verb.help, prog=prog, description=verb.help, epilog=EXIT_CODES), verb
        )
    return parser


def _fill(parser: argparse.ArgumentParser, verb: Verb) -> None:
    # A verb without a class, or with nothing bound to it, does not start.
    parser.set_defaults(work=WORK[verb.name], act=ACTS[verb.command])
    for option in verb.options:
        name = option.name if option.kind is Kind.WORD else option.flag
        parser.add_argument(name, help=option.told.replace("%", "%%"), **_takes(option))


def _takes(option: Option) -> dict[str, Any]:
    if option.kind is Kind.WORD:
        return {}
    if option.kind is Kind.SWITCH:
        return {"action": "store_true", "dest": option.dest}
    return {
        "dest": option.dest,
        "type": TYPES[option.kind],
        "default": option.default,
        "required": option.required,
        "choices": option.choices or None,
        "metavar": option.metavar or None,
    }


def _name(text: str) -> str:
    if not text.strip():
        message = "it is blank; name something, or leave the option out"
        raise argparse.ArgumentTypeError(message)
    return text


TYPES: dict[Kind, Callable[[str], Any]] = {Kind.TEXT: str, Kind.NAME: _name, Kind.WHOLE: int, Kind.NUMBER: float}


# ---- what it works with ------------------------------------------------------------------------------------------


def _target(words: Words) -> Target:
    options = vars(words)
    return Target(ROOT, words.plan, words.env, words.yes, act_of(words.verb, options), options.get("emergency"))


def _enough(rows: int | None) -> int | None:
    if rows is not None and rows < MIN_ROWS:
        message = f"--rows {rows}: a rehearsal needs at least {MIN_ROWS} rows"
        raise UsageError(message)
    return rows


def _rehearse(words: Words) -> int:
    if words.dry_run:
        return db.switchover(_target(words), dry=True)
    request = Request(words.env, _enough(words.rows), words.from_, words.until, words.resume, words.yes, words.keep)
    return rehearse(ROOT, words.plan, request)


def _provision(words: Words) -> int:
    return provision.provision(_target(words), dry=words.dry_run, fresh=words.fresh)


def _roll_back(words: Words) -> int:
    if words.emergency is not None:
        reason_of(words.emergency)  # refused before anything is opened
    return db.roll_back(_target(words), whole=words.whole)


def _set_flags(words: Words) -> int:
    names = tuple(name.strip() for name in (words.limit or "").split(",") if name.strip())
    if words.limit is not None and not names:
        message = f"--limit {words.limit!r} names no app server; leave it out for all of them"
        raise UsageError(message)
    rollout = Rollout(names, words.canary, words.batch, words.timeout)
    return flags.set_routing(_target(words), reads=FLAG[words.reads], writes=FLAG[words.writes], rollout=rollout)


def _adopt(words: Words) -> int:
    if words.archive and words.no_archive:
        message = "--archive and --no-archive say the opposite: give one of them"
        raise UsageError(message)
    archived = True if words.archive else False if words.no_archive else None
    said = lifecycle.Said(
        words.table,
        words.interval,
        words.retention,
        words.premake,
        words.hold,
        words.zone,
        words.epoch,
        words.forget,
        archived,
    )
    return lifecycle.adopt(_target(words), said)


def _retain(words: Words) -> int:
    if words.save is not None and words.apply is not None:
        message = "--save writes a decision, --apply does one: give one of them"
        raise UsageError(message)
    return lifecycle.retain(_target(words), dry=words.dry_run, save=words.save, apply=words.apply)


def _install(words: Words) -> int:
    wanted = install.ClockWish(words.clock, words.dry_run, words.remove, words.save)
    return install.install(_target(words), wanted)


def _archive(words: Words) -> int:
    if words.check and words.dry_run:
        message = "--check looks at files, --dry-run prints what would be done: give one of them"
        raise UsageError(message)
    return archive.archive(_target(words), words.to, check=words.check, dry=words.dry_run)


def _plan_new(words: Words) -> int:
    return plan.new_plan(ROOT, words.env, words.table, name=words.name or "", database=words.database or "")


def _shown(text: str) -> int:
    print(text, end="")
    return DONE


WORK: dict[str, Callable[[Words], int]] = {
    "rehearse": _rehearse,
    "db.provision": _provision,
    "db.data": lambda words: provision.fill(_target(words), _enough(words.rows)),
    "db.migrate": lambda words: db.migrate(_target(words), dry=words.dry_run),
    "db.status": lambda words: status.show_status(_target(words), as_json=words.json),
    "db.verify": lambda words: db.verify(_target(words)),
    "db.switchover": lambda words: db.switchover(_target(words), dry=words.dry_run),
    "db.rollback": _roll_back,
    "db.pause": lambda words: db.pause(_target(words), words.reason or ""),
    "db.resume": lambda words: db.resume(_target(words)),
    "db.split": lambda words: db.split(_target(words)),
    "db.cleanup": lambda words: cleanup.cleanup(_target(words), dry=words.dry_run, leads=words.leads),
    "lifecycle.adopt": _adopt,
    "lifecycle.status": lambda words: lifecycle.status(_target(words), as_json=words.json),
    "lifecycle.premake": lambda words: lifecycle.premake(_target(words), dry=words.dry_run),
    "lifecycle.retain": _retain,
    "lifecycle.install": _install,
    "lifecycle.archive": _archive,
    "lifecycle.restore": lambda words: archive.restore(_target(words), words.from_, attach=words.attach),
    "plan.new": _plan_new,
    "plan.review": lambda words: plan.review_plan(ROOT, words.plan, words.by, words.note or ""),
    "flags.show": lambda words: flags.show_routing(_target(words)),
    "flags.set": _set_flags,
    "load.run": lambda words: load.run_load(_target(words), words.seconds, words.rate),
    "hosts.up": lambda words: hosts.manage_hosts(_target(words), "up"),
    "hosts.status": lambda words: hosts.manage_hosts(_target(words), "status"),
    "hosts.ssh": lambda words: hosts.log_in_to(_target(words), words.host, words.command or ""),
    "hosts.reset": lambda words: hosts.manage_hosts(_target(words), "reset"),
    "hosts.down": lambda words: hosts.stop_hosts(_target(words), images=words.images),
    "doctor": lambda words: doctor.doctor(_target(words), fix=words.fix, leads=words.leads),
    "runbook": lambda words: runbook.write_runbook(ROOT, words.run, words.for_),
    "report.open": lambda words: report.open_report(ROOT, words.run),
    "report.sign": lambda words: report.sign_report(ROOT, words.run, words.by, accept=words.accept or ""),
    "report.verify": lambda words: report.verify_report(ROOT, words.run),
    "gates": lambda _words: _shown(gates()),
    "explain": lambda words: _shown(explain(words.name)),
}
