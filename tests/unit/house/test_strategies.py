"""A strategy is an object: a plan may name what the registry has, and nobody else asks for a strategy's name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from rehearsal.plan.strategies import TRAITS, StrategyName
from rehearsal.switchover.strategies.base import Strategy
from rehearsal.switchover.strategies.registry import STRATEGIES
from rehearsal.verdict.gates import GATES

ROOT = Path(__file__).resolve().parents[3]
NAMES = frozenset(get_args(StrategyName))
# Where a strategy may be called by its name: its own room, the registry, what a plan may say, and the two catalogues,
# of gates and of findings, which are data about strategies.
AT_HOME = (
    "rehearsal/switchover/strategies/",
    "rehearsal/plan/strategies.py",
    "rehearsal/verdict/gates.py",
    "rehearsal/checks/preflight/catalogue/",
)


def comparisons(tree: ast.AST) -> Iterator[int]:
    """Yield the lines on which something is compared with a strategy's name: ==, in, a case, a lookup."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        if any(isinstance(node, ast.Constant) and node.value in NAMES for part in parts for node in ast.walk(part)):
            yield getattr(node, "lineno", 0)


def test_a_comparison_is_found_in_every_form() -> None:
    """The witness of the next test; a sentence that has the word in it is none."""
    for text in (
        'if plan.strategy == "swap": ...',
        'if "attach" != found.strategy: ...',
        'ready = strategy in ("swap", "dual-write")',
        'goal = {"swap": 1}[strategy]',
        'match strategy:\n    case "attach": ...',
    ):
        assert list(comparisons(ast.parse(text))), text
    assert not list(comparisons(ast.parse('raise ValueError("choose strategy swap")\nreturned = "swap"')))


def test_nobody_else_compares_with_a_strategys_name() -> None:
    """Who wants to know what a strategy does asks its traits, or the strategy itself."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("rehearsal", "fleet", "tasks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(AT_HOME)
        for line in comparisons(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def test_no_template_compares_with_a_strategys_name() -> None:
    """A template is told what to render."""
    quoted = re.compile(rf"['\"](?:{'|'.join(sorted(NAMES))})['\"]")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("sql", "templates")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and quoted.search(path.read_text(encoding="utf-8"))
    }
    # The layer of hosts reads plans by itself and knows no engine: which rights a swap alone needs is said there.
    assert found == {"sql/hosts/rights.sql"}


def test_a_plan_may_name_what_the_registry_has() -> None:
    """The three tables of strategies name the same ones; each strategy answers every member."""
    members = [name for name in vars(Strategy) if not name.startswith("_")]
    assert set(STRATEGIES) == set(TRAITS) == NAMES
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert [member for member in members if not hasattr(strategy, member)] == []
        assert strategy.locks
        assert strategy.switched


def test_gates_name_strategies_that_there_are() -> None:
    """Gates lie below the engine, so they keep names; a strategy more is asked for here."""
    assert {name for gate in GATES for name in gate.strategies} == NAMES


def test_strategies_do_not_import_one_another() -> None:
    """Each could be taken out alone."""
    home = ROOT / "rehearsal" / "switchover" / "strategies"
    folders = {path.name for path in home.iterdir() if path.is_dir() and path.name != "__pycache__"}
    for folder in folders:
        for path in (home / folder).rglob("*.py"):
            others = {f"strategies.{other}" for other in folders - {folder}} | {"strategies.registry"}
            text = path.read_text(encoding="utf-8")
            assert not [other for other in others if f"{other}." in text or f"{other} " in text], path
