"""Command line of the generator: reads its configuration, obeys lines of JSON on stdin, reports on stdout.

It ends on `{"cmd": "stop"}`, on SIGTERM, after its duration, and when stdin ends: the death of its parent is that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rehearsal.errors import RehearsalError
from rehearsal.load.config import LoadConfig, load_config
from rehearsal.load.generator import Generator


def tell_status(status: dict[str, Any]) -> None:
    """Write one line of status to stdout; a reader that is gone is no reason to fail."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, (json.dumps(status) + "\n").encode())


class Controls(NamedTuple):
    """What a line of stdin can do to a generator."""

    stop: Callable[[str], None]
    mark: Callable[[str, float | None], None]


def obey(controls: Controls, line: str) -> None:
    """Do what one line of stdin says; anything that is no command ends the load, rather than be ignored."""
    try:
        command: dict[str, Any] = json.loads(line)
        if command["cmd"] == "mark":
            controls.mark(command["phase"], command.get("at"))
            return
        reason = "told" if command["cmd"] == "stop" else f"unknown command {command['cmd']!r}"
    except (ValueError, KeyError, TypeError):
        reason = "told" if line.strip() == "stop" else f"not a command: {line[:80]!r}"
    controls.stop(reason)


def _listen(controls: Controls, loop: asyncio.AbstractEventLoop) -> None:
    # Raw reads: a buffered stdin that another thread holds aborts the interpreter when it ends.
    rest = b""
    with contextlib.suppress(RuntimeError):  # the loop is closed: the load has ended for another reason
        while chunk := os.read(0, 4096):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(obey, controls, line.decode(errors="replace"))
        loop.call_soon_threadsafe(controls.stop, "parent gone")


async def _run(config: LoadConfig) -> None:
    loop = asyncio.get_running_loop()
    generator = Generator(config, tell_status)
    controls = Controls(generator.stop, generator.mark)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, generator.stop, signal.Signals(number).name)
    threading.Thread(target=_listen, args=(controls, loop), daemon=True).start()
    gc.freeze()
    await generator.run()


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="rehearsal.load", description="open-loop load with a ledger of its writes")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of mode 0600; it is removed once read")
    words = parser.parse_args(argv)
    try:
        asyncio.run(_run(load_config(words.config)))
    except RehearsalError as exc:
        tell_status({"status": "error", "message": str(exc), "exit_code": exc.exit_code})
        return exc.exit_code
    tell_status({"status": "ended"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
