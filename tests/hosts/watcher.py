"""Somebody on a host who looks at all that everybody can read, again and again, until a file `stop` comes.

    runuser -u nobody -- python3 watcher.py /run/watched

Looks for the lines of `words` in that folder; writes `seen`: the places where they were, and what else proves that it
looked in time. On a host there is only the standard library.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/var/lock", "/home", "/root", "/etc/finance", "/etc/pgbouncer")  # noqa: S108
WITNESS = ".pg-rehearsal.pgpass.new", "/etc/finance/app.env.new", "/etc/pg-rehearsal/exporter.env.new"


def files(folder: Path) -> Iterator[Path]:
    """Yield what can be read below a folder."""
    try:
        for path in folder.iterdir():
            yield from files(path) if path.is_dir() and not path.is_symlink() else (path,)
    except OSError:
        return


def processes() -> Iterator[Path]:
    """Yield the arguments and the environment of every process that can be read."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            yield from (folder / "cmdline", folder / "environ")


def main(place: Path) -> None:
    """Look until it is enough."""
    words = [line.encode() for line in (place / "words").read_text().splitlines()]
    seen: set[tuple[str, str, int]] = set()
    witnesses: set[str] = set()
    looked = 0
    (place / "ready").touch()
    while not (place / "stop").exists():
        for path in (*processes(), *(file for folder in SHARED for file in files(Path(folder)))):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            name = "/proc" if path.parts[1] == "proc" else str(path)
            seen |= {(name, path.name, number) for number, word in enumerate(words) if word in content}
            witnesses |= {witness for witness in WITNESS if witness.encode() in content}
        looked += 1
        time.sleep(0.001)
    result = {"seen": sorted(seen), "witnesses": sorted(witnesses), "looked": looked}
    (place / "seen.new").write_text(json.dumps(result))
    (place / "seen.new").rename(place / "seen")


main(Path(sys.argv[1]))
