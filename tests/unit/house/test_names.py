"""What a loop goes over is called what it is: a reader of `for index in table.indexes` need not look for the type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "rehearsal"
# Rooms in which nothing is called `one`; a room that is finished is added here.
ROOMS = (
    "advisor",
    "application",
    "approval",
    "catalog",
    "checks",
    "hosts",
    "load",
    "plan",
    "postgres",
    "switchover",
    "synthetic",
    "terminal",
    "verbs",
    "verdict",
)
NAMELESS = "one"


def targets(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what loops and comprehensions bind, and the fields of classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            yield node.target
        elif isinstance(node, ast.ClassDef):
            yield from (field.target for field in node.body if isinstance(field, ast.AnnAssign))


def nameless(root: Path, *rooms: str) -> list[str]:
    """Return the places where a loop, a comprehension or a class calls something `one`."""
    return [
        f"{path.relative_to(root).as_posix()}:{name.lineno}"
        for room in rooms
        for path in sorted(root.joinpath(room).rglob("*.py"))
        for target in targets(ast.parse(path.read_text(encoding="utf-8")))
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and name.id == NAMELESS
    ]


def test_rooms_are_there() -> None:
    """A room that was renamed would be looked at no more."""
    assert [room for room in ROOMS if not (ROOT / room).is_dir()] == []


def test_nothing_is_called_one() -> None:
    """Call it by what it is: `index`, `column`, `leaf`, `finding`."""
    assert nameless(ROOT, *ROOMS) == []


def test_a_nameless_thing_is_found(tmp_path: Path) -> None:
    """The witness: a loop, a pair in a comprehension and a field are seen; a number, and other rooms, are not."""
    room = tmp_path / "room"
    room.mkdir()
    text = """\
for one in indexes:
    print(one)
names = {one.name: place for place, one in enumerate(columns)}
class Composite:
    one: Reference
    other: Reference
one = 1
"""
    (room / "things.py").write_text(text)
    (tmp_path / "elsewhere.py").write_text(text)
    assert sorted(nameless(tmp_path, "room")) == ["room/things.py:1", "room/things.py:3", "room/things.py:5"]
