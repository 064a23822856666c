"""Play random histories and say what came of them.

    python -m tests.histories --count 500 [--seed N] [--major 18] [--mutant NAME]

A history is replayed by `--seed N --count 1`; `--trace` prints it. Exit code 1 if any table differs.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fleet.cluster import Cluster
from rehearsal.environment import Database
from tests.histories.history import History, Told
from tests.histories.mutants import MUTANTS, Mutant
from tests.histories.world import cloned, hurry, make_template

SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "20", "shared_buffers": "'64MB'"}
VARIANTS = list(itertools.product(("swap", "dual-write"), (False, True), (2, 3, 4)))


def play(server: Database, folder: Path, seed: int, templates: dict[tuple[str, bool], str]) -> Told:
    """Play the history of a seed: strategy, primary key and number of sessions follow from it."""
    choices = [variant for variant in VARIANTS if variant[:2] in templates]
    strategy, with_pairs, sessions = choices[seed % len(choices)]
    with cloned(server, templates[strategy, with_pairs], seed) as database:
        return History(database, strategy, seed, folder, with_pairs, sessions).play()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tests.histories")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--major", type=int)
    parser.add_argument("--mutant", choices=list(MUTANTS))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no history after that time")
    parser.add_argument("--trace", action="store_true")
    words = parser.parse_args()
    mutant = MUTANTS.get(words.mutant, Mutant())
    hurry()
    mutant.in_process()
    base = Path(tempfile.mkdtemp(prefix="pgr-histories-"))
    base.chmod(0o711)
    cluster = Cluster(base)
    cluster.start(major=words.major, settings=SETTINGS)
    server = Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())
    started, counts, failed, done = time.monotonic(), Counter[str](), [], 0
    try:
        strategies = ["swap"] if words.mutant else ["swap", "dual-write"]
        templates = {
            (strategy, with_pairs): make_template(server, strategy, with_pairs, mutant.in_database)
            for strategy, with_pairs in itertools.product(strategies, (False, True))
        }
        for seed in range(words.seed, words.seed + words.count):
            if time.monotonic() - started > words.seconds:
                break
            told = play(server, base / "runs", seed, templates)
            counts.update(told.counts)
            done += 1
            if told.problems:
                failed.append(told)
                _tell(told)
                if words.mutant:
                    break
            if words.trace:
                print("\n".join(told.trace), flush=True)  # noqa: T201
    finally:
        cluster.stop("immediate")
        shutil.rmtree(base, ignore_errors=True)
    print(f"{done} histories, {len(failed)} with differences, {time.monotonic() - started:.0f} s")  # noqa: T201
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))  # noqa: T201
    return 1 if failed else 0


def _tell(told: Told) -> None:
    print(f"seed {told.seed}:")  # noqa: T201
    for problem in told.problems:
        print(f"  {problem}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
