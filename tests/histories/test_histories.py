"""Random histories; the whole is `python -m tests.histories --count 500`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fix_postgres import ROOT
from tests.histories.mutants import MUTANTS

pytestmark = pytest.mark.long


def play(*words: str) -> tuple[int, str]:
    """Play histories; return the exit code and what was printed."""
    major = os.environ.get("REHEARSAL_TEST_MAJOR")
    command = [sys.executable, "-m", "tests.histories", *words, *(("--major", major) if major else ())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_random_histories_end_with_equal_tables() -> None:
    """Both strategies; both tables hold what was acknowledged; witnesses: conflicts."""
    code, text = play("--count", "8")

    assert code == 0, text
    assert "8 histories, 0 with differences" in text
    for what in ("refused 40001", "refused 23505", "refused 55006"):
        assert what in text


# It takes most histories to meet, and minutes: here are the others.
RARE = "no-guard"


@pytest.mark.parametrize(
    "mutant", [pytest.param(mutant, marks=pytest.mark.hours if mutant == RARE else ()) for mutant in MUTANTS]
)
def test_an_engine_that_is_not_exact_is_found(mutant: str) -> None:
    """The mutants: each is found within a hundred histories, but for the rarest within what runs in CI."""
    code, text = play("--count", "100", "--mutant", mutant)

    assert code == 1, text
    assert "1 with differences" in text
