"""The command line is declared once: parser and `./inv` are made of one table, and agree about each verb and option."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from invoke import Argument

from rehearsal import cli
from rehearsal.approval.acts import ACTS
from rehearsal.verbs.readme import BEGIN, END, render_table, written
from rehearsal.verbs.table import AS_TYPED, RENAMED, VERBS
from rehearsal.verbs.verb import Kind, Option, Verb
from tests.tasks_file import load_tasks_file

ROOT = Path(__file__).resolve().parents[3]
tasks_file = cache(load_tasks_file)
NAMES = [verb.name for verb in VERBS]
TASKS = [(verb, name) for verb in VERBS for name in (verb.name, verb.also) if name]
SAID = {Kind.TEXT: "said", Kind.NAME: "said", Kind.WORD: "said", Kind.WHOLE: "7", Kind.NUMBER: "0.5"}
READ = {**SAID, Kind.WHOLE: 7, Kind.NUMBER: 0.5}


# ---- one table, two readers --------------------------------------------------------------------------------------


def test_every_verb_has_work_and_a_class_and_nothing_is_left_over() -> None:
    """What is bound and what is declared are the same names."""
    assert set(cli.WORK) == set(NAMES)
    assert set(ACTS) == {verb.command for verb in VERBS}
    assert len({verb.command for verb in VERBS}) == len(VERBS)
    assert set(RENAMED.values()) <= set(NAMES)


@pytest.mark.parametrize("table", ["WORK", "ACTS"])
def test_a_verb_without_work_or_class_does_not_start(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """The mutants of the test above."""
    name = {"WORK": "db.cleanup", "ACTS": "cleanup"}[table]
    monkeypatch.delitem(getattr(cli, table), name)

    with pytest.raises(KeyError, match="cleanup"):
        cli.make_parser()


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_the_parser_takes_what_is_declared(verb: Verb) -> None:
    """Name by name: defaults, choices, what is required, what help says."""
    actions = {action.dest: action for action in parser_of(verb)._actions if action.dest != "help"}

    assert list(actions) == [option.dest for option in verb.options]
    for option in verb.options:
        action = actions[option.dest]
        assert tuple(action.option_strings) == (() if option.kind is Kind.WORD else (option.flag,))
        assert action.required == option.required
        assert tuple(action.choices or ()) == option.choices
        assert action.default == (False if option.kind is Kind.SWITCH else option.default)
        assert str(action.help) % {} == option.told


@pytest.mark.parametrize(("verb", "name"), TASKS, ids=[name for _, name in TASKS])
def test_the_tasks_offer_what_is_declared(verb: Verb, name: str) -> None:
    """But for what only programs say; what the parser demands is demanded here too, or filled in."""
    arguments: list[Argument] = deepcopy(tasks_file().namespace[name]).get_arguments()
    demanded = {option.name for option in verb.options if option.required}
    filled = set(tasks_file().FILLED_IN)

    assert [argument.name for argument in arguments] == [option.name for option in verb.options if not option.scripted]
    assert {argument.name for argument in arguments if argument.positional} == demanded - filled
    for argument, option in zip(arguments, verb.offered, strict=True):
        assert (argument.help, argument.default) == (option.told, None)
        assert (argument.kind is bool) == (option.kind is Kind.SWITCH)
        assert set(argument.names) == {option.name} | ({option.short} - {""})


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_what_is_given_arrives(verb: Verb) -> None:
    """What `./inv` passes on is read by the parser as what it is: all at once, and only those that are needed."""
    least = {option.name: said(option) for option in verb.options if option.required}
    whole = {option.name: said(option) for option in verb.options}

    for given in (least, whole):
        words = vars(cli.make_parser().parse_args([verb.command, *verb.words(given)]))
        for option in verb.options:
            assert words[option.dest] == (read(option) if option.name in given else default(option)), option.name


def test_the_tasks_are_the_verbs_and_three_of_their_own() -> None:
    """Witness of the tests above: nothing else can be typed."""
    assert set(tasks_file().namespace.task_names) == {name for _, name in TASKS} | {"check", "test", "bench"}


def test_a_module_of_commands_is_named_after_a_noun_or_verb_that_is_typed() -> None:
    """And each noun has one; `session` is what all of them begin with."""
    words = {word for verb in VERBS for word in verb.name.split(".")}
    modules = {path.stem for path in (ROOT / "rehearsal" / "commands").glob("*.py")} - {"__init__", "session"}

    assert modules <= words
    assert {verb.name.split(".")[0] for verb in VERBS if "." in verb.name} <= modules


def test_the_table_of_the_readme_is_written_from_the_verbs() -> None:
    """`python -m rehearsal.verbs.readme README.md` after a change; a second time changes nothing."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert written(text) == text
    assert render_table().count("\n| `./inv ") == len(VERBS)
    assert written(f"a\n{BEGIN}\nold\n{END}\nz") == f"a\n{BEGIN}\n{render_table()}\n{END}\nz"


# ---- what is typed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_a_verb_answers_to_both_its_names(verb: Verb) -> None:
    assert (
        cli.with_todays_verb([verb.name, "--x"]) == cli.with_todays_verb([verb.command, "--x"]) == [verb.command, "--x"]
    )


@pytest.mark.parametrize("name", [name for _, name in TASKS])
def test_help_of_every_verb_is_shown(name: str) -> None:
    code, text = inv("--help", name)

    assert (code, f"Usage: inv [--core-opts] {name} " in text) == (0, True), text
    assert all(f"--{argument.name}" in text for argument in tasks_file().namespace[name].get_arguments())


def test_what_was_given_as_an_empty_word_reaches_the_parser(children: Children) -> None:
    """Witness: what was not given does not, but for the plan, which is filled in."""
    first = tasks_file().PLANS[0]

    assert inv("db.rollback")[0] == 0
    assert inv("db.rollback", "--emergency", "", "--yes")[0] == 0
    assert inv("db.rollback", "--emergency", "a=b -c", "--plan", "x")[0] == 0
    assert children.typed == [
        ["rollback", f"--plan={first}"],
        ["rollback", f"--plan={first}", "--yes", "--emergency="],
        ["rollback", "--plan=x", "--emergency=a=b -c"],
    ]


def test_what_is_demanded_may_be_typed_without_its_name(children: Children) -> None:
    inv("flags.set", "on", "off", "--plan", "x")
    inv("explain", "ledger")

    assert children.typed == [["flags-set", "--plan=x", "--reads=on", "--writes=off"], ["explain", "ledger"]]


def test_hosts_are_those_of_docker_unless_another_environment_is_named() -> None:
    """As before, but for `hosts.down`, which stops what runs on this machine."""
    envs = {verb.name: {option.default for option in verb.options if option.name == "env"} for verb in VERBS}

    assert {name for name, default in envs.items() if default == {"docker"}} == {
        "hosts.up",
        "hosts.status",
        "hosts.ssh",
        "hosts.reset",
    }
    assert {name for name, default in envs.items() if not default} == {
        "plan.review",
        "report.open",
        "report.sign",
        "report.verify",
        "runbook",
        "gates",
        "explain",
    }


def test_all_plans_are_rehearsed_one_after_the_other_and_the_worst_verdict_counts(children: Children) -> None:
    """Wrong usage ends it at once; INCONCLUSIVE is better than NO-GO."""
    plans = tasks_file().PLANS
    assert len(plans) == 3

    for codes, worst in (([0, 0, 0], 0), ([0, 3, 0], 3), ([3, 1, 0], 1), ([0, 2], 2), ([4, 0, 0], 4)):
        children.typed, children.codes = [], list(codes)
        assert inv("rehearse", "--until", "data")[0] == worst
        assert children.typed == [["rehearse", f"--plan={plan}", "--until=data"] for plan in plans[: len(codes)]]


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        (["--resume", "20260101T000000Z-local-sensor_readings_attach"], "sensor_readings_attach"),
        (["--resume", "20260101T000000Z-local-sensor_readings-2"], "sensor_readings"),
        (["--resume", "20260101T000000Z-local-sensor_readings", "--plan", "hospitality"], "hospitality"),
        (["--plan", ""], ""),
    ],
)
def test_a_rehearsal_of_one_plan(children: Children, words: list[str], plan: str) -> None:
    """Named, or told by the run to go on with; a plan that is named as an empty word is not all of them."""
    assert inv("rehearse", *words)[0] == 0
    assert [found for found in children.typed[0] if found.startswith("--plan=")] == [f"--plan={plan}"]
    assert len(children.typed) == 1


# ---- as people do it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["db.rollback", "--emergency", ""], "error: an emergency has a reason, which is kept: --emergency REASON\n"),
        (
            ["db.rollback", "--emergency", " \t"],
            "error: an emergency has a reason, which is kept: --emergency REASON\n",
        ),
        (["rehearse", "--rows", "abc"], "./inv rehearse: error: argument --rows: invalid int value: 'abc'\n"),
        (["provision", "--env", ""], "./inv provision: error: argument --env: it is blank; "),
        (["flags.set", "on", "on", "--limit", ""], "./inv flags.set: error: argument --limit: it is blank; "),
        (["flags.set", "on", "maybe"], "./inv flags.set: error: argument --writes: invalid choice: 'maybe'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_happens(tmp_path: Path, words: list[str], wanted: str) -> None:
    """With exit code 2, in the words that were typed."""
    done = started("tasks.py", *words, runs=tmp_path / "runs")

    assert (done.returncode, wanted in done.stderr) == (2, True), done
    assert "rehearsal rehearse" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_usage_line_of_the_engine_names_the_engine(tmp_path: Path) -> None:
    """Witness of what is said above, and of the name that is typed at `./inv`."""
    for name in ("db.rollback", "rollback"):
        done = started("-m", "rehearsal", name, "--plan", "x", "--bogus", runs=tmp_path)
        assert (done.returncode, "usage: rehearsal " in done.stderr) == (2, True), done
    done = started("-m", "rehearsal", "rollback", runs=tmp_path)
    assert "usage: rehearsal rollback " in done.stderr


# ---- helpers -----------------------------------------------------------------------------------------------------


@dataclass
class Children:
    """What would have been started: the words after `python -m rehearsal`, and how each ends."""

    typed: list[list[str]] = field(default_factory=list[list[str]])
    codes: list[int] = field(default_factory=list[int])

    def start(self, *words: str, as_typed: str) -> int:
        """Keep the words; return the next exit code."""
        assert words[:2] == ("-m", "rehearsal")
        assert as_typed.startswith("./inv ")
        self.typed.append(list(words[2:]))
        return self.codes.pop(0) if self.codes else 0


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Nothing is started by `./inv`; what would have been is kept."""
    kept = Children()
    monkeypatch.setattr(tasks_file(), "_python", kept.start)
    return kept


def inv(*words: str) -> tuple[int, str]:
    """Type words after `./inv`, within this process; return exit code and what was said."""
    module, text = tasks_file(), io.StringIO()
    program = module.Wrapper(name="pg-rehearsal", binary="inv", namespace=module.namespace, version="0")
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            program.run(["inv", *words])
        except SystemExit as exc:
            return int(exc.code or 0), text.getvalue()
    return 0, text.getvalue()


def started(*words: str, runs: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of ours as a person's shell would."""
    variables = {name: value for name, value in os.environ.items() if name != AS_TYPED}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**variables, "REHEARSAL_RUNS": str(runs), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def parser_of(verb: Verb) -> argparse.ArgumentParser:
    """Return the parser of one verb."""
    actions = cli.make_parser()._actions
    choices = next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices
    found: dict[str, argparse.ArgumentParser] = dict(choices)
    return found[verb.command]


def said(option: Option) -> str | bool:
    """Return a value as it is typed."""
    return True if option.kind is Kind.SWITCH else (*option.choices, SAID[option.kind])[0]


def read(option: Option) -> object:
    """Return that value as the parser reads it."""
    return True if option.kind is Kind.SWITCH else (*option.choices, READ[option.kind])[0]


def default(option: Option) -> object:
    """Return what the parser has where nothing was given."""
    reads: dict[Kind, Callable[[str], object]] = {Kind.WHOLE: int, Kind.NUMBER: float}
    if option.kind is Kind.SWITCH:
        return False
    return None if option.default is None else reads.get(option.kind, str)(option.default)
