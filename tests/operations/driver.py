"""Ask a fact, or run an operation, on a `@fake` host of pyinfra: a JSON line in, a JSON line out, until the end.

    echo '{"fact": "fleet.facts.Lines", "values": {"script": "x"}, "answers": {}}' | python -m tests.operations.driver

Owns everything of pyinfra that these tests need, since it must not be in their process.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pyinfra import logger
from pyinfra.api import Config, Inventory, State, StringCommand
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.context import ctx_host, ctx_state

from fleet.changes import Change
from fleet.passwords import resolve
from fleet.psql import Session

NAME = "@fake/host"


class Said(logging.Handler):
    """What pyinfra logs, as texts."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a text."""
        self.lines.append(record.getMessage())


def arguments(values: dict[str, Any], host: Host) -> dict[str, Any]:
    """Make of JSON what facts and operations take."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key == "session":
            made[key] = Session(**value)
        elif key == "change":
            made[key] = Change(**value)
        elif key == "changes":
            made[key] = tuple(Change(**row) for row in value)
        elif key == "text" and isinstance(value, dict):
            made[key] = partial(resolve, value)
        elif key == "data":
            made[key] = host.data
        else:
            made[key] = tuple(value) if isinstance(value, list) else value
    return made


def shown(command: Any) -> dict[str, Any]:
    """Return a command as a dictionary: its line, and the text that it hands over."""
    assert isinstance(command, StringCommand), command
    text: Any = command.connector_arguments.get("_stdin")
    text = "".join(text.readlines()) if hasattr(text, "readlines") else text
    return {"line": command.get_raw_value(), "text": text}


def perform(asked: dict[str, Any], state: State, host: Host) -> dict[str, Any]:
    """Return the value of a fact, or what an operation did."""
    module, _, name = (asked.get("fact") or asked["operation"]).rpartition(".")
    what = getattr(importlib.import_module(module), name)
    values = arguments(asked["values"], host)
    if "fact" in asked:
        return {"value": host.get_fact(what, **values)}
    meta = add_op(state, what, name="Do what is to be done", host=host, **values)[host]
    run_ops(state)
    return {"changed": meta.did_change(), "commands": [shown(command) for command in meta._commands or ()]}


def answer(asked: dict[str, Any], said: Said) -> dict[str, Any]:
    """Return what came of one line."""
    said.lines.clear()
    data = {**asked.get("data", {}), "fake_responses": asked["answers"], "fake_delay": 0, "fake_delay_jitter": 0}
    state = State(Inventory(([(NAME, data)], {})), Config())  # type: ignore[no-untyped-call]  # pyinfra's
    state.cwd = str(Path.cwd())
    host = state.inventory.get_host(NAME)
    connect_all(state)
    result: dict[str, Any] = {}
    with ctx_state.use(state), ctx_host.use(host):
        try:
            result = perform(asked, state, host)
        except PyinfraError as exc:
            result = {"failed": f"{type(exc).__name__}: {exc}"}
        except Exception as exc:  # noqa: BLE001 -- it would end the run of every host, and the test has to see that
            result = {"crashed": f"{type(exc).__name__}: {exc}"}
    connector: Any = host.connector
    return {**result, "said": said.lines, "executed": connector.executed_commands}


def main() -> None:
    """Answer lines until there is none left."""
    said = Said()
    logger.handlers[:] = [said]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), said)), flush=True)  # noqa: T201 -- the seam


if __name__ == "__main__":
    main()
