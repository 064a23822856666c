"""The slices of the long tier: the drivers of this folder's neighbours, and each test that is marked `hours`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.long.state import ROOT

# What a test of pytest ends with, and what a test of hours prints by itself.
TESTED = r"=* ?(\d+ (?:passed|failed|error).*?) ?=*|figures: (.+)"
KILLED = r"(\d+ kills .+|(?:lost writes|journeys whose|manual repairs|unclear errors|leftovers).*: \d+)"
PLAYED = r"(\d+ histories.+)"


@dataclass(frozen=True)
class Slice:
    """One program: it ends with 0 if all is well, and prints its figures on lines that match the pattern."""

    name: str
    words: tuple[str, ...]
    figures: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])


DRIVERS = (
    Slice("kills", ("-m", "tests.kills", "--kills", "200"), KILLED),
    Slice("kills on 18", ("-m", "tests.kills", "--kills", "200", "--major", "18"), KILLED),
    Slice("histories", ("-m", "tests.histories", "--count", "500"), PLAYED),
    Slice("histories on 18", ("-m", "tests.histories", "--count", "500", "--major", "18"), PLAYED),
    Slice(
        "zoo on 18", ("-m", "pytest", "-m", "hours or not hours", "tests/zoo"), TESTED, {"REHEARSAL_TEST_MAJOR": "18"}
    ),
)


def all_slices() -> list[Slice]:
    """Return the drivers, then one slice for each test function that is marked `hours`."""
    major = os.environ.get("REHEARSAL_TEST_MAJOR")
    words = ("-m", "pytest", "-m", "hours", "-s")
    tests = [Slice(f"{node} on {major}" if major else node, (*words, node), TESTED) for node in _functions()]
    return [*DRIVERS, *tests]


def _functions() -> list[str]:
    # Its exit code is 5 where no test is marked so.
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "hours", "-p", "no:randomly"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode not in (0, 5):
        raise SystemExit(found.stdout + found.stderr)
    nodes = [line.split("[")[0] for line in found.stdout.splitlines() if "::" in line]
    return list(dict.fromkeys(nodes))
