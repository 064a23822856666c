"""Fleets of app servers as real hosts: an sshd and an app each, on ports of this machine, reached by SSH."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.application.flags import Routing, read_routing
from rehearsal.application.probe import http
from rehearsal.environment import AppServer, Database, Environment
from tests.waiting import eventually

PATIENCE_S = 30.0

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
LIGHT_APP = Path(__file__).with_name("light_app.py")
OFF, ON = Routing(reads=False, writes=False), Routing(reads=True, writes=True)
NAMES = ("USE_PARTITIONED_TABLES", "ENABLE_PARTITION_ROUTING")
# A home of their own: what this machine's user has a shell do at each login is no part of a host.
SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/{name}.hostkey
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
SetEnv HOME={folder}
"""
RESTART = """\
#!/bin/sh
# Stops the app, and starts it with its present env file.
cd {folder} || exit 1
if test -s {name}.pid; then
    kill "$(cat {name}.pid)" 2>/dev/null || rm -f {name}.pid
    left=500
    while test -e {name}.pid && test "$left" -gt 0; do sleep 0.01; left=$((left - 1)); done
fi
set -a
. {env_file}
set +a
setsid {command} >>{name}.log 2>&1 </dev/null &
echo $! >{name}.pid
"""


@dataclass
class Server:
    """One host: its sshd, its app and its files."""

    name: str
    folder: Path
    ssh_port: int
    app_port: int
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    sshd: subprocess.Popen[bytes] | None = None
    command: tuple[str, ...] = ()
    verbose: bool = False

    @property
    def env_file(self) -> Path:
        """File with the flags."""
        return Path(self.extra.get("env_file") or self.folder / f"{self.name}.env")

    @property
    def url(self) -> str:
        """Where the app answers."""
        return f"http://127.0.0.1:{self.app_port}"

    @property
    def data(self) -> dict[str, Any]:
        """What an inventory says of this host."""
        return {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": self.ssh_port,
            "ssh_key": str(self.folder / "key"),
            "ssh_known_hosts_file": str(self.folder / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
            "ssh_config_file": str(self.folder / "ssh_config"),
            "app_server": self.name,
            "app_manager": "command",
            "app_restart": str(self.folder / f"{self.name}.restart"),
            "app_url": self.url,
            "app_log": str(self.folder / f"{self.name}.log"),
            "env_file": str(self.env_file),
            **self.extra,
        }

    def start_sshd(self) -> None:
        """Start the host's sshd, and wait until it listens."""
        assert SSHD is not None
        config = self.folder / f"{self.name}.sshd"
        text = SSHD_CONFIG.format(port=self.ssh_port, folder=self.folder, name=self.name)
        config.write_text(text + ("LogLevel VERBOSE\n" if self.verbose else ""))
        with (self.folder / f"{self.name}.sshd.log").open("ab") as log:
            sshd = self.sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        eventually(
            self._listens,
            PATIENCE_S,
            unless=lambda: sshd.poll() is not None and (self.folder / f"{self.name}.sshd.log").read_text(),
            not_yet=(OSError,),
        )

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.ssh_port), timeout=1):
            return True

    def stop_sshd(self) -> None:
        """Take the host down, as far as SSH can see."""
        if self.sshd:
            self.sshd.terminate()
            self.sshd.wait(timeout=10)

    def write_flags(self, routing: Routing) -> None:
        """Write the env file, with a line that is nobody's to change."""
        values = {NAMES[0]: routing.reads, NAMES[1]: routing.writes}
        lines = [f"{name}={str(value).lower()}" for name, value in values.items()]
        self.env_file.write_text("\n".join(["DATABASE_URL='postgresql://app:se%20cret@db/x'", *lines, "LAST=1\n"]))
        self.env_file.chmod(0o640)

    def write_restart(self) -> None:
        """Write the command that restarts the app."""
        path = self.folder / f"{self.name}.restart"
        light = (sys.executable, "-I", "-S", str(LIGHT_APP), str(self.folder), self.name, str(self.app_port))
        folder, env_file = (shlex.quote(str(path)) for path in (self.folder, self.env_file))
        command = shlex.join(self.command or light)
        path.write_text(RESTART.format(name=self.name, folder=folder, env_file=env_file, command=command))
        path.chmod(0o755)

    def start_app(self) -> None:
        """Start or restart the app behind everybody's back, and wait until it answers."""
        subprocess.run([str(self.folder / f"{self.name}.restart")], check=True)
        url = f"{self.url}/health"
        eventually(lambda: http().get(url), PATIENCE_S, that=lambda _: True, not_yet=(httpx.HTTPError,))

    def stop_app(self) -> None:
        """End the app, if it runs."""
        path = self.folder / f"{self.name}.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)
        path.unlink(missing_ok=True)

    def misbehave(self, how: str, *, stop: bool = False) -> None:
        """Make the app misbehave from now on, or stop it from that."""
        path = self.folder / f"{self.name}.{how}"
        if stop:
            path.unlink()
        else:
            path.touch()

    @property
    def file(self) -> Routing:
        """Flags as the env file has them, read without the code under test."""
        lines = self.env_file.read_text().splitlines()
        return Routing(*(f"{name}=true" in lines for name in NAMES))

    @property
    def pid(self) -> str:
        """Process of the app: another one after a restart."""
        return (self.folder / f"{self.name}.pid").read_text().strip()


@dataclass
class Fleet:
    """Some servers, and the environment that they are."""

    folder: Path
    servers: list[Server]
    commands: int = 0

    @property
    def env(self) -> Environment:
        """The environment as an inventory of these hosts says it; writes that inventory."""
        hosts = [(server.name, server.data) for server in self.servers]
        (self.folder / "fleet.py").write_text(
            f"import json\napp = [tuple(host) for host in json.loads({json.dumps(hosts)!r})]\n"
        )
        nowhere = Database("127.0.0.1", 1, "none", "none")
        apps = tuple(AppServer(server.name, server.url, server.data["app_log"], server.data) for server in self.servers)
        return Environment(
            name="fleet",
            kind="staging",
            inventory=self.folder / "fleet.py",
            database=nowhere,
            app_database=nowhere,
            database_host="none",
            app_servers=apps,
            backup_folder=self.folder,
            admin_email="root@localhost",
        )

    def __getitem__(self, number: int) -> Server:
        return self.servers[number - 1]

    @property
    def seen(self) -> list[tuple[Routing, Routing | None]]:
        """File and process of each server, looked at without the code under test."""
        return [(server.file, read_routing(AppServer(server.name, server.url))[0]) for server in self.servers]


def free_ports(number: int) -> Iterator[int]:
    """Yield different free ports, below those that outgoing connections get: a restarted app must find its own."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(range(12_000, 32_000), 20_000):
            if len(ports) == number:
                break
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
    yield from ports


@contextmanager
def running_fleet(number: int) -> Iterator[Fleet]:
    """Run a fleet on legacy flags; everything ends with the block."""
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd drops its privileges; the package makes it at boot
    folder = Path(tempfile.mkdtemp(prefix="pgr-fleet-"))
    ports = free_ports(2 * number)
    servers = [Server(f"app{n}", folder, next(ports), next(ports)) for n in range(1, number + 1)]
    fleet = Fleet(folder, servers)
    try:
        _make_keys(fleet)
        for server in servers:
            server.write_flags(OFF)
            server.write_restart()
            server.start_sshd()
        for server in servers:
            server.start_app()
        yield fleet
    finally:
        for server in fleet.servers:
            server.stop_sshd()
            server.stop_app()
        shutil.rmtree(folder, ignore_errors=True)


def _make_keys(fleet: Fleet) -> None:
    folder, known = fleet.folder, []
    for name in ["key", *(f"{server.name}.hostkey" for server in fleet.servers)]:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    for server in fleet.servers:
        kind, key, _ = (folder / f"{server.name}.hostkey.pub").read_text().split()
        known.append(f"[127.0.0.1]:{server.ssh_port} {kind} {key}\n")
    (folder / "known_hosts").write_text("".join(known))
    (folder / "ssh_config").write_text("")


@pytest.fixture(scope="module")
def six() -> Iterator[Fleet]:
    """Six hosts for the tests of a module."""
    if SSHD is None or os.geteuid() != 0:
        pytest.skip("needs sshd (Debian: openssh-server) and root: hosts by SSH cannot be made without them")
    with running_fleet(6) as fleet:
        yield fleet


@pytest.fixture
def fleet(six: Fleet) -> Fleet:
    """Six healthy hosts on legacy flags, whatever the test before left."""
    six.servers = [replace(server, extra={}, command=()) for server in six.servers]
    for path in (path for how in ("refuses", "lies", "errs") for path in six.folder.glob(f"*.{how}")):
        path.unlink()
    for server in six.servers:
        server.write_restart()
        if server.sshd is None or server.sshd.poll() is not None:
            server.start_sshd()
        if server.file != OFF or read_routing(AppServer(server.name, server.url))[0] != OFF:
            server.write_flags(OFF)
            server.start_app()
    return six
