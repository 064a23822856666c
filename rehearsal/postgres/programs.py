"""PostgreSQL's own client programs: find them, check their version, run them without showing the password.

Owns child processes of the engine that talk to a database. The password travels in a file that only we can read, not
in arguments, which every user of the machine can see.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import make_conninfo

from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.postgres.pinned import pinned_environ

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


def find_client(name: str, folder: Path | None = None) -> Path:
    """Find a client program: in `folder` if one is given, else the newest of the system's, else on PATH.

    Raises:
        PreconditionError: there is none; says where it was looked for.
    """
    looked = [folder] if folder else [*_system_folders(), *map(Path, os.get_exec_path())]
    for directory in looked:
        if (directory / name).is_file():
            return directory / name
    message = f"no {name} in {', '.join(map(str, looked))}; install PostgreSQL's client programs or set client_bin"
    raise PreconditionError(message)


def _system_folders() -> list[Path]:
    found = [path for pattern in PLACES for path in Path("/").glob(pattern.lstrip("/"))]
    return sorted(found, key=lambda path: int((re.findall(r"\d+", str(path)) or ["0"])[0]), reverse=True)


def require_version(program: Path, server_version: int) -> str:
    """Return the program's version, which must not be older than the server's.

    Raises:
        PreconditionError: it is older, or does not tell.
    """
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\b(\d+)(?:\.\d+|devel|beta\d+|rc\d+)", done.stdout)
    if done.returncode != 0 or not match:
        message = f"{program} does not tell its version: {(done.stderr or done.stdout).strip()}"
        raise PreconditionError(message)
    if int(match[1]) < server_version // 10_000:
        message = (
            f"{program} is of version {match[1]}, older than the server's {server_version // 10_000}, which it cannot "
            "read; install newer client programs or set client_bin"
        )
        raise PreconditionError(message)
    return match[0]


def run_client(
    program: Path, database: Database, options: Sequence[str], step: str, *, accept: tuple[int, ...] = (0,)
) -> str:
    """Run a program against a database; return what it said. It is ended when we are interrupted.

    Raises:
        StepFailed: it ended with another code than those accepted; has the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="pg-rehearsal-") as folder:
        argv = [str(program), f"--dbname={_conninfo(database)}", "--no-password", *options]
        done = subprocess.run(
            argv,
            env=_environ(database, Path(folder)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    said = (done.stderr or done.stdout).strip()
    if done.returncode not in accept:
        end = "\n".join(said.splitlines()[-10:])
        message = f"cannot {step}: {program.name} exited with status {done.returncode}:\n{end}"
        raise StepFailed(message)
    return said


def _conninfo(database: Database) -> str:
    values = {name: value for name, value in database.conninfo().items() if name != "password"}
    return make_conninfo(**values, application_name="pg-rehearsal backup")


def _environ(database: Database, folder: Path) -> dict[str, str]:
    environ = {**os.environ, **pinned_environ(), "LC_MESSAGES": "C"}
    if database.password:
        path = folder / "pgpass"
        path.touch(mode=0o600)
        path.write_text(f"*:*:*:*:{_escaped(database.password)}\n", encoding="utf-8")
        environ["PGPASSFILE"] = str(path)
    return environ


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")
