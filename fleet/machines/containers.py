"""Containers that are hosts: make, look at, take a snapshot of, reset and remove them.

Owns containers and network with this environment's label, and images of its provisioned hosts. A second `up` changes
nothing; whatever was killed half way is finished by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fleet.machines import engine, keys
from fleet.machines.bundle import make_bundle
from fleet.machines.image import ensure_image
from fleet.machines.layout import Layout, Machine, MachineError, subnets

READY_S = 120.0
POLL_S = 0.1
HOST, BARE = "pg-rehearsal.host", "pg-rehearsal.bare"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
# A database host that takes all memory of the machine would starve the servers beside it.
DATABASE_SHARE = 0.4
SHARED_MEMORY = "1g"


@dataclass(slots=True)
class Machines:
    """The hosts of one environment on one Docker Engine."""

    layout: Layout
    client: Any
    changed: list[str] = field(default_factory=list)

    def up(self) -> None:
        """Make keys, image, network and hosts that are missing, start those that are stopped, wait until SSH answers.

        Raises:
            MachineError: the Engine, the image or a host cannot be had; says why.
        """
        engine.require_cgroups(self.client.info())
        self.layout.base.mkdir(mode=0o700, parents=True, exist_ok=True)
        network = self._network()
        self.changed += [f"made: {path}" for path in keys.make_keys(self.layout)]
        if make_bundle(self.layout):
            self.changed.append("made: bundle of the app")
        image, made = ensure_image(self.client)
        if made:
            self.changed.append(f"built: {image}")
        for machine in self.layout.machines:
            self._start(machine, image, network)
        self._remove_surplus()
        self._wait()
        self.layout.save()

    def reset(self) -> None:
        """Throw every host away and start it from its snapshot, or bare where there is none."""
        self._remove(self._containers())
        self.up()

    def down(self, *, images: bool = False) -> None:
        """Remove hosts and network; with `images`, the snapshots too. Keys and passwords stay."""
        self._remove(self._containers())
        for network in self.client.networks.list(filters=self._filter()):
            network.remove()
            self.changed.append(f"removed: network {network.name}")
        if images:
            self._remove_images()

    def snapshot(self) -> None:
        """Keep each host as it is now, for `reset`; replaces what was kept before."""
        for container in self._containers():
            repository, tag = self._snapshot_name(container.labels[HOST]).split(":")
            # Paused for the moment: a file system that stands still, as after a power cut, which databases survive.
            container.commit(repository, tag, pause=True)
            self.changed.append(f"kept: {container.labels[HOST]}")
        self._remove_replaced()

    def status(self) -> dict[str, Any]:
        """Return what there is, as JSON can say it."""
        running = {container.labels[HOST]: container for container in self._containers()}
        rows = [
            {
                **asdict(machine),
                "state": running[machine.name].status if machine.name in running else "missing",
                "snapshot": bool(self._bare_of(self._snapshot_name(machine.name))),
                "ssh": _answers(machine.address),
            }
            for machine in self.layout.machines
        ]
        up = all(row["state"] == "running" and row["ssh"] for row in rows)
        return {"running": up, "subnet": self.layout.subnet, "base": str(self.layout.base), "hosts": rows}

    # ---- network

    def _network(self) -> str:
        name = self.layout.project
        if found := self.client.networks.list(names=[f"^{name}$"]):
            subnet = found[0].attrs["IPAM"]["Config"][0]["Subnet"]
            if subnet != self.layout.subnet:
                self.layout = replace(self.layout, subnet=subnet)
            return name
        self._make_network(name)
        return name

    def _make_network(self, name: str) -> None:
        from docker.errors import APIError  # noqa: PLC0415 -- an option, see engine
        from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415

        wanted = self.layout.subnet
        for subnet in dict.fromkeys((wanted, *subnets(self.layout.base))):
            layout = replace(self.layout, subnet=subnet)
            pool = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet, gateway=layout.control)])
            try:
                self.client.networks.create(name, driver="bridge", ipam=pool, labels=self._labels())
            except APIError as exc:
                if "overlap" in str(exc):
                    continue
                raise
            self.layout = layout
            self.changed.append(f"made: network {subnet}")
            return
        message = f"no network is free near {wanted}; name one in REHEARSAL_DOCKER_SUBNET, as 10.99.0.0/24"
        raise MachineError(message)

    # ---- hosts

    def _start(self, machine: Machine, image: str, network: str) -> None:
        found = next((container for container in self._containers() if container.labels[HOST] == machine.name), None)
        if found and found.labels.get(BARE) != image:
            # Another content of the bare image: what was built upon the old one is stale.
            self._remove([found])
            self._remove_image(self._snapshot_name(machine.name))
            found = None
        if found is None:
            self._run(machine, image, network)
        elif found.status != "running":
            found.start()
            self.changed.append(f"started: {machine.name}")

    def _run(self, machine: Machine, image: str, network: str) -> None:
        info, snapshot = self.client.info(), self._snapshot_name(machine.name)
        kept = self._bare_of(snapshot) == image
        endpoint = self.client.api.create_endpoint_config(ipv4_address=machine.address, aliases=[machine.name])
        memory = int(info["MemTotal"] * DATABASE_SHARE) if machine.group == "database" else None
        name = f"{self.layout.project}-{machine.name}"
        self._refuse_taken(name)
        self.client.containers.run(
            snapshot if kept else image,
            "/lib/systemd/systemd",
            name=name,
            hostname=machine.name,
            detach=True,
            labels={**self._labels(), HOST: machine.name, BARE: image},
            network=network,
            networking_config={network: endpoint},
            shm_size=SHARED_MEMORY,
            mem_limit=memory,
            **engine.run_options(info),
        )
        self.changed.append(f"started: {machine.name} {'from its snapshot' if kept else 'bare'}")

    def _refuse_taken(self, name: str) -> None:
        from docker.errors import NotFound  # noqa: PLC0415 -- an option, see engine

        try:
            self.client.containers.get(name)
        except NotFound:
            return
        message = f"another container has the name {name} and is not ours: it has no label {engine.LABEL}; rename it"
        raise MachineError(message)

    def _remove_surplus(self) -> None:
        wanted = {machine.name for machine in self.layout.machines}
        self._remove([container for container in self._containers() if container.labels[HOST] not in wanted])

    def _remove(self, containers: list[Any]) -> None:
        for container in containers:
            container.remove(force=True, v=True)
            self.changed.append(f"removed: {container.labels[HOST]}")

    def _containers(self) -> list[Any]:
        found = self.client.containers.list(all=True, filters=self._filter())
        return sorted(
            (container for container in found if HOST in container.labels),
            key=lambda container: str(container.labels[HOST]),
        )

    # ---- readiness

    def _wait(self) -> None:
        """Wait until systemd is up and sshd answers; then our key is let in, and the host's key is written down."""
        deadline = time.monotonic() + READY_S
        public = keys.ssh_key(self.layout).with_suffix(".pub").read_text(encoding="utf-8").strip()
        lines: list[str] = []
        for container in self._containers():
            machine = self.layout.find(container.labels[HOST])
            for ready, what in ((_systemd_is_up, "systemd"), (_has_host_key, "its SSH host key")):
                _until(
                    lambda ready=ready, host=container: ready(host), deadline, f"{machine.name}: {what} is not there"
                )
            _run_in(container, f"echo '{public}' >/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys")
            _until(lambda host=machine: _answers(host.address), deadline, f"{machine.name}: sshd does not answer")
            lines.append(f"{machine.address} {' '.join(_run_in(container, f'cat {HOST_KEY}').split()[:2])}\n")
        keys.write(keys.known_hosts(self.layout), "".join(lines).encode())
        self._write_ssh_config()

    def _write_ssh_config(self) -> None:
        """Write a file for `ssh -F`, for people and for tests; connections are shared."""
        common = (
            f"  User root\n  IdentityFile {keys.ssh_key(self.layout)}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {keys.known_hosts(self.layout)}\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        )
        hosts = "".join(
            f"Host {machine.name}\n  HostName {machine.address}\n{common}" for machine in self.layout.machines
        )
        keys.write(self.layout.base / "ssh" / "config", hosts.encode())

    # ---- snapshots

    def _snapshot_name(self, host: str) -> str:
        return f"{self.layout.project}:{host}"

    def _bare_of(self, tag: str) -> str | None:
        """Return the bare image that a snapshot was built upon; None: there is no such snapshot."""
        from docker.errors import ImageNotFound  # noqa: PLC0415 -- an option, see engine

        try:
            return str(self.client.images.get(tag).labels.get(BARE))
        except ImageNotFound:
            return None

    def _remove_image(self, tag: str) -> None:
        if self._bare_of(tag):
            self.client.images.remove(tag, force=True)

    def _remove_replaced(self) -> None:
        """Remove snapshots that lost their names to newer ones, unless a host was started from them."""
        used = {container.attrs["Image"] for container in self._containers()}
        for image in self.client.images.list(filters={**self._filter(), "dangling": True}):
            if image.id not in used:
                self.client.images.remove(image.id)

    def _remove_images(self) -> None:
        for image in self.client.images.list(filters=self._filter()):
            self.client.images.remove(image.id, force=True)
            self.changed.append(f"removed: image {', '.join(image.tags)}")

    def _labels(self) -> dict[str, str]:
        return {engine.LABEL: self.layout.project}

    def _filter(self) -> dict[str, str]:
        return {"label": f"{engine.LABEL}={self.layout.project}"}


@contextlib.contextmanager
def only_one(layout: Layout) -> Iterator[None]:
    """Let two that want the same hosts come one after the other."""
    layout.base.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (layout.base / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def opened(layout: Layout) -> Generator[Machines]:
    """Open the hosts, alone.

    Raises:
        MachineError: the Docker Engine refuses something; says what.
    """
    with only_one(layout):
        client = engine.connect()
        from docker.errors import DockerException  # noqa: PLC0415 -- an option, see engine

        try:
            yield Machines(layout, client)
        except DockerException as exc:
            message = f"the Docker Engine refused: {exc}"
            raise MachineError(message) from exc
        finally:
            client.close()


def _systemd_is_up(container: Any) -> bool:
    done = container.exec_run(["systemctl", "is-system-running"])
    return done.output.decode().strip() in {"running", "degraded"}


def _has_host_key(container: Any) -> bool:
    return bool(container.exec_run(["test", "-s", HOST_KEY]).exit_code == 0)


def _run_in(container: Any, script: str) -> str:
    done = container.exec_run(["sh", "-c", script])
    if done.exit_code != 0:
        message = f"{container.labels[HOST]}: {done.output.decode(errors='replace').strip()[-300:]}"
        raise MachineError(message)
    return str(done.output.decode())


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _until(holds: Any, deadline: float, message: str) -> None:
    while not holds():
        if time.monotonic() > deadline:
            text = f"{message} within {READY_S:.0f} s; look with `docker logs` and `./inv hosts.status`"
            raise MachineError(text)
        time.sleep(POLL_S)  # neither systemd in a container nor a port can be waited for from outside
