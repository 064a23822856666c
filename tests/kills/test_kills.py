"""Kills at every step; the whole is `python -m tests.kills --kills 200`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.fix_postgres import ROOT
from tests.kills.mutants import MUTANTS
from tests.kills.world import JOURNEYS
from tests.writing import KINDS

pytestmark = pytest.mark.long
NOTHING = ("lost writes", "journeys whose tables differ", "manual repairs", "unclear errors", "leftovers")


def kill(*words: str) -> tuple[int, str]:
    """Run the driver; return its exit code and what it printed."""
    major = os.environ.get("REHEARSAL_TEST_MAJOR")
    command = [sys.executable, "-m", "tests.kills", *words, *(("--major", major) if major else ())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_killed_at_any_step_nothing_is_lost_or_left_over() -> None:
    """40 kills: the engine, a backend, the server; each next run goes on by itself, and every error is clear."""
    code, text = kill("--kills", "40")

    assert code == 0, text
    for what in NOTHING:
        assert f"{what}: 0" in text
    for strategy in JOURNEYS:
        assert f"| {strategy} / " in text
    written = {what: int(count) for count, what in re.findall(r"(\d+) (insert|update|move|delete)\b", text)}
    assert set(written) == set(KINDS)
    assert min(written.values()) > 0


@pytest.mark.parametrize("mutant", MUTANTS)
def test_an_engine_that_cannot_be_killed_safely_is_found(mutant: str) -> None:
    """The mutants are exact in peace, as the journey that the driver learns from shows; it ends with the first loss."""
    code, text = kill("--kills", "40", "--strategy", "swap", "--only", "copy", "--mutant", mutant)

    assert code == 1, text
    assert "journeys whose tables differ: 0" not in text
    assert "journey 1 (swap)" not in text
