"""The real command as a process, on an environment `local` of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Place:
    """Folder and ports of an environment, and where its runs go."""

    base: Path
    variables: dict[str, str]

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.base / "runs"

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "rehearsal", *words],
            cwd=ROOT,
            env={**os.environ, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 3,
            check=False,
        )

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it is killed at the end of the block if it still runs."""
        child = subprocess.Popen(
            [sys.executable, "-m", "rehearsal", *words],
            cwd=ROOT,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.communicate()

    def newest(self) -> Path:
        """Return the folder of the newest rehearsal."""
        return max(path for path in self.runs.glob("*-local-*"))

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the newest run."""
        if not list(self.runs.glob("*-local-*")):
            return []
        path = self.newest() / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def await_event(
        self, child: subprocess.Popen[str], wanted: Callable[[dict[str, Any]], bool], after: int = 0
    ) -> dict[str, Any]:
        """Wait until the newest run has such an event, as long as the command lives."""
        return eventually(
            lambda: next((event for event in self.events()[after:] if wanted(event)), None),
            PATIENCE_S,
            unless=lambda: child.poll() is not None and f"exit code {child.returncode}: {child.communicate()[0]}",
            pause=0.005,  # a file tells nobody that it has grown
        )

    def processes(self) -> list[str]:
        """Return the processes that have to do with this environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                about = command + (path / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.base) in about and int(path.name) != os.getpid():
                found.append(f"{path.name} {command}")
        return found


def end(child: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal and return exit code and what was said: Ctrl-C reaches the group, as on a terminal."""
    if number is signal.SIGINT:
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    said, _ = child.communicate(timeout=PATIENCE_S)
    return child.returncode, said
