"""How facts read what hosts print. The `@fake` host pins this reading; what hosts really print, tests on hosts hold."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.operations.conftest import SESSION, Fake

SUM = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
FLAGS = ["ENABLE_PARTITION_ROUTING", "USE_PARTITIONED_TABLES"]
NO_SHELL = "no shell could be had; check _sudo, _sudo_user and _su_user of the host"
SQL = {"session": SESSION, "query": "select 1"}
FLAG_STATE = {"source": "cat /etc/app.env", "names": FLAGS, "stale": ""}


@pytest.mark.parametrize(
    ("fact", "values", "output", "want"),
    [
        ("facts.SqlRows", SQL, ["a\x1fb", "", "c\x1f", "one|two"], [["a", "b"], ["c", ""], ["one|two"]]),
        ("facts.AppliedChanges", {"session": SESSION}, ["p/001\x1f" + SUM, "p/002\x1f0"], {"p/001": SUM, "p/002": "0"}),
        ("facts.JsonFact", {"words": ["x"]}, ["a warning", '{"port": 1}', '{"port": 2}'], {"port": 2}),
        (
            "facts.FileState",
            {"path": "/etc/x"},
            [SUM, "644 root domain users"],
            {"sha256": SUM, "mode": "644", "owner": "root", "group": "domain users"},
        ),
        (
            "facts.FileState",
            {"path": "/etc/x"},
            [SUM, "0 root root"],
            {"sha256": SUM, "mode": "000", "owner": "root", "group": "root"},
        ),
        (
            "facts.EnvFlags",
            {"path": "/etc/app.env", "names": FLAGS},
            ["ENABLE_PARTITION_ROUTING=false", "USE_PARTITIONED_TABLES='true'", 'ENABLE_PARTITION_ROUTING="true" '],
            {"ENABLE_PARTITION_ROUTING": "true", "USE_PARTITIONED_TABLES": "true"},
        ),
        ("facts.EnvFlags", {"path": "/x", "names": ["URL"]}, ["URL=a=b"], {"URL": "a=b"}),
        (
            "facts.FlagState",
            FLAG_STATE,
            ["ENABLE_PARTITION_ROUTING=true", "stale", "seen"],
            {"flags": {"ENABLE_PARTITION_ROUTING": "true"}, "problem": None, "stale": True},
        ),
        (
            "facts.FlagState",
            FLAG_STATE,
            ["!cat: /etc/app.env: No such file or directory", "seen"],
            {"flags": {}, "problem": "cat: /etc/app.env: No such file or directory", "stale": False},
        ),
        ("facts.StaleService", {"unit": "x.service", "env_file": "/x"}, ["stale"], True),
        ("facts.Lines", {"script": "x"}, ["  one ", "", "two"], ["one", "two"]),
        (
            "debian.Clusters",
            {},
            ["15  main  5432 online          postgres /data /log", "16  old 5433 down,binaries_missing postgres /d /l"],
            {"15/main": "online", "16/old": "down"},
        ),
    ],
)
def test_a_fact_reads_what_a_host_prints(fake: Fake, fact: str, values: Any, output: list[str], want: Any) -> None:
    """Separators, quotes, empty lines, repeated names and names with spaces."""
    assert fake.fact(fact, output, **values) == want


@pytest.mark.parametrize(
    ("fact", "values", "want"),
    [
        ("facts.SqlRows", SQL, []),
        ("facts.AppliedChanges", {"session": SESSION}, {}),
        ("facts.JsonFact", {"words": ["x"]}, {}),
        ("facts.FileState", {"path": "/etc/x"}, {}),
        ("facts.EnvFlags", {"path": "/etc/x", "names": FLAGS}, {}),
        ("facts.FlagState", FLAG_STATE, {"flags": {}, "problem": NO_SHELL, "stale": False}),
        ("facts.Lines", {"script": "x"}, []),
        ("debian.Clusters", {}, {}),
    ],
)
def test_a_host_that_prints_nothing_has_nothing(fake: Fake, fact: str, values: Any, want: Any) -> None:
    """No server, no file, no program; only for flags is silence a problem, since a flip must not guess."""
    assert fake.fact(fact, "", **values) == want


def test_a_unit_of_which_nothing_is_heard_is_not_called_stale(fake: Fake) -> None:
    """The fact's script prints a word only for what is down or old."""
    assert not fake.fact("facts.StaleService", "", unit="x.service", env_file="/x")


@pytest.mark.parametrize(
    ("fact", "values", "output", "want"),
    [
        (
            "facts.AppliedChanges",
            {"session": SESSION},
            ["p/001\x1f" + SUM, "p/002"],
            "answered with ['p/002'], not with",
        ),
        ("facts.FileState", {"path": "/etc/x"}, [SUM, "644 root"], "stat answered with '644 root', not with mode"),
    ],
)
def test_output_that_means_nothing_fails_its_host_and_says_so(
    fake: Fake, fact: str, values: Any, output: list[str], want: str
) -> None:
    """A change that was overlooked would be applied again; a traceback would end the run of every host."""
    assert want in fake.problem(fact, output, **values)


@pytest.mark.parametrize(
    ("fact", "values", "output", "want"),
    [
        ("facts.JsonFact", {"words": ["x"]}, ['{"running": tr'], {}),
        ("facts.FileState", {"path": "/etc/x"}, ["644 root root"], {}),
        ("facts.EnvFlags", {"path": "/x", "names": FLAGS}, ["Binary file matches"], {}),
        ("facts.FlagState", FLAG_STATE, ["USE_PARTITIONED_TABLES=true"], {"problem": NO_SHELL}),
        ("facts.StaleService", {"unit": "x", "env_file": "/x"}, ["date: invalid date"], False),
        ("debian.Clusters", {}, ["15  main  5432"], {}),
    ],
)
def test_output_that_was_cut_off_is_nothing(fake: Fake, fact: str, values: Any, output: list[str], want: Any) -> None:
    """The operation that follows does its work, and fails with the real reason if it cannot."""
    got = fake.fact(fact, output, **values)

    assert got == ({**got, "flags": {}, **want} if fact == "facts.FlagState" else want)


def heard(fake: Fake, fact: str, **values: Any) -> Any:
    """Return a fact's value of what its own command prints in a real shell of this machine."""
    line = fake.ask(fact=f"fleet.{fact}", values=values, answers={})["executed"][0]
    printed = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    return fake.fact(fact, printed, **values)


def test_an_env_file_without_flags_is_not_taken_for_a_host_without_a_shell(fake: Fake, tmp_path: Path) -> None:
    """Neither a flag nor a stale app: there is nothing to print but that it was looked at."""
    path = tmp_path / "app.env"
    path.write_text("PASSWORD=secret\nUSE_PARTITIONED_TABLES_TOO=true\n")
    values = {"source": f"cat {path}", "names": FLAGS, "stale": "true"}

    none = heard(fake, "facts.FlagState", **values)
    path.write_text(path.read_text() + "USE_PARTITIONED_TABLES=true\n")
    flags = heard(fake, "facts.FlagState", **{**values, "stale": "echo stale; exit 0"})
    path.unlink()
    gone = heard(fake, "facts.FlagState", **values)

    assert none == {"flags": {}, "problem": None, "stale": False}
    assert flags == {"flags": {"USE_PARTITIONED_TABLES": "true"}, "problem": None, "stale": True}
    assert (gone["flags"], "No such file" in gone["problem"]) == ({}, True)
