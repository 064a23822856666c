"""Decisions of operations on hosts that are ours: server, units, folders, firewall; `tests/hosts/` holds the rest."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from fleet.delivery import RECEIVE
from tests.operations.conftest import Answers, Command, Fake

TEXT = "[Service]\nUser=finance\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
AS_WANTED = [DIGEST, "644 root root"]
RELOAD = ["systemctl", "daemon-reload"]


def tails(commands: list[Command]) -> list[str]:
    """Return where a file is sent, or a command's last word."""
    return [command.words[-1] for command in commands]


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        (
            "16  main 5432 online postgres /d /l",
            ["pg_createcluster", "15", "main", "--start", "--", "--data-checksums"],
        ),
        ("15  main 5432 down postgres /d /l", ["systemctl", "start", "postgresql@15-main"]),
    ],
)
def test_a_cluster_is_made_where_there_is_none_and_started_where_it_is_down(
    fake: Fake, clusters: str, words: list[str]
) -> None:
    """One of another version is another cluster."""
    ran = fake.run("debian.debian_cluster", {"pg_lsclusters": clusters}, major=15)

    assert ran.only.words[: len(words)] == words


def test_a_cluster_that_is_up_is_not_made_anew(fake: Fake) -> None:
    """In recovery too it is online."""
    ran = fake.run("debian.debian_cluster", {"pg_lsclusters": "15 main 5432 online,recovery postgres /d /l"}, major=15)

    assert ran.noop == "the cluster 15/main is up"


def test_access_rules_are_sent_beside_the_old_ones_and_tried(fake: Fake) -> None:
    """The file that the server reads is not touched by the upload."""
    same = fake.run("debian.access_rules", {"sha256sum": [DIGEST, "640 postgres postgres"]}, path="/hba", text=TEXT)
    other = fake.run("debian.access_rules", {"sha256sum": ["0" * 64, "640 p p"]}, path="/hba", text=TEXT)

    assert same.noop == "/hba is as wanted"
    assert tails(other.commands) == ["/hba.new.new", "/hba.new", "/hba"]
    assert "pg_hba_file_rules where error is not null" in other.commands[-1].line


@pytest.mark.parametrize("pending", ["reload", "restart", ["reload", "restart"]])
def test_a_server_takes_in_what_it_has_not_yet(fake: Fake, pending: str | list[str]) -> None:
    """It is asked about each file; a restart is left to what a reload finds out."""
    values: dict[str, Any] = {"major": 15, "files": ["/a b.conf", "/c"]}
    converged = fake.run("debian.converged", {}, **values)
    other = fake.run("debian.converged", {"pg_conf_load_time": pending}, **values)

    assert converged.noop == "the server runs with its present settings"
    assert "sh postgresql@15-main '/a b.conf' /c" in converged.lines[0]
    assert other.only.words[-2:] == ["sh", "postgresql@15-main"]
    assert 'systemctl reload "$1"' in other.only.words[2]


def test_settings_that_are_not_in_force_are_refused_by_name(fake: Fake) -> None:
    """All at once; a server that says nothing was not looked at."""
    fine, wrong, silent = (
        fake.run("debian.settings_in_force", {"pg_file_settings": rows}, path="/c")
        for rows in (["seen"], ["work_mem: invalid value", "max_connections waits for a restart", "seen"], [])
    )

    assert fine.noop == "all settings are in force"
    assert wrong.refusal == "work_mem: invalid value; max_connections waits for a restart"
    assert silent.refusal == "the server does not answer on its socket"


UNIT = "/etc/systemd/system/x.service"
DROP_IN = "/etc/systemd/system/x.service.d/50-pg-rehearsal.conf"


@pytest.mark.parametrize("have", [[], ["0" * 64, "644 root root"], [DIGEST, "600 root root"]])
@pytest.mark.parametrize(("operation", "path"), [("units.unit", UNIT), ("units.drop_in", DROP_IN)])
def test_a_unit_s_file_is_written_and_systemd_told(fake: Fake, operation: str, path: str, have: list[str]) -> None:
    """A file that others cannot read is written too; systemd is told last."""
    ran = fake.run(operation, {"sha256sum": have, "NeedDaemonReload": "no"}, unit="x.service", text=TEXT)

    *written, told = ran.commands
    assert tails(written) == [f"{path}.new", path]
    assert written[0].text == TEXT
    assert told.words[:2] == RELOAD
    assert ("enable" in told.words) == (operation == "units.unit")


@pytest.mark.parametrize(("operation", "asked"), [("units.unit", ["no", "enabled"]), ("units.drop_in", ["no"])])
def test_a_unit_that_systemd_knows_is_left_alone(fake: Fake, operation: str, asked: list[str]) -> None:
    """And one whose file is right, but not taken in yet (a killed run), is only told."""
    known, unknown = (
        fake.run(operation, {"sha256sum": AS_WANTED, "NeedDaemonReload": said}, unit="x.service", text=TEXT)
        for said in (asked, ["yes", *asked[1:]])
    )

    assert known.noop.startswith("x.service ")
    assert unknown.only.words[:2] == RELOAD


def test_a_unit_that_does_not_start_with_the_host_is_enabled(fake: Fake) -> None:
    """Its file is as wanted."""
    answers = {"sha256sum": AS_WANTED, "NeedDaemonReload": ["no", "disabled"]}
    ran = fake.run("units.unit", answers, unit="x.service", text=TEXT)

    assert ran.only.words == [*RELOAD, "&&", "systemctl", "enable", "--quiet", "x.service"]


@pytest.mark.parametrize("current", ["", "older"])
def test_a_release_is_sent_and_unpacked_once(fake: Fake, tmp_path: Path, current: str) -> None:
    """By its digest; the link tells which one is there."""
    (tmp_path / "app.tar.gz").write_bytes(b"\0\xff\n")
    values = {"archive": str(tmp_path / "app.tar.gz"), "digest": "abc", "folder": "/opt/my app"}
    there = fake.run("units.unpacked", {"readlink": "abc"}, **values)
    other = fake.run("units.unpacked", {"readlink": current}, **values)

    sent, made, unpacked = other.commands
    assert there.noop == "/opt/my app has the present release"
    assert sent.words[2:] == [RECEIVE.format("base64 -d"), "sh", "/root/.abc.tar.gz"]
    assert base64.b64decode(sent.text or "") == b"\0\xff\n"
    assert made.words == ["mkdir", "-p", "/opt/my app"]
    assert unpacked.words[-4:] == ["sh", "/opt/my app", "abc", "/root/.abc.tar.gz"]


def test_a_user_of_the_system_is_made_once_and_cannot_log_in(fake: Fake) -> None:
    """Without a home and without a shell."""
    there = fake.run("units.system_user", {"getent passwd": "finance:x:1:1::/:/bin/sh"}, user="finance")
    missing = fake.run("units.system_user", {}, user="finance")

    assert there.noop == "user finance is there"
    assert missing.only.words[-3:] == ["--shell", "/usr/sbin/nologin", "finance"]
    assert {"--system", "--no-create-home"} < set(missing.only.words)


@pytest.mark.parametrize(
    "have",
    ["", "directory 755 root:adm", "directory 750 root:root", "regular file 750 root:adm", "directory 750 x:adm"],
)
def test_a_folder_gets_its_mode_and_owner(fake: Fake, have: str) -> None:
    """One that is missing or differs; a file in its place is for `install` to refuse."""
    values = {"path": "/var/log/my app", "mode": "750", "owner": "root:adm"}
    right = fake.run("units.folder", {"stat -c": "directory 750 root:adm"}, **values)
    wrong = fake.run("units.folder", {"stat -c": have}, **values)

    assert right.noop == "/var/log/my app is as wanted"
    assert wrong.only.words == ["install", "-d", "-m", "750", "-o", "root", "-g", "adm", "/var/log/my app"]


SUMS = ["aa  -", "aa  -"]


@pytest.mark.parametrize(
    ("answers", "written"),
    [
        ({"sha256sum | cut": "", 'sha256sum "$1"': "", "nft list": SUMS}, True),
        ({'sha256sum "$1"': AS_WANTED, "nft list": ["aa  -", "bb  -"]}, False),
        ({'sha256sum "$1"': AS_WANTED, "nft list": ["aa  -"]}, False),
        ({'sha256sum "$1"': ["0" * 64, "640 root root"], "nft list": SUMS}, True),
    ],
)
def test_rules_of_the_firewall_are_loaded_if_they_are_valid(fake: Fake, answers: Answers, *, written: bool) -> None:
    """Other rules, none, ones that somebody changed by hand, ones that were never loaded."""
    ran = fake.run("units.firewall", answers, text=TEXT)

    assert len(ran.commands) == (3 if written else 1)
    rules = "/etc/nftables.d/pg-rehearsal.nft"
    restart = ["systemctl", "restart", "pg-rehearsal-firewall.service"]
    assert ran.commands[-1].words == ["nft", "-c", "-f", rules, "&&", *restart]


def test_a_firewall_that_is_as_it_was_loaded_is_left_alone(fake: Fake) -> None:
    """Existing connections do not notice a second run."""
    ran = fake.run("units.firewall", {'sha256sum "$1"': AS_WANTED, "nft list": SUMS}, text=TEXT)

    assert ran.noop == "the firewall is as wanted"
