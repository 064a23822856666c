"""Bad input: each a message that says what, where and what next, and the right exit code; nothing half done."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.cluster import Cluster
from tests.resilience.commands import ROOT, Place
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]
PLAN = ("--plan", "sensor_readings")
USAGE, FAILED = 2, 1
WRONG: list[tuple[str, tuple[str, ...], int, str]] = [
    ("environment", ("rehearse", *PLAN, "--env", "locl"), USAGE, r"no environment 'locl'; did you mean 'local'\?"),
    ("plan", ("rehearse", "--plan", "hospitalty"), USAGE, r"no plan 'hospitalty' .* the plans are: .*hospitality"),
    ("until", ("rehearse", *PLAN, "--until", "swichover"), USAGE, r"no phase 'swichover'; did you mean 'switchover'\?"),
    ("from", ("rehearse", *PLAN, "--from", "backup"), USAGE, r"--from needs --resume RUN"),
    (
        "run",
        ("rehearse", *PLAN, "--resume", "20260101T000000Z-local-x"),
        USAGE,
        r"no run '20260101T000000Z-local-x' in",
    ),
    ("rows", ("rehearse", *PLAN, "--rows", "10"), USAGE, r"at least 1000 rows"),
    ("gate", ("explain", "parity-aftr"), USAGE, r"no gate 'parity-aftr'; did you mean 'parity-after'"),
    ("no server", ("verify", *PLAN), FAILED, r"error: .*(superuser|rehearsal)\.password"),
    ("no report", ("report-open",), USAGE, r"no report in .*; make one with `./inv rehearse`"),
]


@pytest.mark.parametrize(
    ("words", "code", "message"), [wrong[1:] for wrong in WRONG], ids=[wrong[0] for wrong in WRONG]
)
def test_wrong_words_are_refused_by_name(place: Place, words: tuple[str, ...], code: int, message: str) -> None:
    """One line on stderr, no traceback, nothing started."""
    done = place.run(*words)

    assert done.returncode == code, done
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert place.processes() == []


def test_an_unknown_key_of_a_plan_is_named_with_its_line(place: Place) -> None:
    """The nearest right key is named too."""
    path = place.base / "mine.toml"
    text = (ROOT / "plans" / "sensor_readings.toml").read_text()
    path.write_text(text.replace("premake = 3", "premak = 3"))

    done = place.run("rehearse", "--plan", str(path))

    line = next(number for number, line in enumerate(text.splitlines(), 1) if line == "premake = 3")
    assert done.returncode == USAGE
    assert f"mine.toml, line {line}:" in done.stderr
    assert "premak" in done.stderr
    assert "did you mean premake?" in done.stderr


def test_a_folder_of_runs_that_cannot_be_written_ends_before_anything_begins(place: Place) -> None:
    """A file stands where the folder should be."""
    (place.base / "file").touch()

    done = place.run("rehearse", *PLAN, REHEARSAL_RUNS=str(place.base / "file" / "runs"))

    assert done.returncode == FAILED
    assert "cannot make the folder of the run" in done.stderr
    assert "free room or fix its rights" in done.stderr
    assert place.processes() == []


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 64 kB; skips where we may not."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("may not mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_for_runs_is_said_and_everything_is_stopped(place: Place) -> None:
    """The disk is full after the first events: the run says so, and how to go on."""
    with small_disk(place.base / "disk") as disk:
        (disk / "ballast").write_bytes(b"x" * 48 * 1024)
        done = place.run("rehearse", *PLAN, "--rows", "2000", REHEARSAL_RUNS=str(disk / "runs"))

    assert done.returncode == FAILED, done
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.processes() == []


def test_a_taken_port_is_named(place: Place) -> None:
    """The port of the database belongs to somebody else."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(place.variables["REHEARSAL_LOCAL_DB_PORT"])))
        other.listen()
        done = place.run("rehearse", *PLAN, "--rows", "2000")

    assert done.returncode == FAILED, done
    assert f"port {place.variables['REHEARSAL_LOCAL_DB_PORT']}" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.processes() == []


def test_a_cluster_whose_programs_are_gone_is_said(place: Place) -> None:
    """The programs of another version, that are nowhere."""
    done = place.run("rehearse", *PLAN, "--rows", "2000", REHEARSAL_LOCAL_MAJOR="9")

    assert done.returncode == FAILED, done
    assert "9" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.processes() == []


def test_wrong_password_and_wrong_mark_are_refused(place: Place) -> None:
    """Against a provisioned environment: the server is up, the password is not its, then the mark is another kind's."""
    assert place.run("provision", *PLAN).returncode == 0
    secret = place.base / "secrets" / "rehearsal.password"
    right = secret.read_text()
    secret.write_text("wrong\n")
    refused = place.run("verify", *PLAN)
    secret.write_text(right)

    assert refused.returncode == FAILED, refused
    assert "password authentication failed" in refused.stderr
    assert "is the password of the inventory right?" in refused.stderr
    assert "wrong" not in refused.stderr.replace("wrongly", "")

    facts = Cluster(place.base / "cluster").facts()
    command = [str(Path(facts["bin"]) / "psql"), "-XAtq", "-h", "127.0.0.1", "-p", str(facts["port"]), "-U", "postgres"]
    statement = "update rehearsal.environment_mark set kind = 'staging'"
    subprocess.run(
        [*command, "-d", "sensor_readings_local", "-c", statement],
        env={**os.environ, "PGPASSWORD": Cluster(place.base / "cluster").password()},
        check=True,
    )
    marked = place.run("migrate", *PLAN)
    assert marked.returncode == FAILED, marked
    assert "is marked 'staging', and environment local is of kind 'local'" in marked.stderr

    pid = int((place.base / "cluster" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    eventually(lambda: not Cluster(place.base / "cluster").is_running(), 60)
    down = place.run("verify", *PLAN)
    assert down.returncode == FAILED, down
    assert "cannot connect to database sensor_readings_local at 127.0.0.1" in down.stderr
    assert "is the server up" in down.stderr
