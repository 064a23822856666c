"""The fingerprint of what a run does: one digest, and a digest of each part, so that a difference has a name.

Owns what belongs to it: plan, SQL, templates, code of engine and host layer, lock of the libraries. Tests, documents
and inventories do not: they change nothing that runs on a database of the plan. The major version of a server cannot
be known where a plan is reviewed, so a report carries it beside the fingerprint, and `go` compares it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rehearsal.hosts.pyinfra import PROJECT
from rehearsal.plan.model import Plan

LOCK = "requirements.lock"
CODE = ("rehearsal", "fleet", "tasks", "deploy.py")
# A package that was installed has no `tasks/` of ours beside it; what has that name there is somebody else's.
INSTALLED = ("rehearsal", "fleet")
KINDS = {"code": (".py",), "templates": (".j2", ".yml", ".yaml"), "sql": (".sql", ".sql.j2")}
SPOKEN = {
    "plan": "the plan",
    "sql": "the SQL",
    "templates": "the templates",
    "code": "the code of the tool",
    "lock": "the lock of its libraries",
}


class Fingerprint(str):
    """The digest of everything, as text; `parts` has the digest of each part."""

    __slots__ = ("parts",)

    parts: Mapping[str, str]

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> Fingerprint:
        """Return the fingerprint of parts, whatever their order.

        >>> Fingerprint.of({"a": "1", "b": "2"}) == Fingerprint.of({"b": "2", "a": "1"})
        True
        """
        made = cls(_sha256(f"{name}\0{parts[name]}\0".encode() for name in sorted(parts)))
        made.parts = dict(parts)
        return made


def take_fingerprint(plan: Plan, sql_folder: Path, project: Path | None = None) -> Fingerprint:
    """Return the fingerprint of a plan with these SQL texts and the tool in `project` (default: the one at work).

    Comments of the plan do not count; every byte of SQL and code does.
    """
    home = project or PROJECT
    return Fingerprint.of(
        {
            "plan": _sha256([plan.model_dump_json(by_alias=True).encode()]),
            "sql": _digest(sql_folder, ["."], KINDS["sql"]),
            "templates": _digest(home, ["templates"], KINDS["templates"]),
            "code": _digest(home, CODE if (home / "deploy.py").is_file() else INSTALLED, KINDS["code"]),
            "lock": _lock(home),
        }
    )


def parts_of(fingerprint: str) -> dict[str, str]:
    """Return the parts of a fingerprint; nothing for a text that never had any."""
    return dict(fingerprint.parts) if isinstance(fingerprint, Fingerprint) else {}


def name_differences(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return which parts differ, in words.

    >>> name_differences({"plan": "a", "code": "b"}, {"plan": "a", "code": "c"})
    'the code of the tool'
    >>> name_differences({"plan": "a", "code": "b"}, {})
    'the tool (it was another version, which kept no parts)'
    """
    if not theirs or not mine:
        return "the tool (it was another version, which kept no parts)"
    names = [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]
    return " and ".join(SPOKEN.get(name, name) for name in names) or "nothing"


def _digest(folder: Path, places: Iterable[str], endings: tuple[str, ...]) -> str:
    """Return the digest of the files with these endings, names included; what editors and Python leave is no part."""
    return _sha256(
        part
        for path in sorted(_files(folder, places, endings))
        for part in (path.relative_to(folder).as_posix().encode(), b"\0", path.read_bytes(), b"\0")
    )


def _files(folder: Path, places: Iterable[str], endings: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        start = folder / place
        found = [start] if start.is_file() else start.rglob("*")
        yield from (path for path in found if _belongs(path, endings))


def _belongs(path: Path, endings: tuple[str, ...]) -> bool:
    return path.name.endswith(endings) and not path.name.startswith(".") and path.is_file()


def _lock(home: Path) -> str:
    """Return the digest of the lock file; of the versions that are installed, where there is none."""
    path = home / LOCK
    if path.is_file():
        return _sha256([path.read_bytes()])
    found = {
        f"{distribution.metadata['Name']}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
    }
    return _sha256(f"{line}\n".encode() for line in sorted(found))


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
