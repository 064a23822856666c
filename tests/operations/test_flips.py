"""Decisions of the operation that flips a server; what its shell text does to files and apps, tests over SSH hold."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.conftest import Fake, Ran

SYSTEMD: dict[str, Any] = {
    "app_manager": "systemd",
    "app_service": "finance.service",
    "env_file": "/etc/finance/my app.env",
}
KUBERNETES: dict[str, Any] = {
    "app_manager": "command",
    "app_restart": "kubectl rollout restart deployment/finance",
    "app_flags_now": "kubectl set env deployment/finance --list",
    "app_flags_set": "kubectl set env deployment/finance {flags}",
}
FLAGS = {"READS": True, "WRITES": False}
ARE = ["READS=true", "WRITES=false", "seen"]
ARE_NOT = ["READS=false", "WRITES=false", "seen"]
LOOKED = "said=$({"


def flip(fake: Fake, printed: list[str], data: dict[str, Any] = SYSTEMD, *, restart: bool = False) -> Ran:
    """Flip a server whose own look at its flags prints this."""
    return fake.run("operations.routing_flags", {LOOKED: printed}, data, data={}, flags=FLAGS, restart=restart)


def test_an_app_that_runs_with_the_flags_is_left_alone(fake: Fake) -> None:
    """Nothing is written, nobody is restarted; it was looked at with one command."""
    ran = flip(fake, ARE)

    assert ran.noop == "the app runs with these flags"
    assert len(set(ran.lines)) == 1
    assert "cat '\"'\"'/etc/finance/my app.env'" in ran.lines[0]
    assert "^(READS|WRITES)=" in ran.lines[0]


@pytest.mark.parametrize("have", [ARE_NOT, ["READS=true", "seen"], ["seen"]])
def test_other_flags_are_written_and_then_the_app_is_restarted(fake: Fake, have: list[str]) -> None:
    """A flag that differs, one that is missing, none at all: one command does both, in this order."""
    sh, dash_c, script, *words = flip(fake, have).only.words

    assert (sh, dash_c) == ("sh", "-c")
    assert words == ["sh", "/etc/finance/my app.env", "READS|WRITES", "READS=true", "WRITES=false"]
    assert script.startswith("set -e\n")
    assert script.index('mv -f "$new" "$file"') < script.index("systemctl restart finance.service")


@pytest.mark.parametrize(("have", "restart"), [([*ARE, "stale"], False), (ARE, True)])
def test_an_app_with_the_flags_in_its_file_only_is_restarted_and_no_more(
    fake: Fake, have: list[str], *, restart: bool
) -> None:
    """It is older than its file, or answers with other flags: the file stays as it is."""
    command = flip(fake, have, restart=restart).only

    assert "mv -f" not in command.line
    assert "systemctl restart finance.service" in command.words[2]


def test_flags_that_are_kept_elsewhere_are_set_by_the_inventory_s_command(fake: Fake) -> None:
    """Every flag is a word of it; there is no file to write."""
    same, other = flip(fake, ARE, KUBERNETES), flip(fake, ARE_NOT, KUBERNETES)

    script = other.only.words[2]
    assert same.noop == "the app runs with these flags"
    assert "kubectl set env deployment/finance --list" in same.lines[0]
    assert "( kubectl set env deployment/finance READS=true WRITES=false\n)" in script
    assert script.index("set env") < script.index("( kubectl rollout restart deployment/finance\n)")
    assert "mv -f" not in script


@pytest.mark.parametrize(
    ("data", "restarts"),
    [
        ({**SYSTEMD, "app_restart": "sudo systemctl restart other"}, "( sudo systemctl restart other\n)"),
        (
            {**SYSTEMD, "app_manager": "docker", "app_container": "fi nance"},
            "( docker restart 'fi nance' >/dev/null\n)",
        ),
        (
            {**SYSTEMD, "app_manager": "supervisord", "base": "/b", "app_server": "app1"},
            "-m fleet.local restart --base /b --program app1 >/dev/null\n)",
        ),
    ],
)
def test_each_manager_restarts_in_its_own_way(fake: Fake, data: dict[str, Any], restarts: str) -> None:
    """The inventory's own command beats the manager's."""
    assert restarts in flip(fake, ARE_NOT, data).only.words[2]


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (["!cat: /etc/app.env: Permission denied", "seen"], "cat: /etc/app.env: Permission denied"),
        ([*ARE, "!cut off", "seen"], "cut off"),
        ([], "no shell could be had; check _sudo, _sudo_user and _su_user of the host"),
    ],
)
def test_a_server_whose_flags_cannot_be_read_is_not_flipped(fake: Fake, printed: list[str], said: str) -> None:
    """Even if a restart is wanted: what would be overwritten was not seen."""
    refusal = flip(fake, printed, restart=True).refusal

    assert refusal == f"cannot read the flags: {said}; deploy the app first"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {**SYSTEMD, "app_manager": "upstart"},
            "app_manager is 'upstart'; it must be one of systemd, supervisord, docker",
        ),
        ({"app_manager": "systemd", "env_file": "/x"}, "the inventory does not say `app_service`, which app_manager"),
        ({"app_manager": "command", "env_file": "/x"}, "does not say how to restart the app (app_restart)"),
    ],
)
def test_a_manager_that_cannot_restart_is_refused_before_anything_is_asked(
    fake: Fake, data: dict[str, Any], said: str
) -> None:
    """A refusal fails the host; an exception would end the run of every host."""
    ran = flip(fake, ARE_NOT, data)

    assert said in ran.refusal
    assert not any(LOOKED in line for line in ran.lines)
