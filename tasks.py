"""The names that people type. Only argument lists and exit codes here; the work is in `python -m rehearsal`."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

from invoke import Collection, Context, Exit, Program, task
from invoke.exceptions import ParseError

ROOT = Path(__file__).resolve().parent
USAGE = 2
TESTS_FAILED = 1
PLANS = tuple(sorted(path.stem for path in (ROOT / "plans").glob("*.toml")))
HELP = {
    "env": "environment: name of an inventory in inventories/",
    "plan": "plan: name of a file in plans/",
    "yes": "do not ask before a staging database is changed",
    "dry_run": "print what would be done, change nothing",
    "run": "name of a run in runs/ (default: the newest)",
}
# No short options: a typo of one letter must not mean something.
verb = partial(task, auto_shortflags=False)


def _python(*words: str, cwd: Path = ROOT) -> int:
    """Run a Python program of ours; Ctrl-C is the child's to handle."""
    child = subprocess.Popen([sys.executable, *words], cwd=cwd)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _end(code: int) -> None:
    if code:
        raise Exit(code=code)


def _rehearsal(verb: str, *words: str) -> None:
    _end(_python("-m", "rehearsal", verb, *words))


def _on(plan: str, env: str, *more: str, yes: bool = False) -> list[str]:
    return ["--plan", plan, "--env", env, *(["--yes"] if yes else []), *more]


def _flags(**values: bool | str | float | None) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (None, False, ""):
            words += [flag, str(value)]
    return words


@verb(
    help={
        "env": HELP["env"],
        "plan": "plan to rehearse (default: all, one after the other)",
        "rows": "rows of the scaled tables together, instead of the plan's",
        "from": "with --resume: repeat from this phase on",
        "until": "stop after this phase",
        "resume": "go on with this run of runs/",
        "dry_run": "print every statement of the switchover, change nothing",
        "yes": HELP["yes"],
        "keep": "leave servers running at the end",
    },
)
def rehearse(
    _: Context,
    env: str = "local",
    plan: str = "",
    rows: str = "",
    from_: str = "",
    until: str = "",
    resume: str = "",
    dry_run: bool = False,
    yes: bool = False,
    keep: bool = False,
) -> None:
    """Rehearse a switchover from fresh hosts to a verdict; exit code 0 GO, 1 NO-GO, 3 INCONCLUSIVE."""
    if not plan and resume:
        plan = next((one for one in PLANS if resume.endswith(f"-{one}") or f"-{one}-" in resume), "")
    codes: list[int] = []
    for one in [plan] if plan else PLANS:
        if USAGE in codes:
            break
        words = _flags(rows=rows, until=until, resume=resume, dry_run=dry_run, keep=keep, **{"from": from_})
        codes.append(_python("-m", "rehearsal", "rehearse", *_on(one, env, *words, yes=yes)))
    # The worst verdict of all plans: usage error, NO-GO, INCONCLUSIVE, GO.
    _end(next((code for code in (USAGE, 1, 3) if code in codes), max(codes)))


@verb(
    help={
        "env": HELP["env"],
        "plan": HELP["plan"],
        "dry_run": HELP["dry_run"],
        "fresh": "drop the plan's database first (throwaway hosts only)",
    },
)
def provision(_: Context, env: str = "local", plan: str = PLANS[0], dry_run: bool = False, fresh: bool = False) -> None:
    """Bring hosts, roles, database and app servers to the wanted state; a second run changes nothing."""
    _rehearsal("provision", *_on(plan, env, *_flags(dry_run=dry_run, fresh=fresh)))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "rows": "rows of the scaled tables together, not the plan's"})
def data(_: Context, env: str = "local", plan: str = PLANS[0], rows: str = "") -> None:
    """Fill the plan's tables with production-like rows, on throwaway hosts; a second run changes nothing."""
    _rehearsal("data", *_on(plan, env, *_flags(rows=rows)))


@verb(
    name="new",
    help={
        "env": HELP["env"],
        "table": "schema-qualified name of the table",
        "name": "name of the plan (default: of the table)",
        "database": "database to look at (default: as the inventory says)",
    },
)
def plan_new(_: Context, table: str, env: str = "local", name: str = "", database: str = "") -> None:
    """Write a first plan from a live table, with advice and its reasons; never overwrites one."""
    _rehearsal("plan-new", "--env", env, *_flags(table=table, name=name, database=database))


@verb(help={"env": HELP["env"]})
def up(_: Context, env: str = "docker") -> None:
    """Make the hosts of `docker`, with systemd, sshd and keys of their own; a second run changes nothing."""
    _rehearsal("hosts-up", *_on(PLANS[0], env))


@verb(help={"env": HELP["env"]})
def status(_: Context, env: str = "docker") -> None:
    """Look at the hosts of `docker`: address, state, SSH, snapshot; exit code 1 if one is not up."""
    _rehearsal("hosts-status", *_on(PLANS[0], env))


@verb(help={"env": HELP["env"]})
def reset(_: Context, env: str = "docker") -> None:
    """Throw the hosts of `docker` away and start them from their provisioned snapshots, in seconds."""
    _rehearsal("hosts-reset", *_on(PLANS[0], env))


@verb(help={"env": HELP["env"], "host": "name of the host, as in hosts.status", "command": "instead of a shell"})
def ssh(_: Context, env: str = "docker", host: str = "db", command: str = "") -> None:
    """Log in to a host of `docker` as root, by the environment's own key."""
    _rehearsal("hosts-ssh", *_on(PLANS[0], env, *_flags(host=host, command=command)))


@verb(help={"env": HELP["env"], "images": "docker: remove the snapshots of its hosts too"})
def down(_: Context, env: str = "local", images: bool = False) -> None:
    """Stop the servers of `local`, or remove the hosts of `docker`; `db.provision` starts or makes them again."""
    _rehearsal("hosts-down", *_on(PLANS[0], env, *_flags(images=images)))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "dry_run": HELP["dry_run"]})
def migrate(_: Context, env: str = "local", plan: str = PLANS[0], dry_run: bool = False) -> None:
    """Apply partitioned tables and triggers through the registry; a second run changes nothing."""
    _rehearsal("migrate", *_on(plan, env, *_flags(dry_run=dry_run)))


@verb(help={"env": HELP["env"], "plan": HELP["plan"]})
def verify(_: Context, env: str = "local", plan: str = PLANS[0]) -> None:
    """Compare every pair of tables exactly, under whatever load there is."""
    _rehearsal("verify", *_on(plan, env))


@verb(
    help={"env": HELP["env"], "plan": HELP["plan"], "dry_run": HELP["dry_run"], "yes": HELP["yes"]},
)
def switchover(_: Context, env: str = "local", plan: str = PLANS[0], dry_run: bool = False, yes: bool = False) -> None:
    """Copy, follow and switch every table of the plan; goes on where a killed run stopped."""
    _rehearsal("switchover", *_on(plan, env, *_flags(dry_run=dry_run), yes=yes))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "reason": "shown to whoever watches the copy"})
def pause(_: Context, env: str = "local", plan: str = PLANS[0], reason: str = "") -> None:
    """Hold up the plan's copies and index builds, running or to come, until `db.resume`."""
    _rehearsal("pause", *_on(plan, env, *_flags(reason=reason)))


@verb(help={"env": HELP["env"], "plan": HELP["plan"]})
def resume(_: Context, env: str = "local", plan: str = PLANS[0]) -> None:
    """Let paused copies and index builds go on."""
    _rehearsal("resume", *_on(plan, env))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "yes": HELP["yes"], "emergency": "reason; asks for no GO"})
def rollback(_: Context, env: str = "local", plan: str = PLANS[0], yes: bool = False, emergency: str = "") -> None:
    """Take the switchover back: flags off, or names back; nothing acknowledged is lost."""
    _rehearsal("rollback", *_on(plan, env, *_flags(emergency=emergency), yes=yes))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "yes": HELP["yes"]})
def split(_: Context, env: str = "local", plan: str = PLANS[0], yes: bool = False) -> None:
    """Split the history of tables of the strategy attach into partitions of the plan's interval."""
    _rehearsal("split", *_on(plan, env, yes=yes))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "yes": HELP["yes"]})
def cleanup(_: Context, env: str = "local", plan: str = PLANS[0], yes: bool = False) -> None:
    """Drop the retired tables after the plan's stable days and a last exact comparison."""
    _rehearsal("cleanup", *_on(plan, env, yes=yes))


@verb(
    name="run",
    help={
        "env": HELP["env"],
        "plan": HELP["plan"],
        "seconds": "length (default: the plan's)",
        "rate": "times the plan's rates",
    },
)
def load_run(_: Context, env: str = "local", plan: str = PLANS[0], seconds: str = "", rate: str = "1") -> None:
    """Run the plan's open-loop load and reconcile its ledger of acknowledged writes."""
    _rehearsal("load", *_on(plan, env, *_flags(seconds=seconds, rate=rate)))


@verb(help={"env": HELP["env"], "plan": HELP["plan"]})
def show(_: Context, env: str = "local", plan: str = PLANS[0]) -> None:
    """Show the routing flags of every app server, and where file, process, inventory and fleet disagree."""
    _rehearsal("flags-show", *_on(plan, env))


@verb(
    name="set",
    help={
        "env": HELP["env"],
        "plan": HELP["plan"],
        "reads": "on or off",
        "writes": "on or off",
        "limit": "these app servers only, with commas; * stands for any",
        "batch": "servers at once, a number or a share like 25%",
        "canary": "servers that go first, as a batch of their own",
        "timeout": "seconds until a server must be healthy",
    },
)
def set_(
    _: Context,
    reads: str,
    writes: str,
    env: str = "local",
    plan: str = PLANS[0],
    limit: str = "",
    batch: str = "1",
    canary: str = "0",
    timeout: str = "30",
) -> None:
    """Set the routing flags on app servers, batch by batch; all go back if one does not come up."""
    words = _flags(reads=reads, writes=writes, limit=limit, batch=batch, canary=canary, timeout=timeout)
    _rehearsal("flags-set", *_on(plan, env, *words))


@verb(help={"plan": HELP["plan"], "by": "who reviewed plan and dry_run.log", "note": "what the reviewer says"})
def review(_: Context, by: str, plan: str = PLANS[0], note: str = "") -> None:
    """Record a second person's review of a plan and its SQL as they are now; any change of them needs another."""
    _rehearsal("plan-review", "--plan", plan, *_flags(by=by, note=note))


@verb(name="open", help={"run": HELP["run"]})
def open_(_: Context, run: str = "") -> None:
    """Open a report in a browser and print its path."""
    _rehearsal("report-open", *_flags(run=run))


@verb(help={"run": HELP["run"], "by": "who signs", "accept": "reason to sign although the verdict is not GO"})
def sign(_: Context, by: str, run: str = "", accept: str = "") -> None:
    """Sign a report: name, date and fingerprint; an edited report no longer verifies."""
    _rehearsal("report-sign", *_flags(run=run, by=by, accept=accept))


@verb(name="verify", help={"run": HELP["run"]})
def verify_report(_: Context, run: str = "") -> None:
    """Check that a report, its evidence and its signature are as they were written."""
    _rehearsal("report-verify", *_flags(run=run))


@verb(help={"env": HELP["env"], "plan": HELP["plan"], "fix": "perform the safe remedies"})
def doctor(_: Context, env: str = "local", plan: str = PLANS[0], fix: bool = False) -> None:
    """Find the known troubles (trigger off, rows that differ, missing index) and name their remedies."""
    _rehearsal("doctor", *_on(plan, env, *_flags(fix=fix)))


@task
def gates(_: Context) -> None:
    """List all gates of the verdict; `explain GATE` says more of one."""
    _rehearsal("gates")


@task(help={"name": "id of a gate, or of a finding of preflight"})
def explain(_: Context, name: str) -> None:
    """Explain one gate or one finding: condition, effect, remedy."""
    _rehearsal("explain", name)


def _tested(*words: str) -> int:
    """Run tests; what failed is asked once more, by itself: a machine that was busy is told from a defect."""
    code = _python("-m", "pytest", *words)
    if code != TESTS_FAILED:
        return code
    return _python("-m", "pytest", "--last-failed", "--last-failed-no-failures", "none")


@verb(
    help={
        "only": "path or node id of tests; with --long: name of a slice",
        "major": "major version of the server to test on",
        "all": "the long ones too: whole rehearsals that are killed, a walk through all verbs",
        "long": "the tests of hours instead, slice by slice; goes on where it was killed, keeps docs/long-runs.md",
    },
)
def test(_: Context, only: str = "", major: str = "", all: bool = False, long: bool = False) -> None:  # noqa: A002
    """Run the tests on a real PostgreSQL of their own."""
    if major:
        os.environ["REHEARSAL_TEST_MAJOR"] = major
    if long:
        _end(_python("-m", "tests.long", *_flags(only=only)))
        return
    if only:
        _end(_python("-m", "pytest", only))
        return
    # Three workers, each with a cluster of its own, for tests wait a lot; then, one by one, what measures the machine.
    brief = "" if all else " and not long"
    # What takes long is seen in every log of CI before it takes too long.
    more = ("--durations=40",) if all else ()
    shared = _tested("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", *more, "-m", f"not alone{brief}")
    _end(max(shared, _tested(*more, "-m", f"alone{brief}")))


@verb(
    help={
        "rows": "rows of the table",
        "rounds": "times that each way is measured",
        "parts": "of whole,copy,attach,loops,partman,capture,stall,foreground,parity (default: all)",
        "peers_up_to": "leave the slow peers out above so many rows",
        "to": "file that the Markdown is written to as well",
    },
)
def bench(
    _: Context, rows: str = "1000000", rounds: str = "3", parts: str = "", peers_up_to: str = "1000000", to: str = ""
) -> None:
    """Measure a migration against the raw floor, the playbooks' loops and pg_partman, in one run."""
    words = _flags(rows=rows, rounds=rounds, parts=parts, peers_up_to=peers_up_to, to=to)
    _end(_python("-m", "tests.bench", *words))


@task
def check(_: Context) -> None:
    """Check format, lint, types and import boundaries."""
    prose = [str(path) for path in sorted(ROOT.glob("*.md"))]
    spelling = ("codespell_lib", *prose, "docs", "rehearsal", "fleet", "sql")
    commands = (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",), ("pyright",), spelling)
    _end(max(_python("-m", *command) for command in commands))


namespace = Collection(rehearse, provision, doctor, gates, explain, test, bench, check)
namespace.add_collection(
    Collection("db", provision, data, migrate, verify, switchover, pause, resume, rollback, split, cleanup)
)
namespace.add_collection(Collection("plan", plan_new, review))
namespace.add_collection(Collection("hosts", up, status, ssh, reset, down))
namespace.add_collection(Collection("load", load_run))
namespace.add_collection(Collection("flags", show, set_))
namespace.add_collection(Collection("report", open_, sign, verify_report))

RENAMED = {"db.regrain": "db.split"}


class Wrapper(Program):
    """What `./inv` runs: invoke, except that a mistyped command line ends with 2, as all usage errors do."""

    def normalize_argv(self, argv: list[str] | None) -> None:
        """Let a task that was renamed answer to its old name for one version."""
        super().normalize_argv(argv)
        for old in {word for word in self.argv if word in RENAMED}:
            sys.stderr.write(f"note: `{old}` is called `{RENAMED[old]}`; the old name ends with the next version\n")
        self.argv = [RENAMED.get(word, word) for word in self.argv]

    def parse_tasks(self) -> None:
        """Parse the names of tasks and their options."""
        try:
            super().parse_tasks()
        except ParseError as exc:
            message = f"error: {exc}; `./inv --list` has all tasks, `./inv --help TASK` the options of one"
            raise Exit(message, code=USAGE) from exc


if __name__ == "__main__":
    Wrapper(name="pg-rehearsal", binary="inv", namespace=namespace, version=version("pg-rehearsal")).run()
