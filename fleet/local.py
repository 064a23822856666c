"""The process manager of the environment `local`: supervisord without root, and the app servers under it.

Owns `<base>/supervisor/` and everything that stops what `local` started. Processes are found by our own pid files and
socket, never by name.

    python -m fleet.local start   --base DIR                    # supervisord up, with the programs as configured
    python -m fleet.local restart --base DIR --program app1     # so that it runs with its present files
    python -m fleet.local status  --base DIR
    python -m fleet.local stale   --base DIR --program app1     # says so if it does not run with its present files
    python -m fleet.local stop    --base DIR                    # programs, supervisord and the cluster; idempotent
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from fleet.cluster import Cluster, ClusterError

TIMEOUT_S = 20.0
RUNNING = {"RUNNING", "STARTING"}

CONFIG = """\
[supervisord]
logfile={folder}/supervisord.log
logfile_maxbytes=1MB
pidfile={folder}/supervisord.pid
directory={folder}
identifier=pg-rehearsal
umask=077
[unix_http_server]
file={folder}/supervisor.sock
chmod=0600
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files={folder}/programs/*.conf
"""


class LocalError(RuntimeError):
    """The process manager cannot do what it was asked; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Manager:
    """One supervisord below `base`."""

    base: Path

    @property
    def folder(self) -> Path:
        """Folder of the configuration, the socket, the pid file and the log."""
        return self.base / "supervisor"

    def is_up(self) -> bool:
        """Return whether supervisord answers on its socket."""
        try:
            with self._rpc() as rpc:
                rpc.getState()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> bool:
        """Start supervisord if it is down and load the programs' configuration; return whether anything was done.

        Raises:
            LocalError: it does not come up.
        """
        with self._only_one():
            if self.is_current():
                return False
            if not self.is_up():
                self._launch()
            self._load()
            (self.folder / "loaded").write_text(self._digest())
            return True

    def is_current(self) -> bool:
        """Return whether supervisord is up and has loaded the programs as they are configured now."""
        loaded = self.folder / "loaded"
        return loaded.exists() and loaded.read_text() == self._digest() and self.is_up()

    def restart(self, program: str) -> None:
        """Stop the program if it runs, and start it. Whether it answers is for a health check to say."""
        started = self.base / "apps" / f"{program}.started"
        try:
            with self._rpc() as rpc:
                if rpc.getProcessInfo(program)["statename"] in {*RUNNING, "BACKOFF", "STOPPING"}:
                    with _ignoring_not_running():
                        rpc.stopProcess(program)
                started.unlink(missing_ok=True)
                rpc.startProcess(program, False)
        except xmlrpc.client.Fault as exc:
            message = f"cannot restart {program}: {exc.faultString}; look in {self.folder / 'supervisord.log'}"
            raise LocalError(message) from exc
        except OSError as exc:
            message = f"the process manager in {self.folder} is down; start it with `./inv db.provision`"
            raise LocalError(message) from exc
        self._wait(started.exists, f"{program} does not start")

    def status(self) -> dict[str, Any]:
        """Return what runs, and whether each program runs with its present files."""
        up, infos = self.is_up(), []
        if up:
            with self._rpc() as rpc:
                infos = rpc.getAllProcessInfo()
        programs = {info["name"]: {**self._program(info), "state": info["statename"]} for info in infos}
        return {"running": up, "current": up and self.is_current(), "programs": programs}

    def is_fresh(self, program: str) -> bool:
        """Return whether a program runs, and with its present files."""
        return bool(self.status()["programs"].get(program, {}).get("current"))

    def stop(self) -> bool:
        """Stop the programs and supervisord; return whether it ran."""
        pid = self._pid()
        if pid is None and self.is_up():
            with self._rpc() as rpc:
                pid = int(rpc.getPID())
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        # Its pid file goes before it does, so the process itself is waited for.
        self._wait(lambda: not self._is_ours(pid), f"supervisord (pid {pid}) does not stop")
        return True

    def _program(self, info: dict[str, Any]) -> dict[str, Any]:
        started = self.base / "apps" / f"{info['name']}.started"
        same = started.exists() and started.read_text().strip() == self._files_digest(info["name"])
        return {"pid": info["pid"], "current": same and info["statename"] in RUNNING}

    def _files_digest(self, program: str) -> str:
        digest = hashlib.sha256()
        for suffix in ("sh", "env"):
            path = self.base / "apps" / f"{program}.{suffix}"
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()

    def _digest(self) -> str:
        paths = sorted((self.folder / "programs").glob("*.conf"))
        return hashlib.sha256(b"\0".join(path.name.encode() + path.read_bytes() for path in paths)).hexdigest()

    def _launch(self) -> None:
        config = self.folder / "supervisord.conf"
        config.write_text(CONFIG.format(folder=str(self.folder).replace("%", "%%")))
        command = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)]
        with (self.folder / "launch.log").open("w+") as out:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=TIMEOUT_S
            )
            if done.returncode != 0:
                out.seek(0)
                message = f"supervisord does not start: {out.read().strip()[-500:]}"
                raise LocalError(message)
        self._wait(self.is_up, "supervisord does not answer on its socket")

    def _load(self) -> None:
        with self._rpc() as rpc:
            added, changed, removed = rpc.reloadConfig()[0]
            for name in (*changed, *removed):
                rpc.stopProcessGroup(name)
                rpc.removeProcessGroup(name)
            for name in (*added, *changed):
                rpc.addProcessGroup(name)

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.folder / 'supervisor.sock'}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
        finally:
            transport.close()

    def _pid(self) -> int | None:
        """Return the pid of our supervisord: the pid file's, if that process was started with our configuration."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "supervisord.pid").read_text())
            return pid if self._is_ours(pid) else None
        return None

    def _is_ours(self, pid: int) -> bool:
        command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        words = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return str(self.folder / "supervisord.conf") in words

    def _wait(self, holds: Callable[[], bool], message: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not holds():
            if time.monotonic() > deadline:
                where = f"{message} within {TIMEOUT_S:.0f} s; look in {self.folder / 'supervisord.log'}"
                raise LocalError(where)
            time.sleep(0.02)  # neither a socket that appears nor another's child that ends can be waited for

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        (self.folder / "programs").mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _ignoring_not_running() -> Iterator[None]:
    try:
        yield
    except xmlrpc.client.Fault as exc:
        if "NOT_RUNNING" not in exc.faultString:
            raise


def stop(base: Path) -> bool:
    """Stop the programs, the process manager and the cluster below `base`; return whether anything ran."""
    programs = Manager(base).stop()
    return Cluster(base / "cluster").stop() or programs


def main(argv: list[str] | None = None) -> int:
    """Run the command line; prints what runs as JSON."""
    parser = argparse.ArgumentParser(prog="fleet.local", description="the process manager of the environment local")
    parser.add_argument("verb", choices=["start", "restart", "status", "stale", "stop"])
    parser.add_argument("--base", type=Path, required=True, help="folder of the environment")
    parser.add_argument("--program", help="name of an app server")
    words = parser.parse_args(argv)
    manager = Manager(words.base.absolute())
    try:
        if words.verb == "stale":
            print("" if manager.is_fresh(words.program) else "stale")  # noqa: T201 -- a command line
            return 0
        changed = _do(manager, words.verb, words.program)
        print(json.dumps({"changed": changed, **manager.status()}))  # noqa: T201 -- a command line
    except (LocalError, ClusterError) as exc:
        print(f"local: {exc}", file=sys.stderr)  # noqa: T201 -- a command line
        return 1
    return 0


def _do(manager: Manager, verb: str, program: str | None) -> bool:
    if verb == "restart":
        if not program:
            message = "restart needs --program"
            raise LocalError(message)
        manager.restart(program)
        return True
    if verb == "start":
        return manager.start()
    return stop(manager.base) if verb == "stop" else False


if __name__ == "__main__":
    sys.exit(main())
