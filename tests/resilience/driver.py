"""A switchover of the events table in a process of its own, so that it can be killed.

Argument: one JSON object with database, strategy, folder of the run, and turns; says "ready" once it is about to begin.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_tables import make_plan, make_switchover

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    """Prepare and switch; with turns, go back and forward again as often."""
    told = json.loads(sys.argv[1])
    plan = make_plan(told["strategy"])
    run = Run(Path(told["folder"]))
    work = make_switchover(Database(**told["database"]), SqlFiles(ROOT / "sql"), plan, run)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    work.prepare()
    work.switch()
    for _ in range(told["turns"]):
        work.roll_back()
        work.switch()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
