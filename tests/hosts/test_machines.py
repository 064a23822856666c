"""What makes a container a host: systemd, sshd, an identity, an address, and a way back to fresh."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.machines import containers, engine
from rehearsal.commands.provision import provision
from rehearsal.errors import HostsFailed
from rehearsal.hosts.throwaway import manage
from tests.hosts.conftest import Hosts

NAMES = ("db", "app1", "monitor")


@pytest.mark.parametrize("name", NAMES)
def test_a_host_runs_systemd_without_a_failed_unit_and_lets_in_by_key_only(hosts: Hosts, name: str) -> None:
    host = hosts.on(name)
    sshd = host.check_output("sshd -T").splitlines()

    assert host.check_output("cat /proc/1/comm") == "systemd"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("hostname") == name
    assert {"passwordauthentication no", "kbdinteractiveauthentication no"} <= set(sshd)
    assert "permitrootlogin without-password" in sshd


def test_no_two_hosts_have_the_same_identity(hosts: Hosts) -> None:
    """They come from one image, which has neither host keys nor a machine id."""
    for what in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert len({hosts.on(name).check_output(f"cut -d' ' -f1,2 {what}") for name in NAMES}) == len(NAMES)


@pytest.mark.usefixtures("hosts")
def test_up_again_changes_nothing() -> None:
    found = manage("up")

    assert found["changed"] == []
    assert found["running"] is True
    assert all(machine["snapshot"] for machine in found["hosts"])


def test_a_host_that_was_stopped_is_started_again_and_keeps_its_address_and_key(hosts: Hosts) -> None:
    client = _docker()
    container = client.containers.get(f"{hosts.layout.project}-monitor")
    container.stop()

    assert manage("status")["running"] is False
    assert manage("up")["changed"] == ["started: monitor"]
    assert hosts.on("monitor").check_output("hostname -I").split()[0] == hosts.layout.address(20)


def test_a_reset_brings_back_the_provisioned_host_and_nothing_that_came_after(hosts: Hosts) -> None:
    """The database of the plan is gone, the server is there; then all is made again, for the tests that follow."""
    hosts.on("db").check_output("touch /root/left-behind")
    key = hosts.on("db").check_output("cat /etc/ssh/ssh_host_ed25519_key.pub")

    manage("reset")

    try:
        host = hosts.on("db")
        databases = host.check_output("runuser -u postgres -- psql -XAtc 'select datname from pg_database'").split()
        assert not host.file("/root/left-behind").exists
        assert host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub") == key
        assert hosts.env.database.name not in databases
        assert hosts.run("hosts").changed == 0
    finally:
        assert provision(hosts.target()) == 0


def test_a_container_of_somebody_else_is_left_alone(hosts: Hosts) -> None:
    with pytest.raises(HostsFailed, match="another container"):
        _in_the_way(hosts)


def _in_the_way(hosts: Hosts) -> None:
    """Put a container that is not ours on the name of a host; it must be left alone, and said."""
    client = _docker()
    ours = client.containers.get(f"{hosts.layout.project}-monitor")
    # Not from the snapshot: what is made from that has our labels.
    bare = ours.labels[containers.BARE]
    ours.remove(force=True)
    other = client.containers.create(bare, name=f"{hosts.layout.project}-monitor")
    try:
        manage("up")
    finally:
        assert client.containers.get(other.id)
        other.remove(force=True)
        assert manage("up")["changed"] == ["started: monitor from its snapshot"]
        assert hosts.run("hosts", limit=["monitor"]).ok


def _docker() -> Any:
    return engine.connect()
