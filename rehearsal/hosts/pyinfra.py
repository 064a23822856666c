"""The door to the hosts: pyinfra as a child process, and environments as its inventories describe them.

Owns how a run of pyinfra is started, watched, judged and ended. Must not import pyinfra: its command line patches the
whole interpreter, which ruins every latency that is measured in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rehearsal.errors import HostsFailed, UsageError
from rehearsal.evidence.events import HostsDone, OperationDone
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan

PROJECT = Path(__file__).resolve().parents[2]
GROUPS = {
    "hosts": ("database", "app", "monitor"),
    "cluster": ("database",),
    "roles": ("database",),
    "migrate": ("database",),
    "app": ("app",),
    "app-log": ("app",),
    "db-log": ("database",),
    "flags": ("app",),
    "flags-show": ("app",),
    "lifecycle": ("clock",),
    "lifecycle-job": ("clock",),
    "lifecycle-show": ("clock",),
}
DEFAULT_FLAGS = ("USE_PARTITIONED_TABLES", "ENABLE_PARTITION_ROUTING")
STOP_TIMEOUT_S = 10
STDERR_LINES = 6


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What one operation did on one host."""

    host: str
    name: str
    ok: bool
    changed: bool
    seconds: float
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class HostsResult:
    """What one run of pyinfra did. `ok` needs a record of every expected host: its exit code alone lies."""

    phase: str
    returncode: int
    seconds: float
    expected: tuple[str, ...]
    failed: tuple[str, ...]
    operations: tuple[OperationResult, ...]
    reports: dict[str, dict[str, Any]]
    planned: tuple[tuple[str, str], ...]
    would_change: tuple[tuple[str, str], ...]
    log: str = field(repr=False, default="")
    timed_out: bool = False

    @property
    def changed(self) -> int:
        """Number of operations that changed something."""
        return sum(operation.changed for operation in self.operations)

    @property
    def ok(self) -> bool:
        """Whether every expected host is in the wanted state."""
        return not self.reason

    def problem_of(self, host: str) -> str | None:
        """Why one host is not in the wanted state: its operation's error, what pyinfra said of it, or the run's reason.

        None if every operation that it was to do went well.
        """
        own = [operation for operation in self.operations if operation.host == host]
        if broken := next((operation for operation in own if not operation.ok), None):
            return f"{_sentence(broken.name)} failed: {last_lines(broken.stderr)}"
        if own and host not in self.failed:
            return None
        said = [line.strip().removeprefix(f"[{host}]").strip() for line in self.log.splitlines() if f"[{host}]" in line]
        if said and host in self.failed:
            return " | ".join(said[-STDERR_LINES:])
        return self.reason or "the host reported nothing"

    @property
    def reason(self) -> str | None:
        """Why the run failed: host, operation and the last lines of its error."""
        if self.timed_out:
            return f"the phase {self.phase} took longer than its {self.seconds:.0f} s"
        if broken := next((operation for operation in self.operations if not operation.ok), None):
            return f"{broken.host}: {_sentence(broken.name)} failed: {last_lines(broken.stderr)}"
        if self.failed:
            return f"no connection to {', '.join(self.failed)}, or no facts of it: {last_lines(self.log)}"
        if self.returncode != 0:
            return f"pyinfra exited with status {self.returncode} in the phase {self.phase}: {last_lines(self.log)}"
        if not self.expected or not (self.planned or self.reports):
            return f"no host did anything in the phase {self.phase}; does the inventory have such a host?"
        return None


def run_pyinfra(
    inventory: Path,
    phase: str,
    *,
    plan: Plan,
    limit: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    dry: bool = False,
    run: Run | None = None,
    timeout: float = 600,
) -> HostsResult:
    """Bring the hosts to the state that a phase of `deploy.py` wants; each operation becomes an event of the run.

    `limit` names groups or hosts; without it, the group that the phase is for. `data` must hold no secret: it is in
    argv. Ctrl-C and the timeout end pyinfra and its local commands.

    Raises:
        HostsFailed: a host was not reached, or an operation failed; names host, operation and error.
    """
    result = try_pyinfra(inventory, phase, plan=plan, limit=limit, data=data, dry=dry, run=run, timeout=timeout)
    if result.reason:
        raise HostsFailed(result.reason)
    return result


def try_pyinfra(
    inventory: Path,
    phase: str,
    *,
    plan: Plan,
    limit: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    dry: bool = False,
    run: Run | None = None,
    timeout: float = 600,
    all_or_none: bool = True,
) -> HostsResult:
    """Do what `run_pyinfra` does, and return a failure instead of raising it.

    Unless `all_or_none`, a host that cannot be reached does not keep the others from what is to be done there.
    """
    if phase not in GROUPS:
        message = f"unknown phase {phase!r} of the hosts; there are {', '.join(GROUPS)}"
        raise UsageError(message)
    values = {"phase": phase, **plan_values(plan), **(data or {})}
    command = [sys.executable, "-m", "pyinfra", str(inventory.absolute()), "deploy.py"]
    command += ["--fail-percent", "0" if all_or_none else "100"]
    command.append("--dry" if dry else "-y")
    for name in limit or GROUPS[phase]:
        command += ["--limit", name]
    for key, value in values.items():
        command += ["--data", f"{key}={json.dumps(value)}"]
    with tempfile.TemporaryDirectory(prefix="pg-rehearsal-") as folder:
        return _watch(command, phase, Path(folder), run, timeout)


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return what the host layer is told of a plan (`fleet/plans.py` reads the same from the plan's file)."""
    reads, writes = flag_names(plan)
    tables = [table.name for table in plan.tables]
    named = {"plan": plan.name, "strategy": plan.strategy, "tables": tables}
    return {**named, "flag_reads": reads, "flag_writes": writes}


def flag_names(plan: Plan) -> tuple[str, str]:
    """Return the names of the flags for reads and for writes."""
    return (plan.flags.reads, plan.flags.writes) if plan.flags else DEFAULT_FLAGS


class _Lines:
    """The recorder's lines, read while they are written."""

    def __init__(self, path: Path, run: Run | None) -> None:
        self.seen: list[dict[str, Any]] = []
        self._run = run
        path.touch()
        self._file = path.open(encoding="utf-8")
        self._rest = ""

    def read(self) -> None:
        """Take in what was written since; events go on at once."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            value: dict[str, Any] = json.loads(line)
            self.seen.append(value)
            if self._run and value["ev"] == "op":
                did = (value[key] for key in ("host", "op", "ok", "changed", "seconds"))
                self._run.tell(OperationDone(*did))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of one kind."""
        return [line for line in self.seen if line["ev"] == kind]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _watch(command: list[str], phase: str, folder: Path, run: Run | None, timeout: float) -> HostsResult:
    started = time.monotonic()
    log = folder / "log"
    lines = _Lines(folder / "events", run)
    variables = {"REHEARSAL_EVENTS": str(folder / "events"), "PYINFRA_PROGRESS": "off"}
    with contextlib.closing(lines):
        with log.open("wb") as out, _child(command, out, variables) as child:
            returncode = _wait(child, lines, started + timeout)
        lines.read()
    text = log.read_text(errors="replace")
    if run:
        run.append_text("hosts.log", text)
    result = _result(phase, returncode, time.monotonic() - started, lines, text)
    if run:
        run.tell(_summary(result))
    return result


def _summary(result: HostsResult) -> HostsDone:
    """Return what is told at the end of a run of pyinfra."""
    failed = sum(not operation.ok for operation in result.operations) + len(result.failed)
    many, hosts = len(result.operations), tuple(result.expected)
    return HostsDone(result.phase, hosts, many, result.changed, failed, round(result.seconds, 1))


@contextlib.contextmanager
def _child(
    command: list[str], out: IO[bytes], variables: dict[str, str]
) -> Generator[subprocess.Popen[bytes], None, None]:
    child = subprocess.Popen(
        command,
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **variables},
    )
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything in its process group; does nothing if the child has ended by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_TIMEOUT_S)


def _wait(child: subprocess.Popen[bytes], lines: _Lines, deadline: float) -> int | None:
    """Wait for the end, taking in lines; None if the time is up."""
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(0.1)
        lines.read()
    return None


def _result(phase: str, returncode: int | None, seconds: float, lines: _Lines, log: str) -> HostsResult:
    expected = tuple(name for line in lines.of("expected") for name in line["hosts"])
    hosts = {line["host"]: line for line in lines.of("host")}
    planned = [(name, op) for name, line in hosts.items() for op in line["ops"]]
    operations = tuple(
        OperationResult(line["host"], line["op"], line["ok"], line["changed"], line["seconds"], line["stderr"])
        for line in lines.of("op")
    )
    drift = ((name, op["op"]) for name, op in planned if op["would_change"] and not op["conditional"])
    return HostsResult(
        phase=phase,
        returncode=-1 if returncode is None else returncode,
        seconds=seconds,
        expected=expected,
        failed=tuple(name for name in expected if name not in hosts or hosts[name]["failed"]),
        operations=operations,
        reports={line["host"]: line["values"] for line in lines.of("report")},
        planned=tuple((name, op["op"]) for name, op in planned),
        would_change=tuple(drift),
        log=log,
        timed_out=returncode is None,
    )


def _sentence(name: str) -> str:
    return f"{name[:1].lower()}{name[1:]!s}"


def last_lines(text: str) -> str:
    """Return the end of what pyinfra or a child of ours said: our own error if there is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("-->")]
    # The last line of a traceback says what went wrong; what pyinfra adds below it does not.
    if own := [line for line in lines if line.startswith("fleet.") and "Error: " in line]:
        return own[-1].partition("Error: ")[2]
    return " | ".join(lines[-STDERR_LINES:]) or "no output"
