"""Decisions of operations on files, programs and the throwaway cluster; what their shells do, tests on hosts hold."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import pytest

from fleet.delivery import RECEIVE
from tests.operations.conftest import Fake

SECRET = "s3cr:et w'ord\n"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
FILE: dict[str, Any] = {"path": "/etc/app.env", "text": SECRET}
BASE = "/srv/my base"


@pytest.mark.parametrize(
    ("owner", "have"),
    [(None, "600 anybody staff"), ("root:app", "600 root app")],
)
def test_a_file_that_is_as_wanted_is_left_alone(fake: Fake, owner: str | None, have: str) -> None:
    """Whose it is counts only where an owner is wanted."""
    ran = fake.run("operations.private_file", {"sha256sum": [DIGEST, have]}, **FILE, owner=owner)

    assert ran.noop == "/etc/app.env is as wanted"


@pytest.mark.parametrize(
    "have",
    [
        [],
        ["0" * 64, "600 root app"],
        [DIGEST, "640 root app"],
        [DIGEST, "600 root root"],
        [DIGEST, "600 app app"],
    ],
)
def test_a_file_that_differs_is_replaced_in_one_step(fake: Fake, have: list[str]) -> None:
    """Contents, mode, owner, group: made private and filled, then given away and moved; no word has the secret."""
    ran = fake.run("operations.private_file", {"sha256sum": have}, **FILE, owner="root:app")

    filled, moved = ran.commands
    assert filled.words[-2:] == ["sh", "/etc/app.env.new"]
    assert filled.words[2] == RECEIVE.format("cat")
    assert filled.text == SECRET
    new = "/etc/app.env.new"
    assert moved.words == ["chown", "root:app", new, "&&", "chmod", "600", new, "&&", "mv", "-f", new, "/etc/app.env"]
    assert not any(part in line for line in ran.lines for part in (SECRET, "s3cr", "ord"))


def test_a_text_without_a_newline_at_its_end_gets_one(fake: Fake) -> None:
    """As pyinfra adds it to a standard input: without it, every run would find another file than it wants."""
    ran = fake.run("operations.private_file", {"sha256sum": [DIGEST, "600 a b"]}, path="/p", text=SECRET.rstrip("\n"))

    assert ran.noop == "/p is as wanted"


def test_hosts_meet_by_doing_nothing(fake: Fake) -> None:
    """Every host has the operation, so none goes on before the others are there."""
    assert fake.run("operations.together", {}).noop == "all hosts are here"


def test_a_file_without_a_wanted_owner_is_given_to_nobody(fake: Fake) -> None:
    """It stays that of the user who logs in; a path with spaces is one word."""
    ran = fake.run("operations.private_file", {}, path="/a b", text="x", mode="644")

    assert ran.commands[-1].words == ["chmod", "644", "/a b.new", "&&", "mv", "-f", "/a b.new", "/a b"]


def test_a_password_is_made_once_and_only_on_the_host(fake: Fake) -> None:
    """A second one would lock everybody out; a first one is in no command."""
    there = fake.run("operations.generated_password", {"sha256sum": [DIGEST, "600 a b"]}, path="/p w")
    missing = fake.run("operations.generated_password", {}, path="/p w")

    assert there.noop == "/p w is there"
    assert missing.only.words[-3:] == ["sh", "/p w", sys.executable]
    assert "secrets.token_urlsafe" in missing.only.words[2]
    assert missing.only.text is None


@pytest.mark.parametrize("status", [{}, {"running": False, "port": 5433}, {"running": True, "port": 5432}])
def test_a_cluster_that_is_down_or_elsewhere_is_started(fake: Fake, status: Any) -> None:
    """Nothing there, stopped, on another port."""
    ran = fake.run("operations.cluster", {"fleet.cluster": json.dumps(status)}, base=BASE, port=5433, major=15)

    launcher = [sys.executable, "-m", "fleet.cluster", "start"]
    assert ran.only.words == [*launcher, "--base", BASE, "--port", "5433", "--major", "15"]


def test_a_cluster_that_is_up_is_left_alone(fake: Fake) -> None:
    """Whatever its version: it is not made anew behind anybody's back."""
    status = json.dumps({"running": True, "port": 5433})
    ran = fake.run("operations.cluster", {"fleet.cluster status": status}, base=BASE, port=5433, major=15)

    assert ran.noop == f"the cluster in {BASE} is up"


def test_the_process_manager_is_started_unless_it_knows_its_programs(fake: Fake) -> None:
    """Up with older files is not enough."""
    up, old, down = (
        fake.run("operations.supervisor", {"fleet.local status": said}, base=BASE)
        for said in ('{"current": true}', '{"current": false}', "")
    )

    assert up.noop == "the process manager is up"
    assert old.only.words == down.only.words == [sys.executable, "-m", "fleet.local", "start", "--base", BASE]


@pytest.mark.parametrize(
    ("programs", "restarted"),
    [({"app1": {"current": True}}, False), ({"app1": {"current": False}}, True), ({"app2": {"current": True}}, True)],
)
def test_a_program_is_restarted_unless_it_runs_with_its_files(fake: Fake, programs: Any, *, restarted: bool) -> None:
    """Another program's state says nothing of it."""
    said = json.dumps({"programs": programs})
    ran = fake.run("operations.program", {"fleet.local status": said}, base=BASE, program="app1")

    words = [sys.executable, "-m", "fleet.local", "restart", "--base", BASE, "--program", "app1"]
    assert [command.words for command in ran.commands] == ([words] if restarted else [])
    assert restarted or ran.noop == "app1 runs with its present files"


@pytest.mark.parametrize("restart", [None, "pm2 reload finance && true"])
def test_a_stale_unit_is_restarted_in_the_inventory_s_way(fake: Fake, restart: str | None) -> None:
    """The files that it reads at its start are looked at too."""
    values: dict[str, Any] = {"unit": "my app.service", "env_file": "/e", "restart": restart, "files": ["/f 1", "/f2"]}
    fresh, stale = (fake.run("operations.service", {"is-active": said}, **values) for said in ("", "stale"))

    assert fresh.noop == "my app.service runs with its present files"
    assert stale.only.line == restart or stale.only.words == ["systemctl", "restart", "my app.service"]
    assert (stale.only.line == restart) == (restart is not None)
    assert stale.lines[0].endswith(" sh 'my app.service' /e '/f 1' /f2")
