"""An archive or a restore by a process of its own, which kills itself by SIGKILL at a point, or says its memory.

    python -m tests.postgres.lifecycle.dying archive LEAF FOLDER POINT < database.json
    python -m tests.postgres.lifecycle.dying restore MANIFEST FOLDER POINT < database.json

Points are statements, blocks of COPY, and what is done to files, in order; it dies before or after one in turns, at
none if POINT is 0. The last line printed is its greatest resident memory, in KiB.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from rehearsal.environment import Database
from rehearsal.lifecycle.reading import read_to_archive
from rehearsal.postgres.connection import connect
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_postgres import ROOT
from tests.postgres.lifecycle.archived import Shelf
from tests.postgres.lifecycle.kept import Kept

POINTS = ((psycopg.Cursor, "execute"), (psycopg.Copy, "write"), (os, "fsync"), (Path, "replace"), (Path, "unlink"))


def die_at(point: int) -> None:
    """Let this process kill itself at its n-th point."""
    numbers = count(1)

    def wrapped(plain: Any) -> Any:
        def work(*args: Any, **more: Any) -> Any:
            number = next(numbers)
            if number == point and point % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            done = plain(*args, **more)
            if number == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return work

    for place, name in POINTS:
        setattr(place, name, wrapped(getattr(place, name)))


def main(act: str, what: str, folder: str, point: str) -> None:
    """Do it, or die."""
    database = Database(**json.load(sys.stdin))
    with connect(database, role="dying") as conn:
        shelf = Shelf(Kept(conn, SqlFiles(ROOT / "sql")), Path(folder))
        if int(point):
            die_at(int(point))
        if act == "restore":
            assert shelf.restorer(Path(what)).restore(attach=True), shelf.kept.told[-1].failure
        else:
            shelf.archiver.clear()
            for waiting in read_to_archive(conn, shelf.kept.policy.oid):
                assert what not in ("all", waiting.leaf) or shelf.archiver.archive(waiting), shelf.kept.told
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
