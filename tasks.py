"""What `./inv` offers: the verbs of `rehearsal.verbs`, each a task, and what only whoever works on this needs.

Only argument lists and exit codes here; the work is in `python -m rehearsal`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from invoke import Argument, Collection, Context, Exit, Program, Task, task
from invoke.exceptions import ParseError

from rehearsal.verbs.table import AS_TYPED, RENAMED, VERBS
from rehearsal.verbs.verb import Kind, Option, Verb

ROOT = Path(__file__).resolve().parent
USAGE = 2
TESTS_FAILED = 1
PLANS = tuple(sorted(path.stem for path in (ROOT / "plans").glob("*.toml")))
# What is said for people who did not: a verb on a plan is for the first one.
FILLED_IN = {"plan": PLANS[0]}
Given = Mapping[str, str | bool | None]
# No short options: a typo of one letter must not mean something.
own = partial(task, auto_shortflags=False)


def _python(*words: str, as_typed: str = "") -> int:
    """Run a Python program of ours; Ctrl-C is the child's to handle."""
    child = subprocess.Popen([sys.executable, *words], cwd=ROOT, env={**os.environ, AS_TYPED: as_typed})
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _end(code: int) -> None:
    if code:
        raise Exit(code=code)


# ---- the verbs ---------------------------------------------------------------------------------------------------


class VerbTask(Task[Callable[..., None]]):
    """A verb as invoke has it: what was not given is None, and an empty text was given."""

    def __init__(self, verb: Verb, name: str) -> None:
        """Make the task of a verb, under one of its names."""
        self.verb = verb
        work = _rehearse if verb.name == "rehearse" else _once

        def body(_: Context, **given: str | bool | None) -> None:
            _end(work(verb, f"./inv {name}", given))

        super().__init__(body, name=name, positional=())
        self.__doc__ = f"{verb.help[0].upper()}{verb.help[1:]}."

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the options that are offered to people, as invoke wants them."""
        del ignore_unknown_help  # there is no help but that of the options
        return [_argument(option) for option in self.verb.offered]


def _argument(option: Option) -> Argument:
    return Argument(
        names=(option.name, *option.short),
        kind=bool if option.kind is Kind.SWITCH else str,  # the engine's parser reads numbers
        help=option.told,
        positional=option.required and option.name not in FILLED_IN,
    )


def _once(verb: Verb, as_typed: str, given: Given) -> int:
    said = {name: value for name, value in given.items() if value is not None}
    return _python("-m", "rehearsal", verb.command, *verb.words({**FILLED_IN, **said}), as_typed=as_typed)


def _rehearse(verb: Verb, as_typed: str, given: Given) -> int:
    """Rehearse one plan, or all of them one after the other; return the worst verdict of all."""
    codes: list[int] = []
    for plan in _chosen(given):
        codes.append(_once(verb, as_typed, {**given, "plan": plan}))
        if codes[-1] == USAGE:
            break
    # Usage error, NO-GO, INCONCLUSIVE, GO.
    return next((code for code in (USAGE, 1, 3) if code in codes), max(codes))


def _chosen(given: Given) -> tuple[str, ...]:
    """Return the plan that is named, by itself or by the run to go on with; all plans if none is."""
    plan, run = given.get("plan"), str(given.get("resume") or "")
    named = [plan for plan in PLANS if _is_of(run, plan)] if plan is None else [str(plan)]
    return tuple(named[:1]) or PLANS


def _is_of(run: str, plan: str) -> bool:
    return run.endswith(f"-{plan}") or f"-{plan}-" in run


def _add(namespace: Collection, verb: Verb, name: str) -> None:
    """Add a verb to the collection of its noun, which is made if it is the noun's first."""
    noun, _, short = name.rpartition(".")
    if noun and noun not in namespace.collections:
        namespace.add_collection(Collection(noun))
    place = namespace.collections[noun] if noun else namespace
    place.add_task(VerbTask(verb, name), name=short)


# ---- for whoever works on this -----------------------------------------------------------------------------------


def _given(**values: str) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value]


def _tested(*words: str) -> int:
    """Run tests; what failed is asked once more, by itself: a machine that was busy is told from a defect."""
    code = _python("-m", "pytest", *words)
    if code != TESTS_FAILED:
        return code
    return _python("-m", "pytest", "--last-failed", "--last-failed-no-failures", "none")


@own(
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
        _end(_python("-m", "tests.long", *_given(only=only)))
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


@own(
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
    words = _given(rows=rows, rounds=rounds, parts=parts, peers_up_to=peers_up_to, to=to)
    _end(_python("-m", "tests.bench", *words))


@own
def check(_: Context) -> None:
    """Check format, lint, types and import boundaries."""
    prose = [str(path) for path in sorted(ROOT.glob("*.md"))]
    spelling = ("codespell_lib", *prose, "docs", "rehearsal", "fleet", "sql")
    commands = (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",), ("pyright",), spelling)
    _end(max(_python("-m", *command) for command in commands))


namespace = Collection(test, bench, check)
for declared in VERBS:
    for typed in filter(None, (declared.name, declared.also)):
        _add(namespace, declared, typed)


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
