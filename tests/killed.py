"""A switchover that is killed by SIGKILL at statement after statement, each life going on where the last one died.

    python -m tests.killed FOLDER STRATEGY STRIDE [switch | back | split | end [LIVES]] < database.json

Life n dies at its statement n * STRIDE, before it is sent or after it is done in turns. The last line printed is the
number of lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from rehearsal.commands.cleanup import clean_up
from rehearsal.environment import Database, Environment
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context
from rehearsal.switchover.strategies.attach.split import HistorySplit
from tests.fix_postgres import ROOT
from tests.fix_tables import make_plan, make_switchover


def die_at(statement: int) -> None:
    """Let this process kill itself at its n-th statement, whichever of its sessions sends it."""
    plain, numbers = psycopg.Cursor.execute, count(1)

    def execute(self: Any, *args: Any, **more: Any) -> Any:
        number = next(numbers)
        if number == statement and statement % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        done = plain(self, *args, **more)
        if number == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]


def end(database: Database, run: Run) -> None:
    """Drop the source of dual-write as `db.cleanup` does."""
    plan, files = make_plan("dual-write", stable_days=0, unused_s=1), SqlFiles(ROOT / "sql")
    env = Environment("local", "local", ROOT, database, database, "@process/db", (), ROOT, "root@localhost", None)
    with connect(database) as conn:
        clean_up(Context(ROOT, plan, env, run, files, ""), conn, "target")


def main(folder: str, strategy: str, stride: int, act: str = "switch", lives: int = 0) -> None:
    """Live and die until one life reaches the end: of the switchover, its rollback, a split, dual-write.

    With `lives` it is over after so many, wherever the last one died.
    """
    database = Database(**json.load(sys.stdin))
    run = Run.create(Path(folder), "local", "killed")
    for life in count(1):
        child = os.fork()
        if child == 0:
            die_at(life * stride)
            work = make_switchover(database, SqlFiles(ROOT / "sql"), make_plan(strategy), run)
            if act == "back":
                work.roll_back()
            elif act == "end":
                end(database, run)
            elif act == "split":
                HistorySplit(work).split()
            else:
                work.prepare()
                work.switch()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0 or life == lives:
            sys.stdout.write(f"{life}\n")
            return
        if os.WIFEXITED(status):
            sys.exit(f"life {life} ended with an error")


if __name__ == "__main__":
    folder, strategy, stride, act, lives, *_ = [*sys.argv[1:], *("switch", "0")[max(0, len(sys.argv) - 4) :]]
    main(folder, strategy, int(stride), act, int(lives))
