"""The command line: the only place that parses arguments, prints errors and decides exit codes.

Exit codes: 0 GO or done, 1 NO-GO or failed, 2 usage or plan error, 3 INCONCLUSIVE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from rehearsal.advisor.write import new_plan
from rehearsal.application.rollout import Rollout
from rehearsal.approval.acts import ACTS, act_of
from rehearsal.commands import cleanup, database, doctor, flags, hosts, load, provision, report
from rehearsal.commands.explain import explain, gates
from rehearsal.commands.session import Target
from rehearsal.errors import RehearsalError, UsageError
from rehearsal.postgres.connection import clear_error
from rehearsal.rehearse.run import Request, rehearse

ROOT = Path(__file__).resolve().parent.parent
EXIT_CODES = "exit codes: 0 GO or done, 1 NO-GO or failed, 2 usage or plan error, 3 INCONCLUSIVE"
AddCommand = Callable[..., argparse.ArgumentParser]
LEAST_ROWS = 1000
FLAG = {"on": True, "off": False}
# Verbs that were renamed: each answers to its old name for one version.
RENAMED = {"regrain": "split"}


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = make_parser().parse_args(renamed(sys.argv[1:] if argv is None else argv))
    try:
        code: int = words.work(words)
    except RehearsalError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    except psycopg.Error as exc:
        told = clear_error(exc, words.command)
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 3
    return code


def renamed(argv: list[str]) -> list[str]:
    """Return the words with the verb's name of today; an old one is said on stderr.

    >>> renamed(["verify", "--plan", "regrain"])
    ['verify', '--plan', 'regrain']
    """
    old = argv[0] if argv else ""
    if old not in RENAMED:
        return argv
    print(f"note: `{old}` is called `{RENAMED[old]}`; the old name ends with the next version", file=sys.stderr)
    return [RENAMED[old], *argv[1:]]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="rehearsal", epilog=EXIT_CODES, description="PostgreSQL partition switchovers, rehearsed"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_rehearse(commands.add_parser)
    _add_database(commands.add_parser)
    _add_rest(commands.add_parser)
    return parser


def _command(
    commands: AddCommand,
    name: str,
    text: str,
    work: Callable[[argparse.Namespace], int],
    *,
    plan: bool = True,
) -> argparse.ArgumentParser:
    parser = commands(name, help=text, description=text, epilog=EXIT_CODES)
    parser.set_defaults(work=work, act=ACTS[name])  # a verb without a class does not start
    if plan:
        parser.add_argument("--plan", required=True, help="name of a plan in plans/")
        parser.add_argument("--env", default="local", help="name of an inventory in inventories/ (default: local)")
        parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _add_rehearse(commands: AddCommand) -> None:
    parser = _command(commands, "rehearse", "rehearse a switchover from fresh hosts to a verdict", _rehearse)
    parser.add_argument("--rows", type=int, help="rows of the scaled tables together, instead of the plan's")
    parser.add_argument("--from", dest="start", metavar="PHASE", help="with --resume: repeat from this phase on")
    parser.add_argument("--until", metavar="PHASE", help="stop after this phase")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run of runs/")
    parser.add_argument("--keep", action="store_true", help="leave servers running at the end")
    parser.add_argument(
        "--dry-run", action="store_true", help="print every statement of the switchover, change nothing"
    )


def _rehearse(words: argparse.Namespace) -> int:
    if words.dry_run:
        return database.switchover(_target(words), dry=True)
    request = Request(words.env, _enough(words.rows), words.start, words.until, words.resume, words.yes, words.keep)
    return rehearse(ROOT, words.plan, request)


def _enough(rows: int | None) -> int | None:
    if rows is not None and rows < LEAST_ROWS:
        message = f"--rows {rows}: a rehearsal needs at least {LEAST_ROWS} rows"
        raise UsageError(message)
    return rows


def _target(words: argparse.Namespace) -> Target:
    options = vars(words)
    act = act_of(words.command, options)
    return Target(ROOT, words.plan, words.env, words.yes, act, options.get("emergency"))


def _add_database(commands: AddCommand) -> None:
    parser = _command(
        commands,
        "provision",
        "bring hosts, roles, database and app servers to the wanted state",
        lambda words: provision.provision(_target(words), dry=words.dry_run, fresh=words.fresh),
    )
    parser.add_argument("--fresh", action="store_true", help="drop the plan's database first (throwaway hosts only)")
    parser.add_argument("--dry-run", action="store_true", help="print what would change")
    parser = _command(commands, "data", "fill the plan's tables with production-like rows on throwaway hosts",
                      lambda words: provision.fill(_target(words), _enough(words.rows)))  # fmt: skip
    parser.add_argument("--rows", type=int, help="rows of the scaled tables together, instead of the plan's")
    _add_hosts(commands)
    parser = _command(commands, "migrate", "apply partitioned tables and triggers through the registry",
                      lambda words: database.migrate(_target(words), dry=words.dry_run))  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the SQL")
    _command(commands, "verify", "compare every pair of tables exactly", lambda words: database.verify(_target(words)))
    parser = _command(commands, "switchover", "copy, follow and switch every table of the plan",
                      lambda words: database.switchover(_target(words), dry=words.dry_run))  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print every statement, change nothing")
    _command(
        commands,
        "split",
        "split the history of attached tables into partitions of the plan's interval",
        lambda words: database.split(_target(words)),
    )
    parser = _command(commands, "rollback", "take the switchover back, losing nothing",
                      lambda words: database.roll_back(_target(words)))  # fmt: skip
    parser.add_argument("--emergency", metavar="REASON", help="needs no GO in production; the reason is kept")
    _command(
        commands,
        "cleanup",
        "drop the retired tables after the stable days",
        lambda words: cleanup.cleanup(_target(words)),
    )
    parser = _command(commands, "pause", "hold up the plan's copies and index builds, running or to come",
                      lambda words: database.pause(_target(words), words.reason))  # fmt: skip
    parser.add_argument("--reason", default="", help="shown to whoever watches the copy")
    _command(
        commands, "resume", "let paused copies and index builds go on", lambda words: database.resume(_target(words))
    )
    parser = _command(commands, "doctor", "find the known troubles and name their remedies",
                      lambda words: doctor.doctor(_target(words), fix=words.fix))  # fmt: skip
    parser.add_argument("--fix", action="store_true", help="perform the safe remedies")


def _add_hosts(commands: AddCommand) -> None:
    for verb, text in (
        ("up", "make the hosts of the environment docker, and start them"),
        ("status", "look at the hosts of the environment docker"),
        ("reset", "throw the hosts of the environment docker away and start them from their snapshots"),
    ):
        _command(commands, f"hosts-{verb}", text, _manage_hosts)
    parser = _command(commands, "hosts-down", "stop or remove what runs on this machine for local and docker",
                      lambda words: hosts.stop_hosts(_target(words), images=words.images))  # fmt: skip
    parser.add_argument("--images", action="store_true", help="remove the snapshots too")
    parser = _command(commands, "hosts-ssh", "log in to a host of the environment docker",
                      lambda words: hosts.log_in_to(_target(words), words.host, words.command_line))  # fmt: skip
    parser.add_argument("--host", default="db", help="name of the host (default: db)")
    parser.add_argument("--command", dest="command_line", default="", help="command to run there instead of a shell")


def _manage_hosts(words: argparse.Namespace) -> int:
    return hosts.manage_hosts(_target(words), str(words.command).removeprefix("hosts-"))


def _add_rest(commands: AddCommand) -> None:
    parser = _command(commands, "load", "run the plan's load and reconcile its ledger",
                      lambda words: load.run_load(_target(words), words.seconds, words.rate))  # fmt: skip
    parser.add_argument("--seconds", type=float, help="length (default: the plan's)")
    parser.add_argument("--rate", type=float, default=1.0, help="times the plan's rates (default: 1)")
    _command(
        commands,
        "flags-show",
        "show the routing flags of every app server",
        lambda words: flags.show_routing(_target(words)),
    )
    parser = _command(commands, "flags-set", "set the routing flags of the app servers, batch by batch",
                      _set_flags)  # fmt: skip
    parser.add_argument("--reads", choices=list(FLAG), required=True, help="read the partitioned tables")
    parser.add_argument("--writes", choices=list(FLAG), required=True, help="write the partitioned tables")
    parser.add_argument(
        "--limit", default="", metavar="NAMES", help="these app servers only, with commas; * stands for any"
    )
    parser.add_argument("--batch", default="1", help="servers at once, a number or a share like 25%% (default: 1)")
    parser.add_argument("--canary", type=int, default=0, help="servers that go first, as a batch of their own")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds until a server must be healthy (default: 30)"
    )
    parser = _command(commands, "plan-new", "write a first plan from a live table, with the reasons", _plan_new,
                      plan=False)  # fmt: skip
    parser.add_argument("--env", default="local", help="name of an inventory in inventories/ (default: local)")
    parser.add_argument("--table", required=True, help="schema-qualified name of the table")
    parser.add_argument("--name", default="", help="name of the plan (default: of the table)")
    parser.add_argument("--database", default="", help="database to look at (default: as the inventory says)")
    parser = _command(commands, "report-open", "open a report in a browser", _open, plan=False)
    parser.add_argument("--run", help="name of the run (default: the newest)")
    parser = _command(commands, "report-sign", "sign a report: name, date and fingerprint", _sign, plan=False)
    parser.add_argument("--run", help="name of the run (default: the newest)")
    parser.add_argument("--by", required=True, help="who signs")
    parser.add_argument("--accept", default="", metavar="REASON", help="sign although the verdict is not GO")
    parser = _command(
        commands, "report-verify", "check that a report and its evidence are as they were written", _verify, plan=False
    )
    parser.add_argument("--run", help="name of the run (default: the newest)")
    parser = _command(commands, "plan-review", "record a second person's review of a plan and its SQL", _review,
                      plan=False)  # fmt: skip
    parser.add_argument("--plan", required=True, help="name of a plan in plans/")
    parser.add_argument("--by", required=True, help="who reviewed it")
    parser.add_argument("--note", default="", help="what the reviewer says")
    _command(commands, "gates", "list all gates", _gates, plan=False)
    parser = _command(commands, "explain", "explain one gate or one finding", _explain, plan=False)
    parser.add_argument("name", help="id of the gate or of the finding")


def _set_flags(words: argparse.Namespace) -> int:
    names = tuple(one.strip() for one in words.limit.split(",") if one.strip())
    rollout = Rollout(names, words.canary, words.batch, words.timeout)
    reads, writes = FLAG[words.reads], FLAG[words.writes]
    return flags.set_routing(_target(words), reads=reads, writes=writes, rollout=rollout)


def _plan_new(words: argparse.Namespace) -> int:
    return new_plan(ROOT, words.env, words.table, name=words.name, database=words.database)


def _open(words: argparse.Namespace) -> int:
    return report.open_report(ROOT, words.run)


def _sign(words: argparse.Namespace) -> int:
    return report.sign_report(ROOT, words.run, words.by, accept=words.accept)


def _review(words: argparse.Namespace) -> int:
    return report.review_plan(ROOT, words.plan, words.by, words.note)


def _verify(words: argparse.Namespace) -> int:
    return report.verify_report(ROOT, words.run)


def _gates(_words: argparse.Namespace) -> int:
    print(gates(), end="")
    return 0


def _explain(words: argparse.Namespace) -> int:
    print(explain(words.name), end="")
    return 0
