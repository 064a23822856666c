"""A thing is called what it is, and by one name.

A reader of `for index in table.indexes` need not look for the type, one of `Watch` need not look at the import, and
what stands in a module is used by another, or by that one.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
ROOT = PROJECT / "rehearsal"
BESIDE = ("example_app", "fleet", "inventories", "tasks", "tests")
# Rooms in which nothing is called `one`; a room that is finished is added here.
ROOMS = (
    "advisor",
    "application",
    "approval",
    "catalog",
    "checks",
    "commands",
    "evidence",
    "hosts",
    "load",
    "plan",
    "postgres",
    "rehearse",
    "report",
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


def nameless_in_templates(root: Path, *folders: str) -> list[str]:
    """Return the places where a loop of a template calls something `one`."""
    return [
        f"{path.relative_to(root).as_posix()}:{number}"
        for folder in folders
        for path in sorted(root.joinpath(folder).rglob("*.j2"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(rf"{{%-?\s*(for|set)\s[^%]*\b{NAMELESS}\b(?=[^%]*\b(in|=)\b|\s*=)", line)
    ]


def test_rooms_are_there() -> None:
    """A room that was renamed would be looked at no more."""
    assert [room for room in ROOMS if not (ROOT / room).is_dir()] == []


def test_nothing_is_called_one() -> None:
    """Call it by what it is: `index`, `column`, `leaf`, `finding`."""
    assert nameless(ROOT, *ROOMS) == []
    assert nameless(PROJECT, *BESIDE) == []
    assert nameless_in_templates(PROJECT, "fleet", "sql", "templates") == []


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


def test_a_nameless_thing_in_a_template_is_found(tmp_path: Path) -> None:
    """The witness: loops, pairs and assignments are seen; a word of the text is not."""
    folder = tmp_path / "sql"
    folder.mkdir()
    text = """\
{% for one in indexes %}
{%- for place, one in pairs -%}
{% set one = 1 %}
-- only one in a while is there
{% for index in once %}{{ "one" }}{% endfor %}
"""
    (folder / "things.sql.j2").write_text(text)
    assert nameless_in_templates(tmp_path, "sql") == [f"sql/things.sql.j2:{number}" for number in (1, 2, 3)]


def classes(root: Path) -> dict[str, list[str]]:
    """Return where each class on the top level of a module stands, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(root).as_posix())
    return found


def test_a_class_has_its_name_for_itself() -> None:
    """Two classes of one name are told apart by their imports alone."""
    assert {name: places for name, places in classes(ROOT).items() if len(places) > 1} == {}


def test_two_classes_of_one_name_are_found(tmp_path: Path) -> None:
    """The witness; one that is private to its module may share its name."""
    (tmp_path / "first.py").write_text("class Watch: ...\nclass _Tally: ...\n")
    (tmp_path / "second.py").write_text("class Watch: ...\nclass _Tally: ...\n")
    assert classes(tmp_path) == {"Watch": ["first.py", "second.py"]}


PRODUCT = ("rehearsal", "fleet", "tasks", "example_app", "sql", "templates")
# Used by tests alone, and why.
KEPT = {
    "connect_as_application": "tests play the application with it, as the load does with `as_application`",
    "leaf_statements": "whoever makes a leaf later asks for it; no verb of ours makes one yet",
}


def unused(root: Path) -> set[str]:
    """Return the functions and classes of the engine that nothing in the product names but their definition."""
    paths = [*root.glob("*.py")]
    paths += [path for folder in PRODUCT for path in root.joinpath(folder).rglob("*") if path.suffix in (".py", ".j2")]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    words = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    return {
        node.name
        for path, text in texts.items()
        if path.suffix == ".py" and path.is_relative_to(root / "rehearsal")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("__") and words[node.name] == 1
    }


def test_nothing_is_there_for_tests_alone() -> None:
    """What only a test calls is maintained for nobody; what is kept all the same has its reason above."""
    assert unused(ROOT.parent) == set(KEPT)


def test_dead_wood_is_found(tmp_path: Path) -> None:
    """The witness: a function that nobody names is found, one that another calls is not."""
    tmp_path.joinpath("rehearsal").mkdir()
    (tmp_path / "rehearsal" / "things.py").write_text("def dead() -> None: ...\ndef alive() -> None: ...\n")
    (tmp_path / "tasks.py").write_text("alive()\n")
    assert unused(tmp_path) == {"dead"}
