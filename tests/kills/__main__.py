"""Kill switchovers and say what came of it.

    python -m tests.kills --kills 200 [--seed N] [--strategy swap] [--major 18]

Exit code 0: nothing lost, nothing to repair, nothing left over, every error clear; 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kills.driver import Driver, Report
from tests.kills.mutants import MUTANTS
from tests.kills.weapons import KINDS, Arms, start_cluster
from tests.kills.world import JOURNEYS


def text_of(report: Report, seconds: float) -> str:
    """Return the report: kills by step and kind, then what must be nothing."""
    rows: dict[tuple[str, str, str], Counter[str]] = {}
    for (strategy, leg, step, kind), count in report.kills.items():
        rows.setdefault((strategy, leg, step), Counter())[kind] += count
    short = [text.replace(" ", "\u00a0") for text in KINDS]
    lines = ["| step | " + " | ".join(short) + " | all |", "| --- |" + " ---: |" * (len(KINDS) + 1)]
    order = [(s, leg.name, step) for s, legs in JOURNEYS.items() for leg in legs for step in leg.order]
    for key in order:
        if found := rows.get(key):
            cells = " | ".join(str(found[kind] or "") for kind in KINDS)
            lines.append(f"| {' / '.join(key)} | {cells} | {found.total()} |")
    lines += ["", f"{report.kills.total()} kills in {report.journeys} journeys, {seconds:.0f} s"]
    lines.append("writes: " + ", ".join(f"{count} {what}" for what, count in sorted(report.writes.items())))
    lines.append("told at the end of a life: " + ", ".join(f"{n} {error}" for error, n in report.errors.most_common()))
    for title, told in (
        ("lost writes", report.lost),
        ("journeys whose tables differ", report.differing),
        ("manual repairs", report.repairs),
        ("unclear errors", report.unclear),
        ("leftovers", report.leftovers),
    ):
        lines += [f"{title}: {len(told)}", *(f"  {text}" for text in told[:20])]
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strategy", choices=list(JOURNEYS), action="append")
    parser.add_argument("--major", type=int)
    parser.add_argument("--only", metavar="STEP", help="kill in this step only")
    parser.add_argument("--mutant", choices=list(MUTANTS), help="put a defect in; the report must not be clean")
    words = parser.parse_args()
    base, chance = Path(tempfile.mkdtemp(prefix="pgr-kills-")), random.Random(words.seed)
    cluster, server = start_cluster(base, words.major)
    started = time.monotonic()
    try:
        driver = Driver(Arms(cluster, server, chance), base, chance, MUTANTS.get(words.mutant), words.only)
        with contextlib.suppress(KeyboardInterrupt):
            driver.run(words.kills, tuple(words.strategy or JOURNEYS))
        report = driver.report
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)
    print(text_of(report, time.monotonic() - started))  # noqa: T201
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
