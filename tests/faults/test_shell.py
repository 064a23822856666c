"""The caller's shell: its variables and limits change no result, and what is missing is said before anything begins."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ports import local_ports
from rehearsal.limits import MIN_OPEN_FILES
from rehearsal.variables import named_in, reduced
from tests.local.conftest import own_folder
from tests.resilience.commands import ROOT, Place

HOSTILE = {
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGSERVICE": "nowhere",
    "PGSSLMODE": "verify-full",
    "PGHOSTADDR": "127.0.0.9",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Kathmandu",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "PYTHONWARNINGS": "error",
    "LANG": "de_DE.ISO-8859-1",
    "LC_ALL": "tr_TR",
    "SOMETHING_ELSE": "x",
}
# The command line as it was: with whatever variables the shell has.
AS_BEFORE = "import sys; from rehearsal.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def place() -> Iterator[Place]:
    """An environment `local` of its own, stopped at the end."""
    with own_folder() as base:
        yield Place(base, {"REHEARSAL_RUNS": str(base / "runs")})


def children(place: Place, *command: str) -> tuple[int, str, dict[str, set[str]]]:
    """Run a rehearsal until it has rows, in a hostile shell; return what its processes had in their environments."""
    words = ("rehearse", "--plan", "sensor_readings", "--rows", "2000", "--until", "baseline", "--keep")
    done = subprocess.run(
        [sys.executable, *command, *words],
        cwd=ROOT,
        env={**os.environ, **place.variables, **HOSTILE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for line in place.processes():
        number, _, what = line.partition(" ")
        try:
            pairs = Path("/proc", number, "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found.setdefault(what, set()).update(pair for pair in pairs if pair)
    return done.returncode, done.stdout + done.stderr, found


def a_hostile_shell_changes_nothing(place: Place, *command: str) -> None:
    """Raise AssertionError unless the rehearsal went on as in any other shell, and no process saw the shell."""
    code, said, found = children(place, *command)
    assert "Traceback" not in said, said
    assert code == 3, said  # stopped before its verdict, as asked
    assert "failed" not in said, said
    leaks = {
        f"{what.split()[0]}: {pair}"
        for what, pairs in found.items()
        for pair in pairs
        for name, value in HOSTILE.items()
        if pair == f"{name}={value}"
    }
    assert leaks == set()
    assert all(any(word in what for what in found) for word in ("postgres", "supervisord", "example_app")), found


@pytest.mark.fault("v09")
def test_variables_of_the_shell_change_nothing(place: Place) -> None:
    """What could mean something is named in the first line; server, process manager and app never see it."""
    a_hostile_shell_changes_nothing(place, "-m", "rehearsal")

    again = place.run("rehearse", "--plan", "sensor_readings", "--until", "nowhere", **HOSTILE)
    assert again.returncode == 2
    assert "no phase 'nowhere'" in again.stderr


@pytest.mark.fault("v09", mutant=True)
def test_without_the_allow_list_the_shell_decides(place: Place) -> None:
    """The mutant: the command line as it was."""
    with pytest.raises(AssertionError, match=r"nowhere|read-only|127\.0\.0\.9|LATIN1"):
        a_hostile_shell_changes_nothing(place, "-c", AS_BEFORE)


def few_files() -> None:
    """Lower the limit of open files, as `ulimit -n 200` does."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


def limits_are_said_first(place: Place, *command: str) -> None:
    """Raise AssertionError unless the low limit is what is said, before anything was begun."""
    done = subprocess.run(
        [sys.executable, *command, "rehearse", "--plan", "sensor_readings", "--resume", "20260101T000000Z-local-x"],
        cwd=ROOT,
        env={**os.environ, **place.variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=few_files,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert f"open files: at most 200, a rehearsal needs {MIN_OPEN_FILES}; raise the hard limit" in done.stderr
    assert not place.runs.exists()


@pytest.mark.fault("v09")
def test_too_few_open_files_are_said_first(place: Place) -> None:
    """Exit code 1, the number, what is needed and what to do."""
    limits_are_said_first(place, "-m", "rehearsal")


@pytest.mark.fault("v09", mutant=True)
def test_without_the_look_at_limits_the_run_begins(place: Place) -> None:
    """The mutant: nobody looks at limits."""
    blind = "import rehearsal.rehearse.run as c; c.require_limits = lambda *_: None; "
    with pytest.raises(AssertionError, match="no run"):
        limits_are_said_first(place, "-c", blind + AS_BEFORE)


def test_what_the_inventory_names_passes(tmp_path: Path) -> None:
    """By its name as a text, wherever it stands; another one does not, and an inventory that is none names nothing."""
    (tmp_path / "group_data").mkdir()
    (tmp_path / "staging.py").write_text("db_migrator_password = {'env': 'SECRET_OF_MINE'}\n")
    (tmp_path / "group_data" / "all.py").write_text("needs_env = ['VAULT_ADDR']\n")
    (tmp_path / "broken.py").write_text("database = [\n")
    shell = {"SECRET_OF_MINE": "1", "VAULT_ADDR": "2", "VAULT_TOKEN": "3", "REHEARSAL_RUNS": "4", "FAKETIME": "5"}

    seen = reduced(shell, named_in(tmp_path))

    assert sorted(name for name in shell if name in seen) == [
        "FAKETIME", "REHEARSAL_RUNS", "SECRET_OF_MINE", "VAULT_ADDR"
    ]  # fmt: skip


def test_two_checkouts_have_ports_of_their_own(tmp_path: Path) -> None:
    """Chosen once and kept; taken by somebody else while nothing of ours is up: others; for more apps: enough."""
    first, second = (local_ports(tmp_path / name, 2) for name in ("one", "two"))

    assert local_ports(tmp_path / "one", 2) == first
    assert len({*first, first[1] + 1, *second, second[1] + 1}) == 6

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first[1]))
        taken.listen()
        moved = local_ports(tmp_path / "one", 2)
        (tmp_path / "two" / "cluster" / "data").mkdir(parents=True)
        (tmp_path / "two" / "cluster" / "data" / "postmaster.pid").touch()
        assert moved != first
        assert local_ports(tmp_path / "two", 2) == second
        assert local_ports(tmp_path / "one", 9)[0] not in {first[0], second[0]}
