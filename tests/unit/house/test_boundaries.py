"""The layers: who may import what. Files and tables are the seam, not imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FORBIDDEN = {
    "rehearsal": {"pyinfra", "pyinfra_cli", "gevent", "invoke", "docker", "testinfra", "fleet", "example_app"},
    "fleet": {"rehearsal", "psycopg", "invoke", "example_app"},
    "tasks": {"rehearsal", "psycopg", "invoke", "example_app"},
    "inventories": {"rehearsal", "psycopg", "invoke", "example_app"},
    "deploy.py": {"rehearsal", "psycopg", "invoke", "example_app"},
    "example_app": {"rehearsal", "fleet", "pyinfra", "invoke"},
    "tasks.py": {"rehearsal", "fleet", "pyinfra", "psycopg", "example_app"},
}
# What is data only, and may be read across a boundary: the verbs of the command line are declared once.
ALLOWED = {"tasks.py": {"rehearsal.verbs"}}


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level package of every import in a file, wherever it stands."""
    yield from (module.partition(".")[0] for module in modules(path))


def modules(path: Path) -> Iterator[str]:
    """Yield the module of every import in a file, as it is written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def violations(root: Path) -> list[str]:
    """Return every forbidden import below `root`."""
    found: list[str] = []
    for layer, forbidden in FORBIDDEN.items():
        place = root / layer
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            names = [module.partition(".")[0] for module in modules(path) if not is_allowed(layer, module)]
            found += [f"{path.relative_to(root)} imports {name}" for name in names if name in forbidden]
    return found


def is_allowed(layer: str, module: str) -> bool:
    """Return whether a layer may read a module of a package that it must not know otherwise."""
    return any(f"{module}.".startswith(f"{name}.") for name in ALLOWED.get(layer, ()))


def test_no_layer_imports_what_it_must_not_know() -> None:
    """The engine knows no host tool, the host layer knows no engine."""
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("layer", "name"), [("rehearsal", "pyinfra"), ("fleet", "rehearsal"), ("example_app", "fleet")]
)
def test_a_forbidden_import_is_found(tmp_path: Path, layer: str, name: str) -> None:
    """The mutant: one import inside a function is enough."""
    folder = tmp_path / layer
    folder.mkdir()
    (folder / "module.py").write_text(f"def work():\n    from {name}.part import thing\n    return thing\n")

    assert violations(tmp_path) == [f"{layer}/module.py imports {name}"]


def test_of_the_engine_the_tasks_may_read_the_verbs_only(tmp_path: Path) -> None:
    """The mutant: a neighbour of the verbs, under a name that begins like theirs."""
    path = tmp_path / "tasks.py"
    path.write_text(
        "from rehearsal.verbs.table import VERBS\nfrom rehearsal.verbs_too import x\nimport rehearsal.cli\n"
    )

    assert violations(tmp_path) == ["tasks.py imports rehearsal"] * 2


def test_the_verbs_import_nothing_but_themselves() -> None:
    """Whoever reads them waits for nothing."""
    files = sorted((ROOT / "rehearsal" / "verbs").glob("*.py"))
    others = {module for path in files for module in modules(path) if not module.startswith("rehearsal.verbs.")}
    assert others
    assert {module.partition(".")[0] for module in others} <= sys.stdlib_module_names


def test_tasks_is_no_package() -> None:
    """With an `__init__.py` in it, `import tasks` would mean the folder and not tasks.py."""
    assert not (ROOT / "tasks" / "__init__.py").exists()
