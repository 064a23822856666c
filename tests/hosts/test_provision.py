"""Provisioning over SSH: a second run changes nothing, drift shows and is mended, no secret gets out."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.machines import keys
from rehearsal.commands.provision import provision
from rehearsal.errors import HostsFailed
from tests.hosts.conftest import Hosts

PHASES = ("hosts", "roles", "app")


def test_a_second_run_says_no_changes_for_every_operation(hosts: Hosts) -> None:
    results = [hosts.run(phase) for phase in PHASES]

    assert [(result.phase, op.name) for result in results for op in result.operations if op.changed] == []
    assert sum(len(result.operations) for result in results) > 40
    assert provision(hosts.target(), dry=True) == 0


# On each host something differs by somebody's hand; the operation that must name it, and mend it.
DRIFT = {
    ("db", "Write the access rules of the database server"): "echo '# mine' >>/etc/postgresql/15/main/pg_hba.conf",
    ("db", "Let in only those who need to"): "nft insert rule inet pg_rehearsal input tcp dport 1234 accept",
    ("app1", "Write the app server's env file"): "chmod 644 /etc/finance/app.env",
    ("app1", "Write the unit of the app"): "systemctl disable -q finance.service",
}


def test_drift_shows_in_a_dry_run_by_name_and_exit_code_and_is_mended(
    hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at once, since each look at all hosts takes its time; each is named by itself."""
    for (name, _), spoil in DRIFT.items():
        hosts.on(name).check_output(spoil)

    code = provision(hosts.target(), dry=True)
    said = capsys.readouterr()
    mended = {(op.host, op.name) for phase in PHASES for op in hosts.run(phase).operations if op.changed}

    assert code == 1
    assert [drift for drift in DRIFT if f"{drift[0]}: would change: {drift[1]}" not in said.out + said.err] == []
    assert set(DRIFT) <= mended
    assert provision(hosts.target(), dry=True) == 0


def test_wrong_access_rules_are_refused_before_the_server_reads_them(hosts: Hosts) -> None:
    """The old file is back, byte for byte, and the server was not reloaded."""
    path = "/etc/postgresql/15/main/pg_hba.conf"
    db, loaded = hosts.on("db"), "runuser -u postgres -- psql -XAtc 'select pg_conf_load_time()'"
    before = (db.file(path).sha256sum, db.check_output(loaded))

    with pytest.raises(HostsFailed, match="these access rules are wrong: line"):
        hosts.run("hosts", limit=["db"], data={"app_addresses": ["no-address//"]})

    assert (db.file(path).sha256sum, db.check_output(loaded)) == before


def test_no_secret_is_in_a_log_a_report_or_a_process_list(hosts: Hosts) -> None:
    """Files that are meant to hold a password hold it, which proves the search; nothing else does."""
    secrets = [path.read_text().strip() for path in (hosts.layout.base / "secrets").glob("*.password")]
    assert len(secrets) == len(keys.ROLES)
    assert [path for path in hosts.runs.rglob("*") if path.is_file() and _has(path, secrets)] == []
    assert _has(hosts.layout.base / "secrets" / "app.password", secrets)

    patterns = "\n".join(secrets)
    folders = "/var/log /tmp /var/tmp /run /etc /opt /root /var/lib/systemd"
    search = f"grep -rlF -D skip -f - {folders} 2>/dev/null <<'PATTERNS'\n{patterns}\nPATTERNS\n"
    found = {name: set(hosts.on(name).run(search).stdout.split()) for name in ("db", "app1", "monitor")}
    assert found == {
        "db": {"/root/.pg-rehearsal.pgpass"},
        "app1": {"/etc/finance/app.env"},
        "monitor": {"/etc/pg-rehearsal/exporter.env"},
    }
    for name in found:
        listed = hosts.on(name).check_output("ps -eww -o args; journalctl --no-pager -q -o cat")
        assert [secret for secret in secrets if secret in listed] == []


def test_a_host_whose_key_is_another_is_not_talked_to(hosts: Hosts) -> None:
    """Somebody else's machine on the address of ours: refused, not learnt."""
    known = hosts.layout.base / "ssh" / "known_hosts"
    text = known.read_text()
    lines = [line.split(" ", 1) for line in text.splitlines()]
    swapped = [f"{line[0]} {other[1]}\n" for line, other in zip(lines, [*lines[1:], lines[0]], strict=True)]
    known.write_text("".join(swapped))
    try:
        with pytest.raises(HostsFailed, match=r"Host key for .* does not match"):
            hosts.run("roles")
        assert known.read_text() == "".join(swapped)
    finally:
        known.write_text(text)
    assert hosts.run("roles").ok


def _has(path: Path, secrets: list[str]) -> bool:
    text = path.read_text(errors="replace")
    return any(secret in text for secret in secrets)
