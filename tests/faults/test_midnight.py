"""A whole rehearsal whose clock passes midnight at the end of a month: of this command, the server and the app.

The clock of all of them is shifted by libfaketime, which `.ci/run` installs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from rehearsal.environment import Database
from rehearsal.errors import RehearsalError
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import connect, scalar
from tests.faketime import faked
from tests.fix_app import free_port
from tests.fix_postgres import ROOT

PATIENCE_S = 3600
# Gates that say how fast this machine is, and those that a small number of rows or no browser leaves open.
OF_THE_MACHINE = {
    "availability", "baseline", "dashboard", "generator", "load", "lock-budget", "query-speed", "rollback-time",
}  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of the private cluster may read too, which is another one where this one is root."""
    with tempfile.TemporaryDirectory(prefix="midnight-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@dataclass
class Seen:
    """What the clocks said while the rehearsal was under way."""

    server: list[datetime] = field(default_factory=list[datetime])
    app: list[datetime] = field(default_factory=list[datetime])


@contextmanager
def rehearsing(folder: Path, variables: Mapping[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command; interrupt it if the test ends before it does."""
    command = [sys.executable, str(ROOT / "tasks.py"), "rehearse", *words]
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables}, stdout=said, stderr=said)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait()


def look(seen: Seen, base: Path, port: int, app_port: int) -> None:
    """Ask server and app what time it is, if they are there just now."""
    secret = base / "cluster" / "superuser.password"
    with suppress(RehearsalError, OSError):
        database = Database("127.0.0.1", port, "postgres", "postgres", secret.read_text().strip())
        with connect(database, role="clock") as conn:
            seen.server.append(scalar(conn, "select now()"))
    with suppress(httpx.HTTPError):
        said = httpx.get(f"http://127.0.0.1:{app_port}/health", timeout=5, trust_env=False)
        seen.app.append(parsedate_to_datetime(said.headers["date"]))


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that nobody listens on now."""
    for first in range(20_000, 30_000, count):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    message = "no free ports"
    raise OSError(message)


def pass_midnight(folder: Path, midnight: datetime, *words: str, before: timedelta, apps: int = 1) -> tuple[int, str]:
    """Rehearse from shortly before midnight until after it; return exit code and output.

    Server and app are asked what time it is, before midnight and after it.
    """
    base, port, app_port = folder / "base", free_port(), free_ports(apps)
    variables = {
        "REHEARSAL_LOCAL_BASE": str(base),
        "REHEARSAL_RUNS": str(folder / "runs"),
        "REHEARSAL_LOCAL_DB_PORT": str(port),
        "REHEARSAL_LOCAL_APP_PORT": str(app_port),
        "REHEARSAL_LOCAL_APPS": str(apps),
        **faked(midnight - before, folder),
    }
    seen = Seen()
    with rehearsing(folder, variables, *words) as process:
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None:
            assert time.monotonic() < deadline, "the rehearsal does not end"
            look(seen, base, port, app_port)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
    said = (folder / "said.txt").read_text()
    assert seen.server, said
    assert midnight - before <= seen.server[0] < midnight <= seen.server[-1], (seen.server, said)
    assert seen.app, said
    assert midnight - before <= seen.app[0] <= seen.app[-1] >= midnight, (seen.app, said)
    print(f"figures: {words}, {seen.server[0]} to {seen.server[-1]}, exit code {process.returncode}")  # noqa: T201 -- kept in docs/long-runs.md
    return process.returncode, said


def rehearse_over_midnight(folder: Path, midnight: datetime, *words: str, before: timedelta) -> None:
    """Rehearse from shortly before midnight until after it; no gate fails but those of the machine."""
    code, said = pass_midnight(folder, midnight, *words, before=before)
    assert code != 2, said
    (made,) = (folder / "runs").iterdir()
    found = Run(made).evidence()
    assert Run(made).began < midnight
    failed = [f"{seen.gate} {seen.subject}: {seen.observed}" for seen in found if seen.passed is False]
    assert not [line for line in failed if line.split()[0] not in OF_THE_MACHINE], failed
    after = {seen.gate for seen in found if seen.passed and datetime.fromisoformat(seen.at) >= midnight}
    assert {"default-empty", "ledger", "parity-after"} <= after, after
    assert any(seen.gate == "target-structure" and seen.passed for seen in found)


@pytest.mark.hours
@pytest.mark.fault("v11")
def test_midnight_at_the_end_of_february(folder: Path) -> None:
    """A small rehearsal; it begins on the last of February and ends on the first of March."""
    words = ("--plan", "sensor_readings", "--rows", "20000")
    rehearse_over_midnight(folder, datetime(2027, 3, 1, tzinfo=UTC), *words, before=timedelta(seconds=25))


@pytest.mark.hours
@pytest.mark.fault("v11")
@pytest.mark.parametrize("plan", ["sensor_readings", "hospitality", "sensor_readings_attach"])
@pytest.mark.parametrize("midnight", ["2027-03-01", "2026-12-01", "2027-01-01"])
def test_whole_rehearsals_over_midnight(folder: Path, plan: str, midnight: str) -> None:
    """Each shipped plan at the end of February, of a month and of a year, from 23:58 on."""
    moment = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    rehearse_over_midnight(folder, moment, "--plan", plan, "--rows", "50000", before=timedelta(minutes=2))


@pytest.mark.hours
@pytest.mark.fault("v11")
@pytest.mark.parametrize("midnight", ["2027-03-01", "2026-12-01"])
def test_the_first_command_is_go_over_midnight(folder: Path, midnight: str) -> None:
    """All shipped plans with all their rows, from 23:58 of the last of February and of a month on; a quiet machine."""
    moment = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    # One of two app servers answers while the flags of the other change.
    code, said = pass_midnight(folder, moment, before=timedelta(minutes=2), apps=2)

    assert code == 0, said
    assert len(list((folder / "runs").iterdir())) == 3
