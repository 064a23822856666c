"""Each fault that was mended has a test, and a mutant that puts the old behaviour back and is caught."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NUMBERS = {
    "f": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 19, 20, 21, 23, 30),
    "s": (1, 2, 3, 4, 8),
    "v": (1, 7, 8, 9, 10, 11),
}
MENDED = {f"{kind}{number:02d}" for kind, numbers in NUMBERS.items() for number in numbers}
MARK = re.compile(r"mark\.fault\(((?:\"\w+\",? ?)+)(mutant=True)?\)")


def marked(*, mutants: bool) -> set[str]:
    """Return the ids that the tests' marks name, those of mutants or of the others."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    found = (re.findall(r"\w+", ids) for ids, mutant in MARK.findall(text) if bool(mutant) is mutants)
    return {name for names in found for name in names}


def test_each_fault_has_a_test_and_a_mutant() -> None:
    """Those that lack one are named."""
    assert {
        "without a test": sorted(MENDED - marked(mutants=False)),
        "without a mutant": sorted(MENDED - marked(mutants=True)),
    } == {"without a test": [], "without a mutant": []}
