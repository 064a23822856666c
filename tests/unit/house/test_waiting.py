"""Tests wait by `eventually`, with a deadline; a loop without one hangs where it should fail, and burns a core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import eventually

TESTS = Path(__file__).resolve().parents[2]
# Loops that wait for nobody, and programs that cannot import this package. File and function, with the reason.
LOOPS = {
    "bench/ways.py: loop": "walks through a table, batch by batch",
    "fleet/relay.py: Relay._copy": "ends with the relay; each turn is bounded by the socket's timeout",
    "hosts/watcher.py: main": "runs by itself on a host until it is told to stop",
    "kills/driver.py: Driver._leg": "each life is bounded, and so are the failures",
    "kills/driver.py: Driver.run": "each journey is bounded; it goes on until enough was killed",
    "light_app.py: main": "an app: serves until it is killed",
    "local/stand_in.py: <module>": "an app that does not come up as long as a test wants so; its manager ends it",
    "unit/terminal/test_terminal.py: read_to_end": "reads a terminal to its end, in a thread whose test waits 5 s",
}
SLEEPS = {
    "bench/cared.py: lifecycle": "the latency before an act is what is measured",
    "bench/felt.py: stall": "the latency before a swap is what is measured",
    "hosts/watcher.py: main": "runs by itself on a host, beside what it watches",
    "kills/weapons.py: Arms.strike": "strikes at a random moment",
    "local/stand_in.py: <module>": "an app of its own",
    "waiting.py: eventually": "the one place",
}
Found = tuple[str, ast.AST]


def inside(node: ast.AST, place: str = "") -> Iterator[Found]:
    """Yield every node below with the dotted name of the function or class that it stands in."""
    for child in ast.iter_child_nodes(node):
        name = place
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{place}.{child.name}".lstrip(".")
        yield place or "<module>", child
        yield from inside(child, name)


def calls(node: ast.AST, *names: str) -> bool:
    """Return whether one of these methods is called anywhere within."""
    found = (call.func for call in ast.walk(node) if isinstance(call, ast.Call))
    return any(isinstance(node, ast.Attribute) and node.attr in names for node in found)


def is_bounded(loop: ast.While) -> bool:
    """Return whether a loop looks at the clock, or ends when a block of ours sets its event."""
    negated = (
        node.operand for node in ast.walk(loop.test) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )
    return calls(loop, "monotonic") or any(calls(node, "is_set", "wait") for node in negated)


def endless(root: Path) -> set[str]:
    """Return where loops stand that have no deadline."""
    return {where for where, node in _nodes(root) if isinstance(node, ast.While) and not is_bounded(node)}


def sleeping(root: Path) -> set[str]:
    """Return where somebody sleeps by the clock."""
    return {
        where
        for where, node in _nodes(root)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
    }


def _nodes(root: Path) -> Iterator[Found]:
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from ((f"{path.relative_to(root)}: {place}", node) for place, node in inside(tree))


def test_no_loop_waits_without_a_deadline() -> None:
    """A new one takes `eventually`, or stands in the list above with its reason; what is gone leaves the list."""
    assert endless(TESTS) == set(LOOPS)


def test_nobody_sleeps_where_a_condition_can_be_waited_for() -> None:
    assert sleeping(TESTS) == set(SLEEPS)


@pytest.mark.parametrize(
    ("loop", "is_found"),
    [
        ("while not scalar(conn, query):\n        pass", True),
        ("while True:\n        time.sleep(1)", True),
        ("while thread.is_alive():\n        thread.join(0.1)", True),
        ("while stop.is_set():\n        pass", True),
        ("while not stop.is_set():\n        pass", False),
        ("while not done.wait(0.1) and not seen():\n        pass", False),
        ("while time.monotonic() < deadline:\n        pass", False),
    ],
)
def test_a_loop_without_a_deadline_is_found(tmp_path: Path, loop: str, is_found: bool) -> None:
    """The mutants, in a method."""
    (tmp_path / "test_it.py").write_text(f"class A:\n  def test_it():\n    {loop}\n")

    assert endless(tmp_path) == ({"test_it.py: A.test_it"} if is_found else set())
    assert sleeping(tmp_path) == ({"test_it.py: A.test_it"} if "sleep" in loop else set())


def test_what_comes_about_is_returned_and_asked_for_no_more() -> None:
    answers = iter([None, 0, 7])
    assert eventually(lambda: next(answers), pause=0) == 7
    answers = iter([1, 2, 3, 4])
    assert eventually(lambda: next(answers), that=lambda number: number > 2, pause=0) == 3
    assert next(answers) == 4


def test_what_does_not_come_about_is_said_with_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"^not within 0\.01 s; seen last: \[\]$"):
        eventually(list, 0.01, pause=0.001)


def test_an_error_that_is_only_too_early_is_waited_out_and_any_other_ends_it() -> None:
    steps = iter([KeyError("early"), KeyError("early"), None])

    def look() -> bool:
        if step := next(steps):
            raise step
        return True

    assert eventually(look, not_yet=(KeyError,), pause=0)
    with pytest.raises(AssertionError, match=r"seen last: ZeroDivisionError"):
        eventually(lambda: 1 / 0, 0.01, not_yet=(ZeroDivisionError,), pause=0.001)
    with pytest.raises(ZeroDivisionError, match="by zero"):
        eventually(lambda: 1 / 0)


def test_waiting_in_vain_ends_at_once() -> None:
    """The reason is said, and the deadline is not waited for."""
    with pytest.raises(AssertionError, match=r"^it cannot come about any more: exit code 3; seen last: False$"):
        eventually(lambda: False, 3600, unless=lambda: "exit code 3")
