"""A real browser looks at the dashboard: is it drawn, and is the console clean.

Drives an installed Chromium through its debugging pipe (two file descriptors, messages that end in a zero byte), so
that no port is opened. Kept by hand, and small: the usual clients (Playwright, Selenium) bring a browser or a driver of
their own, and nothing is downloaded on a host; what is asked of the browser is one page, its console and a picture.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.errors import CannotSee

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root otherwise; it is shown our own page only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--window-size=1280,900",
    "--remote-debugging-pipe",
)
# The browser reads descriptor 3 and writes descriptor 4; exec keeps them only where dup2 made them.
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
FIRST_FREE_FD = 10
STARTUP_SECONDS = 30.0

READY = """
new Promise((resolve) => {
  const look = () => document.querySelector(SELECTOR) !== null && (resolve(true), true);
  if (!look()) new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
})
"""


@dataclass(frozen=True, slots=True)
class DashboardResult:
    """What the browser saw; `passed` is None when there was no browser, or it could not do its work."""

    passed: bool | None
    observed: str
    console_errors: tuple[str, ...] = ()


def find_browser() -> str | None:
    """Return the program of an installed browser, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def check_dashboard(url: str, selector: str, *, screenshot: Path, max_seconds: float) -> DashboardResult:
    """Open the page in a new profile, wait until `selector` matches, and take a screenshot either way.

    Passed: it matched in time and nothing was logged to the console as an error, failed requests included.
    """
    program = find_browser()
    if program is None:
        return DashboardResult(None, f"no browser found; install one of {', '.join(BROWSERS)}")
    try:
        with _browser(program) as pipe:
            return _look(pipe, url, selector, screenshot, max_seconds)
    except (CannotSee, OSError) as exc:
        return DashboardResult(None, f"the browser {program} could not look: {exc}")


def _look(pipe: _Pipe, url: str, selector: str, screenshot: Path, max_seconds: float) -> DashboardResult:
    target = pipe.ask("Target.createTarget", STARTUP_SECONDS, url="about:blank")["targetId"]
    pipe.session = pipe.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log"):
        pipe.ask(f"{domain}.enable")
    started = time.monotonic()
    refused = pipe.ask("Page.navigate", max_seconds, url=url).get("errorText")
    if refused:
        return DashboardResult(None, f"page not reached: {refused}")
    is_drawn = _wait_for(pipe, selector, started + max_seconds)
    seconds = time.monotonic() - started
    picture = pipe.ask("Page.captureScreenshot", format="png")["data"]
    screenshot.write_bytes(base64.b64decode(picture))
    errors = tuple(line for event in pipe.events if (line := _console_error(event)))
    seen = f"drawn after {seconds:.2f} s" if is_drawn else f"{selector} did not appear within {max_seconds:g} s"
    return DashboardResult(is_drawn and not errors, f"{seen}; {len(errors)} console errors", errors)


def _wait_for(pipe: _Pipe, selector: str, deadline: float) -> bool:
    """Wait in the page itself; a page that is replaced meanwhile loses the question, which is then asked again."""
    question = READY.replace("SELECTOR", json.dumps(selector))
    while (left := deadline - time.monotonic()) > 0:
        try:
            answer = pipe.ask("Runtime.evaluate", left, expression=question, awaitPromise=True, returnByValue=True)
        except TimeoutError:
            return False
        except CannotSee as exc:
            if "context" not in str(exc) and "Promise was collected" not in str(exc):
                raise
            continue
        return bool(answer.get("result", {}).get("value"))
    return False


def _console_error(event: dict[str, Any]) -> str | None:
    params = event.get("params", {})
    match event.get("method"):
        case "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            return str(details.get("exception", {}).get("description") or details["text"])
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
            return " ".join(str(argument.get("value", argument.get("description", ""))) for argument in params["args"])
        case "Log.entryAdded" if params["entry"]["level"] == "error":
            return f"{params['entry']['text']} {params['entry'].get('url', '')}".strip()
        case _:
            return None


class _Pipe:
    """Questions to the browser and its answers; events are kept as they come."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads = reads
        self._writes = writes
        self._number = 0
        self._rest = b""
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, seconds: float = 10.0, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            TimeoutError: no answer in time.
            CannotSee: the browser refused the command or is gone.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self._next(deadline)
            if "method" in answer:
                self.events.append(answer)
            elif answer.get("id") == self._number:
                if "error" in answer:
                    raise CannotSee(f"{method}: {answer['error'].get('message')}")
                return dict(answer["result"])

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser did not answer in time")
            part = os.read(self._reads, 1 << 20)
            if not part:
                raise CannotSee("the browser ended")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextlib.contextmanager
def _browser(program: str) -> Generator[_Pipe]:
    """Run a browser with a new, empty profile for the block; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="pgr-browser-", ignore_cleanup_errors=True) as profile:
        theirs_reads, ours_writes = _pipe()
        ours_reads, theirs_writes = _pipe()
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(theirs_reads), str(theirs_writes), *command],
            pass_fds=(theirs_reads, theirs_writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_reads)
        os.close(theirs_writes)
        try:
            yield _Pipe(ours_reads, ours_writes)
        finally:
            os.close(ours_writes)
            os.close(ours_reads)
            _end(process)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose descriptors are clear of 3 and 4, which the launcher overwrites."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the browser, which ends by itself when its pipe closes; help it if it does not."""
    for signal in (None, process.terminate, process.kill):
        if signal:
            signal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return
