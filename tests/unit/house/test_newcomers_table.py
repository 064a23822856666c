"""What a newcomer opens: for one specimen of each kind of thing to add, the files that name it are those listed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAD = "| to add | files that name it | how many | seen on |"
WORD = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Row:
    """One kind of thing to add."""

    kind: str
    files: tuple[str, ...]
    count: int
    specimen: tuple[str, ...]


def rows(text: str) -> Iterator[Row]:
    """Read the table of ARCHITECTURE.md."""
    for line in text.partition(HEAD)[2].split("\n\n")[0].splitlines()[2:]:
        kind, files, count, specimen = (cell.strip() for cell in line.strip("|").split("|"))
        yield Row(kind, tuple(WORD.findall(files)), int(count), tuple(WORD.findall(specimen)))


def naming(package: Path, specimen: Iterable[str]) -> set[str]:
    """Return the files that name a specimen, by any of its texts."""
    words = tuple(specimen)
    texts = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    return {name for name, text in texts.items() if any(word in text for word in words)}


def unlike(row: Row, package: Path) -> list[str]:
    """Return what the table does not say of a row, or says wrongly."""
    found = naming(package, row.specimen)
    unlisted = [name for name in sorted(found) if not name.startswith(row.files)]
    idle = [name for name in row.files if not any(node.startswith(name) for node in found)]
    wrong = [] if row.count == len(row.files) else [f"says {row.count} of {len(row.files)}"]
    return [*unlisted, *(f"{name} does not name it" for name in idle), *wrong]


ROWS = tuple(rows((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=[row.kind for row in ROWS])
def test_each_row_is_true(row: Row) -> None:
    """No file is missing, none is listed in vain, and they are counted right."""
    assert unlike(row, ROOT / "rehearsal") == []


def test_the_table_is_whole() -> None:
    """All kinds that are asked for have a row."""
    wanted = {"a gate", "a phase", "a finding", "a key type", "a strategy", "a chapter", "an option", "a verb"}
    assert wanted <= {re.split(r" \(|,", row.kind)[0] for row in ROWS}


def test_a_row_that_is_not_true_is_found(tmp_path: Path) -> None:
    """The witness: one file too few, one in vain, a wrong number."""
    (tmp_path / "a.py").write_text('GATES = ("x",)')
    (tmp_path / "b.py").write_text('record("x")')
    assert unlike(Row("a gate", ("a.py", "c.py"), 3, ('"x"',)), tmp_path) == [
        "b.py",
        "c.py does not name it",
        "says 3 of 2",
    ]
