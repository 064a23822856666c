"""The fingerprint: what belongs to it, what does not, and which part differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rehearsal.approval.fingerprint import Fingerprint, name_differences, parts_of, take_fingerprint
from rehearsal.plan.file import find_plan, load_plan
from rehearsal.plan.model import Plan

ROOT = Path(__file__).resolve().parents[3]
TOOL = ("rehearsal", "fleet", "tasks", "templates", "sql", "plans")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(find_plan("hospitality", ROOT))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of its own, which may be edited."""
    for name in TOOL:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy.py", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def take(project: Path, plan: Plan) -> Fingerprint:
    return take_fingerprint(plan, project / "sql", project)


def edit(name: str) -> Callable[[Path], None]:
    """Return an edit that adds a line to a file, or makes it."""

    def work(project: Path) -> None:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((path.read_bytes() if path.is_file() else b"") + b"# edited\n")

    return work


def test_it_is_the_same_over_checkouts(project: Path, plan: Plan) -> None:
    """The place of a checkout, and what Python and editors leave there, are no part of it."""
    assert take(project, plan) == take_fingerprint(plan, ROOT / "sql")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("rehearsal/switchover/strategies/swap/exchange.py", "code"),
        ("rehearsal/load/generator.py", "code"),
        ("fleet/operations.py", "code"),
        ("tasks/flags.py", "code"),
        ("deploy.py", "code"),
        ("rehearsal/added.py", "code"),
        ("templates/app.env.j2", "templates"),
        ("templates/hosts/partitions.rules.yml", "templates"),
        ("sql/switchover/strategies/swap/swap.sql.j2", "sql"),
        ("sql/registry.sql", "sql"),
        ("requirements.lock", "lock"),
    ],
)
def test_an_edit_makes_another_one_and_has_a_name(project: Path, plan: Plan, name: str, part: str) -> None:
    before = take(project, plan)

    edit(name)(project)

    after = take(project, plan)
    assert after != before
    assert [part for part, digest in after.parts.items() if digest != before.parts[part]] == [part]


@pytest.mark.parametrize(
    "name",
    [
        "rehearsal/__pycache__/exchange.cpython-311.pyc",
        "rehearsal/switchover/strategies/swap/exchange.py~",
        "rehearsal/.#exchange.py",
        "rehearsal/.exchange.py.swp",
        "sql/switchover/strategies/swap/swap.sql.j2.orig",
        "sql/switchover/strategies/swap/.swap.sql.j2",
        "tests/test_added.py",
        "docs/added.md",
        "inventories/production.py",
        "runs/added/report.json",
        "build/added.sql",
        "example_app/added.py",
    ],
)
def test_what_changes_nothing_that_runs_does_not_count(project: Path, plan: Plan, name: str) -> None:
    before = take(project, plan)

    edit(name)(project)

    assert take(project, plan) == before


def test_a_removed_or_renamed_file_counts(project: Path, plan: Plan) -> None:
    before = take(project, plan)
    (project / "rehearsal" / "postgres" / "turns.py").rename(project / "rehearsal" / "postgres" / "turned.py")
    renamed = take(project, plan)
    (project / "rehearsal" / "postgres" / "turned.py").unlink()

    assert len({before, renamed, take(project, plan)}) == 3


def test_what_the_plan_says_counts_and_its_comments_do_not(project: Path, plan: Plan) -> None:
    """What is run decides, not how the file looks."""
    source = find_plan("hospitality", ROOT)
    commented = project / "hospitality.toml"
    commented.write_text("# a comment\n" + source.read_text(encoding="utf-8"), encoding="utf-8")

    assert take(project, load_plan(commented)) == take(project, plan)
    assert take(project, plan.model_copy(update={"stable_days": 8})) != take(project, plan)


def test_an_installed_package_without_a_lock_has_one_too(tmp_path: Path, plan: Plan) -> None:
    """No `deploy.py` and no lock beside it: another's `tasks` in the same folder is not ours."""
    shutil.copytree(ROOT / "rehearsal", tmp_path / "rehearsal", ignore=shutil.ignore_patterns("__pycache__"))
    before = take_fingerprint(plan, ROOT / "sql", tmp_path)

    edit("tasks/other.py")(tmp_path)
    assert take_fingerprint(plan, ROOT / "sql", tmp_path) == before

    edit("rehearsal/switchover/strategies/swap/exchange.py")(tmp_path)
    assert take_fingerprint(plan, ROOT / "sql", tmp_path) != before
    assert len(before.parts["lock"]) == 64


def test_differences_are_named() -> None:
    mine = {"plan": "1", "sql": "1", "code": "1"}

    assert name_differences(mine, mine | {"sql": "2", "code": "2"}) == "the code of the tool and the SQL"
    assert name_differences(mine, {}).startswith("the tool")
    assert parts_of("a text of old") == {}
