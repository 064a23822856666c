"""The seams are typed: evidence and events have fields, and nobody hands keys over that no class names."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.evidence.run import Run

PACKAGE = Path(__file__).resolve().parents[3] / "rehearsal"
NAMED = {"record": set(inspect.signature(Run.record).parameters), "event": set[str]()}
# What is written and read by others than the file that defines it; a dictionary of anything is no contract.
SEAMS = (
    "evidence/data.py",
    "evidence/events.py",
    "evidence/run.py",
    "report/numbers.py",
    "report/tables.py",
    "switchover/detail.py",
    "switchover/kept.py",
    "switchover/state.py",
)


def called(node: ast.Call) -> str:
    """Return the name of what is called, without what it belongs to."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def free_keywords(root: Path) -> Iterator[str]:
    """Yield where `record` or `event` is called by a name that its signature does not have, or by names made up."""
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (known := NAMED.get(called(node))) is not None:
                strange = [keyword.arg or "**" for keyword in node.keywords if keyword.arg not in known]
                starred = ["*" for argument in node.args if isinstance(argument, ast.Starred)]
                yield from (f"{path.name}:{node.lineno}: {name}" for name in [*strange, *starred])


def test_nothing_is_recorded_by_free_keywords() -> None:
    """Each key has a class that a reader can ask for."""
    assert list(free_keywords(PACKAGE)) == []


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("run.record('g', 's', True, 'seen', lost=3)", ["module.py:2: lost"]),
        ("run.record('g', 's', True, 'seen', **figures)", ["module.py:2: **"]),
        ("record(*all_of_it)", ["module.py:2: *"]),
        ("self.run.event('lock', held_ms=3)", ["module.py:2: held_ms"]),
        ("run.record('g', 's', passed=True, observed='seen', data=Held(3))", []),
    ],
)
def test_a_free_keyword_is_found(tmp_path: Path, call: str, found: list[str]) -> None:
    """The witness."""
    (tmp_path / "module.py").write_text(f"def work(run, figures):\n    {call}\n")

    assert list(free_keywords(tmp_path)) == found


@pytest.mark.parametrize("name", SEAMS)
def test_a_seam_says_what_it_holds(name: str) -> None:
    """`Any` would let a reader ask for what nobody writes."""
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))

    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Any"] == []
