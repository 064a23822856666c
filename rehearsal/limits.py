"""What this machine must give a rehearsal: open files, disk, shared memory. Read first, and said first.

Owns limits of the system around a run, which otherwise end it later for reasons that are not the plan's.
"""

from __future__ import annotations

import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

from rehearsal.environment import Environment
from rehearsal.errors import PreconditionError

# Sessions, requests under way and pipes of the engine and of the load; a server of `local` inherits the limit, and
# PostgreSQL wants a file for each table and index of a partition that a session touches.
MIN_OPEN_FILES = 512
WANTED_OPEN_FILES = 8_192
# The cluster of `local`, its WAL (min_wal_size is 1 GB) and a dump of the tables.
MIN_LOCAL_DISK_BYTES = 3_000_000_000
# A parallel query takes its segments from here; the 64 MB of a container's default end hash joins of a million rows.
MIN_SHARED_MEMORY_BYTES = 128_000_000
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- the system's own place, nothing is written there by us


@dataclass(frozen=True, slots=True)
class Shortage:
    """One limit that is too low: what there is, what is needed, what to do."""

    what: str
    has: str
    needs: str
    remedy: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.what}: {self.has}, a rehearsal needs {self.needs}; {self.remedy}"


def require_limits(env: Environment) -> None:
    """Refuse to begin where the system gives too little.

    Raises:
        PreconditionError: names every limit that is too low, with the remedy.
    """
    if short := [str(shortage) for shortage in find_shortages(env)]:
        message = f"this machine gives too little, nothing was begun: {'. '.join(short)}"
        raise PreconditionError(message)


def find_shortages(env: Environment) -> list[Shortage]:
    """Return the limits that are too low; the soft limit of open files is raised as far as we may."""
    found = [_open_files(raise_open_files())]
    if env.kind == "local" and env.state_folder:
        found += [_disk(env.state_folder, MIN_LOCAL_DISK_BYTES), _shared_memory(SHARED_MEMORY)]
    return [shortage for shortage in found if shortage]


def raise_open_files() -> int:
    """Raise the soft limit of open files towards the hard one, for us and our children; return what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED_OPEN_FILES if hard == unlimited else min(hard, WANTED_OPEN_FILES)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return WANTED_OPEN_FILES if soft == unlimited else soft


def _open_files(limit: int) -> Shortage | None:
    if limit >= MIN_OPEN_FILES:
        return None
    remedy = "raise the hard limit (ulimit -Hn) in the shell that starts it, or in /etc/security/limits.conf"
    return Shortage("open files", f"at most {limit}", str(MIN_OPEN_FILES), remedy)


def _disk(place: Path, need: int) -> Shortage | None:
    there = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free >= need:
        return None
    return Shortage(f"disk of {there}", _megabytes(free), _megabytes(need), "free room or name another folder")


def _shared_memory(place: Path) -> Shortage | None:
    if not place.is_dir() or (size := shutil.disk_usage(place).total) >= MIN_SHARED_MEMORY_BYTES:
        return None
    remedy = "give the container more (docker run --shm-size=1g) or mount a larger one"
    return Shortage(f"shared memory in {place}", _megabytes(size), _megabytes(MIN_SHARED_MEMORY_BYTES), remedy)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
