"""The app as a systemd unit, the firewall of every host, and the Prometheus that watches them."""

from __future__ import annotations

import socket

import pytest

from rehearsal.application.monitoring import ask_prometheus
from tests.hosts.conftest import Hosts
from tests.waiting import eventually

# Prometheus finds out only when it looks again.
WITHIN_S = 90
REACH = "timeout 3 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo open || echo closed"


def test_the_app_answers_at_the_address_of_its_host(hosts: Hosts) -> None:
    """With its database, as app1; it may have been restarted just now."""
    hosts.wait_for_the_app()


def test_the_unit_of_the_app_is_hardened(hosts: Hosts) -> None:
    app = hosts.on("app1")
    wanted = {
        "User": "finance",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "MemoryMax": str(512 << 20),
        "CapabilityBoundingSet": "",
        "Restart": "on-failure",
    }
    shown = app.check_output("systemctl show finance.service " + " ".join(f"-p {name}" for name in wanted))
    found = dict(line.split("=", 1) for line in shown.splitlines())
    exposure = app.check_output("systemd-analyze security finance.service --no-pager | tail -1")

    assert app.service("finance.service").is_enabled
    assert {name: found.get(name, "") for name in wanted} == wanted
    assert "OK" in exposure, exposure


def test_the_process_of_the_app_can_write_nothing_but_its_log(hosts: Hosts) -> None:
    """Seen from inside: the mounts of the process itself, as its user."""
    app = hosts.on("app1")
    pid = app.check_output("systemctl show -P MainPID finance.service")
    inside = f"nsenter -t {pid} -m runuser -u finance -- sh -c"
    for path in ("/opt/finance/x", "/etc/finance/x", "/usr/x", "/root/x", "/var/lib/x"):
        assert app.run(f"{inside} ': >{path}'").rc != 0, path
    assert app.check_output(f"ps -o user= -p {pid}") == "finance"
    env = app.file("/etc/finance/app.env")
    assert (env.user, env.group, env.mode) == ("root", "finance", 0o640)


def test_only_who_needs_a_port_reaches_it(hosts: Hosts) -> None:
    db, app, monitor = (hosts.layout.find(name).address for name in ("db", "app1", "monitor"))
    reached = {
        (source, target, port): hosts.on(source).check_output(REACH.format(address=address, port=port))
        for source, target, address, port in (
            ("app1", "db", db, 5432),
            ("monitor", "db", db, 5432),
            ("monitor", "db", db, 9100),
            ("app1", "db", db, 9100),
            ("app1", "db", db, 22),
            ("db", "app1", app, 8000),
            ("db", "app1", app, 22),
            ("app1", "monitor", monitor, 9090),
        )
    }
    allowed = {("app1", "db", 5432), ("monitor", "db", 5432), ("monitor", "db", 9100)}
    assert reached == {key: "open" if key in allowed else "closed" for key in reached}
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((db, 9100), timeout=3)


def test_the_gate_of_monitoring_sees_a_target_that_is_down(hosts: Hosts) -> None:
    """A real Prometheus: everything is up; then an exporter is stopped, which must show; then it is well again."""
    url = str(hosts.env.settings["monitor_url"])
    eventually(lambda: ask_prometheus(url), WITHIN_S, that=lambda found: found.passed is True)
    hosts.on("app1").check_output("systemctl stop prometheus-node-exporter")
    try:
        seen = eventually(lambda: ask_prometheus(url), WITHIN_S, that=lambda found: found.passed is False)
        assert f"hosts {hosts.layout.find('app1').address}:9100 is down" in seen.observed
    finally:
        hosts.on("app1").check_output("systemctl start prometheus-node-exporter")
    eventually(lambda: ask_prometheus(url), WITHIN_S, that=lambda found: found.passed is True)
    assert ask_prometheus(url, ("NoSuchRule",)).observed.endswith("rule NoSuchRule is missing")
    assert ask_prometheus("http://127.0.0.1:1").passed is None
