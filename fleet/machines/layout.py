"""Which hosts there are and where: names, groups and addresses, known before any of them is made.

Owns the folder of the environment and `hosts.json` in it, so that an inventory can be read while nothing runs.

REHEARSAL_DOCKER_BASE     folder of keys, passwords and state   default: a folder of this project in the temporary one
REHEARSAL_DOCKER_APPS     number of app servers                 default: 2
REHEARSAL_DOCKER_SUBNET   network of the hosts                  default: a /24 of 10.213.0.0/16 that is free
REHEARSAL_DOCKER_POOLER   pgbouncer beside each app server      default: none; session or transaction
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
SUBNETS = 200
POOLERS = ("session", "transaction")
MAX_APPS = 100
# Last byte of each address; the gateway, by which this machine is seen, has the first.
DATABASE, MONITOR, FIRST_APP = 10, 20, 101


class MachineError(RuntimeError):
    """Hosts cannot be made or reached; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One host."""

    name: str
    group: str
    address: str


@dataclass(frozen=True, slots=True)
class Layout:
    """All hosts of the environment."""

    base: Path
    subnet: str
    apps: int

    @property
    def project(self) -> str:
        """Name that tells this environment's containers, images and network from those of others."""
        return "pg-rehearsal-" + hashlib.sha256(str(self.base).encode()).hexdigest()[:8]

    @property
    def control(self) -> str:
        """Address by which the hosts see the machine that runs Docker."""
        return self.address(1)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The hosts, in the order in which they are provisioned and flipped."""
        apps = (
            Machine(f"app{number}", "app", self.address(FIRST_APP - 1 + number)) for number in range(1, self.apps + 1)
        )
        database = Machine("db", "database", self.address(DATABASE))
        return (database, *apps, Machine("monitor", "monitor", self.address(MONITOR)))

    def address(self, number: int) -> str:
        """Return an address of the network."""
        return str(ipaddress.ip_network(self.subnet)[number])

    def find(self, name: str) -> Machine:
        """Return a host by its name.

        Raises:
            MachineError: there is none of that name.
        """
        if found := next((machine for machine in self.machines if machine.name == name), None):
            return found
        message = f"no host {name!r}; there are {', '.join(machine.name for machine in self.machines)}"
        raise MachineError(message)

    def save(self) -> None:
        """Write `hosts.json`, in one step."""
        path = self.base / "hosts.json"
        path.with_suffix(".new").write_text(json.dumps({"subnet": self.subnet, "apps": self.apps}) + "\n")
        path.with_suffix(".new").replace(path)


def default_base() -> Path:
    """Return the folder of the environment: this user's and this project's."""
    name = f"pg-rehearsal-docker-{os.getuid()}-{hashlib.sha256(str(PROJECT).encode()).hexdigest()[:8]}"
    return Path(tempfile.gettempdir()) / name


def read_layout(environ: Mapping[str, str] = os.environ) -> Layout:
    """Return the hosts as they were made, or as they would be.

    Raises:
        MachineError: a setting means nothing; names it.
    """
    base = Path(environ.get("REHEARSAL_DOCKER_BASE") or default_base()).absolute()
    path = base / "hosts.json"
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    apps = _number(environ.get("REHEARSAL_DOCKER_APPS") or str(made.get("apps") or 2))
    subnet = environ.get("REHEARSAL_DOCKER_SUBNET") or made.get("subnet") or next(subnets(base))
    return Layout(base, _network(subnet), apps)


def read_pooler(environ: Mapping[str, str] = os.environ) -> str:
    """Return the mode of the pooler that the app servers are to have; empty for none.

    Raises:
        MachineError: there is no such mode.
    """
    mode = environ.get("REHEARSAL_DOCKER_POOLER", "")
    if mode in ("", *POOLERS):
        return mode
    message = f"REHEARSAL_DOCKER_POOLER is {mode!r}; set it to {' or '.join(POOLERS)}, or unset it: no pooler"
    raise MachineError(message)


def subnets(base: Path) -> Iterator[str]:
    """Yield networks to try; where to begin depends on the folder, so that two projects rarely meet."""
    first = int(hashlib.sha256(str(base).encode()).hexdigest()[:4], 16)
    yield from (f"10.213.{(first + number) % SUBNETS + 1}.0/24" for number in range(20))


def _number(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MAX_APPS:
        return int(text)
    message = f"REHEARSAL_DOCKER_APPS is {text!r}; it must be a number from 1 to {MAX_APPS}"
    raise MachineError(message)


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        message = f"REHEARSAL_DOCKER_SUBNET is {text!r}, no network: {exc}"
        raise MachineError(message) from exc
    if network.version != 4 or network.prefixlen > 24:
        message = f"REHEARSAL_DOCKER_SUBNET is {text}; it must be an IPv4 network of /24 or larger"
        raise MachineError(message)
    return text
