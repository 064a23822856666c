"""Nobody on a host sees a secret while it is provisioned by a user who has sudo: not in files, processes or logs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rehearsal.hosts import pyinfra as door
from rehearsal.hosts.pyinfra import run_pyinfra
from tests.hosts.conftest import INVENTORY, ROOT, Hosts
from tests.waiting import eventually

PLACE = "/run/watched"
WATCHER = Path(__file__).with_name("watcher.py").read_text()
NAMES = ("db", "app1", "monitor")
# Who logs in is an ordinary user; what the inventory of `docker` says besides stays.
SUDO = """\
import runpy


def _as_deploy(group):
    hosts, data = group
    return hosts, {{**data, "ssh_user": "deploy", "_sudo": True}}


_groups = runpy.run_path({path!r})
database, app, monitor = (_as_deploy(_groups[group]) for group in ("database", "app", "monitor"))
"""
USER = """\
id deploy >/dev/null 2>&1 || useradd -m -s /bin/bash deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy
install -d -m 700 -o deploy -g deploy /home/deploy/.ssh
install -m 600 -o deploy -g deploy /root/.ssh/authorized_keys /home/deploy/.ssh/authorized_keys
"""
GONE = "userdel -rf deploy 2>/dev/null; rm -f /etc/sudoers.d/deploy; rm -rf " + PLACE
# What makes a phase write secrets on a host anew; what it does not mend is left as it is, for the tests that follow.
SPOILED = {
    ("roles", "db"): "rm -f /root/.pg-rehearsal.pgpass; runuser -u postgres -- psql -q"
    " -c \"alter role app password 'x'\" -c \"alter role monitor password 'x'\"",
    ("hosts", "db"): "chmod 640 /etc/postgresql/15/main/server.key",
    ("hosts", "monitor"): "rm -f /etc/pg-rehearsal/exporter.env",
    ("app", "app1"): "rm -f /etc/finance/app.env",
}
# Ways that leak: pyinfra's own, by a file of everybody's in /tmp, and a here-document, which is an argument of `sh`.
TEXT_TO = "    yield text_to(new, text)\n"
LEAKS = {
    "upload": """\
    from io import StringIO

    from pyinfra.api import FileUploadCommand

    yield text_to(new, "")
    yield FileUploadCommand(StringIO(text), new)
""",
    "here-document": """\
    yield StringCommand("sh", "-c", QuoteString(f"umask 077; cat >{new} <<'_'\\n{text}_\\n"))
""",
}


@pytest.fixture(scope="module")
def sudo(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An inventory of the same hosts, on which an ordinary user logs in and has sudo."""
    folder = tmp_path_factory.mktemp("inventories")
    (folder / "group_data").symlink_to(ROOT / "inventories" / "group_data")
    (folder / "docker.py").write_text(SUDO.format(path=str(INVENTORY)))
    for name in NAMES:
        hosts.on(name).check_output(USER)
    yield folder / "docker.py"
    for name in NAMES:
        hosts.on(name).run(GONE)


def secrets(hosts: Hosts) -> list[str]:
    """Return what must not be seen: passwords, verifiers, a part of the server's key."""
    base = hosts.layout.base
    passwords = [path.read_text().strip() for path in (base / "secrets").glob("*.password")]
    return [*passwords, "SCRAM-SHA-256$4096:", (base / "tls" / "server.key").read_text().splitlines()[2]]


@contextmanager
def watched(hosts: Hosts, names: Iterable[str]) -> Generator[dict[str, Any]]:
    """Have somebody look during the block; afterwards the yielded dictionary says for each host what was seen."""
    found: dict[str, Any] = {}
    for name in names:
        _watch(hosts.on(name), secrets(hosts))
    yield found
    found.update({name: _end_watch(hosts.on(name)) for name in names})


def _watch(host: Any, words: list[str]) -> None:
    host.check_output(f"rm -rf {PLACE}; install -d -m 700 -o nobody {PLACE}")
    for file, text in (("words", "\n".join(words)), ("watcher.py", WATCHER)):
        host.check_output(f"cat >{PLACE}/{file} <<'_end_'\n{text}\n_end_\nchmod 644 {PLACE}/{file}")
    command = f"runuser -u nobody -- python3 {PLACE}/watcher.py {PLACE}"
    host.check_output(f"setsid {command} >{PLACE}/log 2>&1 </dev/null & echo")
    eventually(lambda: bool(host.file(f"{PLACE}/ready").exists), 60)


def _end_watch(host: Any) -> dict[str, Any]:
    host.check_output(f"touch {PLACE}/stop")
    eventually(lambda: bool(host.file(f"{PLACE}/seen").exists), 60)
    journal = host.check_output(f"journalctl -o cat --no-pager --since @$(stat -c %Y {PLACE}/ready)")
    return {**json.loads(host.file(f"{PLACE}/seen").content_string), "journal": journal}


def provision_unseen(hosts: Hosts, inventory: Path, wanted: dict[str, list[str]]) -> None:
    """Provision by sudo what was spoiled on hosts, phase to hosts; fails if anybody there could see a secret."""
    for (phase, name), command in SPOILED.items():
        if name in wanted.get(phase, ()):
            hosts.on(name).check_output(command)
    with watched(hosts, {name for names in wanted.values() for name in names}) as found:
        results = [run_pyinfra(inventory, phase, plan=hosts.plan, limit=names) for phase, names in wanted.items()]

    words = secrets(hosts)
    assert all(result.changed for result in results)
    assert {name: said["seen"] for name, said in found.items() if said["seen"]} == {}, "somebody saw a secret"
    logs = {
        **{name: said["journal"] for name, said in found.items()},
        "pyinfra": "".join(result.log for result in results),
    }
    assert [(where, number) for where, text in logs.items() for number, word in enumerate(words) if word in text] == []
    for name, said in found.items():
        assert said["looked"] > 10, said
        assert said["witnesses"], f"nobody saw how a file came to {name}"
        assert ".new" in said["journal"], "sudo kept no log"


@pytest.mark.fault("s01")
def test_nobody_sees_a_secret_while_hosts_are_provisioned_by_sudo(hosts: Hosts, sudo: Path) -> None:
    """Files of everybody's, arguments, environments, sudo's log, what pyinfra says; passwords, verifiers, a key."""
    provision_unseen(hosts, sudo, {"roles": ["db"], "hosts": ["db", "monitor"], "app": ["app1"]})

    owners = {
        "/root/.pg-rehearsal.pgpass": ("db", "root", 0o600),
        "/etc/postgresql/15/main/server.key": ("db", "postgres", 0o600),
        "/etc/finance/app.env": ("app1", "root", 0o640),
    }
    for path, (name, user, mode) in owners.items():
        file = hosts.on(name).file(path)
        assert (file.user, file.mode) == (user, mode)
    assert hosts.run("roles").changed == hosts.run("app").changed == 0


@pytest.mark.fault("s01", mutant=True)
@pytest.mark.parametrize("leak", ["upload", pytest.param("here-document", marks=pytest.mark.hours)])
def test_a_way_that_shows_secrets_is_caught(
    hosts: Hosts, sudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: str
) -> None:
    """The same operations, but for how contents come to the host."""
    for name in ("fleet", "tasks", "templates", "sql", "plans", "inventories"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "deploy.py", tmp_path)
    file = tmp_path / "fleet" / "operations.py"
    assert TEXT_TO in file.read_text()
    file.write_text(file.read_text().replace(TEXT_TO, LEAKS[leak]))
    monkeypatch.setattr(door, "PROJECT", tmp_path)
    monkeypatch.setenv("REHEARSAL_DOCKER_BASE", str(hosts.layout.base))

    with pytest.raises(AssertionError, match="somebody saw a secret"):
        provision_unseen(hosts, sudo, {"roles": ["db"]})
