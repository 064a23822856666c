"""What the documents say exists; what exists is documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from invoke import Argument
from invoke.collection import Collection
from invoke.tasks import Task

from rehearsal.cli import main, with_todays_verb
from rehearsal.verdict.gates import GATES
from tests.tasks_file import load_tasks_file

ROOT = Path(__file__).resolve().parents[2]
tasks_file = cache(load_tasks_file)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
COMMAND = re.compile(r"(?:\./inv|invoke) ([a-z][a-z.-]*)([^\n`#;&|]*)")
OPTION = re.compile(r"(?<!\S)--([a-z][a-z-]*)")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
HELP = Path(__file__).with_name("help.txt")


@cache
def tasks() -> dict[str, Task[Any]]:
    """Return all tasks by the name that people type."""
    namespace: Collection = tasks_file().namespace
    return {name: namespace[name] for name in namespace.task_names}


def options(task: Task[Any]) -> set[str]:
    """Return the options of a task, as they are typed."""
    return {name for argument in arguments(task) for name in argument.names}


def arguments(task: Task[Any]) -> list[Argument]:
    """Return the arguments of a task; of a copy, for invoke takes their texts out of a task when it is asked."""
    return deepcopy(task).get_arguments()


def commands() -> list[tuple[str, str, str]]:
    """Return every command of the documents: page, task, the rest of its line."""
    return [
        (page.name, found[1], found[2])
        for page in PAGES
        for found in COMMAND.finditer(page.read_text(encoding="utf-8"))
    ]


def test_the_documents_name_commands() -> None:
    """Witness: the search below finds something."""
    named = {task for _, task, _ in commands()}
    assert {"rehearse", "test", "report.sign", "db.switchover"} <= named


@pytest.mark.parametrize(("page", "task", "rest"), commands())
def test_every_command_of_a_document_exists_with_its_options(page: str, task: str, rest: str) -> None:
    assert task in tasks(), f"{page} names ./inv {task}"
    assert set(OPTION.findall(rest)) <= options(tasks()[task]) | {"help"}, f"{page}: ./inv {task}{rest}"


def test_every_task_says_what_it_does_and_what_each_option_means() -> None:
    assert len(tasks()) > 15
    for name, task in tasks().items():
        assert (task.__doc__ or "").strip().endswith("."), name
        assert all(argument.help for argument in arguments(task)), name


def test_every_task_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in tasks() if name not in text] == []


def test_every_gate_has_its_page_and_no_page_is_left_over() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "gates").glob("*.md")} - {"README"}
    assert pages == {gate.id for gate in GATES}


def test_links_of_the_documents_lead_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))]
    assert links
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_help_is_as_it_was_read_last() -> None:
    """The table of contents of the engine; `python -m rehearsal --help >tests/docs/help.txt` after a change."""
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == HELP.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["rehearse"], ["nonsense"], []])
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_a_verb_that_was_renamed_answers_to_its_old_name_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    """Witness: today's name gets no note, and what is no verb is left as it is."""
    assert with_todays_verb(["regrain", "--plan", "regrain"]) == ["split", "--plan", "regrain"]
    assert capsys.readouterr().err == "note: `regrain` is called `split`; the old name ends with the next version\n"
    assert with_todays_verb(["split", "--plan", "regrain"]) == ["split", "--plan", "regrain"]
    assert capsys.readouterr().err == ""


def test_a_task_that_was_renamed_answers_to_its_old_name_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    """Witness: today's name gets no note."""
    program = tasks_file().Wrapper(namespace=tasks_file().namespace)
    program.normalize_argv(["inv", "db.regrain", "--yes"])
    assert program.argv == ["inv", "db.split", "--yes"]
    assert (
        capsys.readouterr().err == "note: `db.regrain` is called `db.split`; the old name ends with the next version\n"
    )
    program.normalize_argv(["inv", "db.split"])
    assert (program.argv, capsys.readouterr().err) == (["inv", "db.split"], "")
    assert set(tasks_file().RENAMED.values()) <= set(tasks())
