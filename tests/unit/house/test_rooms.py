"""The rooms of `rehearsal` and their floors: a file imports from its own floor or from below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FLOORS = (
    ("errors", "environment", "evidence", "variables", "limits", "verbs"),
    ("plan", "postgres"),
    ("catalog", "hosts", "synthetic", "verdict"),
    ("switchover", "lifecycle", "load", "application", "report", "terminal"),
    ("checks", "approval"),
    ("advisor", "rehearse"),
    ("commands",),
    ("cli", "__main__"),
)
# 110 until partitions after the switchover got a room of their own; 116 until an archive was proven by parity's digest,
# and what is dropped at a switchover took its policy along.
MAX_ROOMS, MAX_ARROWS = 30, 118
Arrow = tuple[str, str]


def arrows(root: Path) -> Iterator[Arrow]:
    """Yield who imports what within the package at `root`, wherever the import stands."""
    for path in sorted(root.rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{root.name}."):
                yield from ((module, name) for name in imported(root, node))


def imported(root: Path, node: ast.ImportFrom) -> Iterator[str]:
    """Yield the modules that a statement imports, or imports from."""
    base = (node.module or "").split(".")[1:]
    for alias in node.names:
        is_module = root.joinpath(*base, f"{alias.name}.py").is_file() or root.joinpath(*base, alias.name).is_dir()
        if found := [*base, alias.name] if is_module else base:
            yield ".".join(found)


def climbing(root: Path) -> set[Arrow]:
    """Return the imports that go up a floor, or to or from a room that has none."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found: set[Arrow] = set()
    for module, other in arrows(root):
        here, there = (floor.get(name.split(".")[0]) for name in (module, other))
        if module != "__init__" and (here is None or there is None or there > here):
            found.add((module, other))
    return found


def test_every_import_goes_down_or_stays() -> None:
    """Nothing climbs."""
    assert climbing(ROOT / "rehearsal") == set()


def test_an_import_up_a_floor_is_found(tmp_path: Path) -> None:
    """The witness: one import inside a function is enough, and so is a room that is on no floor."""
    package = tmp_path / "rehearsal"
    for room in ("postgres", "plan", "attic"):
        (package / room).mkdir(parents=True)
    (package / "plan" / "model.py").write_text("")
    (package / "postgres" / "connection.py").write_text(
        "def work():\n    from rehearsal.plan import model\n    from rehearsal.switchover.parity import compare\n"
    )
    (package / "attic" / "box.py").write_text("from rehearsal.errors import RehearsalError\n")

    assert climbing(package) == {("postgres.connection", "switchover.parity"), ("attic.box", "errors")}


def test_the_house_stays_small() -> None:
    """A figure is raised with a reason only."""
    package = ROOT / "rehearsal"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }
    between = {(module.split(".")[0], other.split(".")[0]) for module, other in arrows(package)}

    assert rooms == {room for floor in FLOORS for room in floor}
    assert len(rooms) <= MAX_ROOMS
    assert len({(here, there) for here, there in between if here != there}) <= MAX_ARROWS
