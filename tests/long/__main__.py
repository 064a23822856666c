"""Run the slices of the long tier, one after the other; what passed on this very tree is not run again.

    python -m tests.long [--only SLICE] [--list]

Exit code 0: every slice passed; 1: one failed; 2: there is no such slice. Output is kept in `build/long/`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.long.slices import Slice, all_slices
from tests.long.state import BUILD, PAGE, ROOT, Outcome, Progress, commit, tree, write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tests.long")
    parser.add_argument("--only", metavar="SLICE", help="this slice, even if it has passed")
    parser.add_argument("--list", action="store_true", help="name the slices")
    words = parser.parse_args(argv)
    slices = all_slices()
    if words.list:
        _say("\n".join(part.name for part in slices))
        return 0
    if words.only and words.only not in [part.name for part in slices]:
        _say(f"no slice {words.only}; the slices are: {', '.join(part.name for part in slices)}")
        return 2
    return run_all(slices, BUILD / tree(), PAGE, words.only)


def run_all(slices: Sequence[Slice], folder: Path, page: Path, only: str | None = None) -> int:
    """Run the slices that have not passed yet, or the only one; return 1 if one of those failed."""
    progress, failed = Progress(folder / "slices.jsonl"), 0
    for number, part in enumerate(slices, start=1):
        if part.name != (only or part.name):
            continue
        if progress.passed(part.name) and not only:
            _say(f"{number}/{len(slices)} {part.name}: passed before: {progress.outcomes[part.name].figures}")
            continue
        _say(f"{number}/{len(slices)} {part.name}: python {' '.join(part.words)}")
        outcome = run_slice(part, folder)
        progress.add(outcome)
        write_page(page, outcome, [each.name for each in slices])
        _say(f"  {'passed' if outcome.passed else 'FAILED'}: {outcome.figures}")
        failed |= not outcome.passed
    return int(failed)


def run_slice(part: Slice, folder: Path) -> Outcome:
    """Run a slice to its end; its output goes to the screen and to a file beside the state."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{re.sub(r'[^a-z0-9_]+', '-', part.name.lower())}.log"
    named, date, started = commit(), datetime.now(UTC), time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *part.words],
        cwd=ROOT,
        env={**os.environ, **part.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert child.stdout is not None
    lines: list[str] = []
    with child, log.open("w", encoding="utf-8") as file:
        for line in child.stdout:
            lines.append(line.strip())
            file.write(line)
            file.flush()
            sys.stdout.write(line)
            sys.stdout.flush()
    passed = child.returncode == 0
    return Outcome(part.name, f"{date:%Y-%m-%d}", named, int(time.monotonic() - started), passed, figures(part, lines))


def figures(part: Slice, lines: Sequence[str]) -> str:
    """Return what the slice said of itself: lines that match its pattern, else its last line."""
    found = [match for line in lines if (match := re.fullmatch(part.figures, line))]
    said = [next(group for group in match.groups() if group) for match in found]
    return "; ".join(said) or next((line for line in reversed(lines) if line), "nothing was said")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
