"""The command line of the hosts on Docker. Prints JSON; a failure is one line, exit code 1.

python -m fleet.machines up | status | snapshot | reset | down [--images]
python -m fleet.machines ssh app1 [-- COMMAND …]
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from fleet.machines.containers import opened
from fleet.machines.layout import Layout, MachineError, read_layout


def main(argv: list[str] | None = None) -> int:
    """Run one verb."""
    parser = argparse.ArgumentParser(prog="fleet.machines", description="the hosts of the environment docker")
    parser.add_argument("verb", choices=["up", "status", "snapshot", "reset", "down", "ssh"])
    parser.add_argument("host", nargs="?", help="name of a host, for ssh")
    parser.add_argument("command", nargs="*", help="command to run there, for ssh")
    parser.add_argument("--images", action="store_true", help="with down: the snapshots too")
    words = parser.parse_args(argv)
    try:
        layout = read_layout()
        if words.verb == "ssh":
            _ssh(layout, words.host or "db", words.command)
        with opened(layout) as machines:
            if words.verb == "down":
                machines.down(images=words.images)
            elif words.verb != "status":
                getattr(machines, words.verb)()
            print(json.dumps({"changed": machines.changed, **machines.status()}))  # noqa: T201 -- a command line
    except MachineError as exc:
        print(f"hosts: {exc}", file=sys.stderr)  # noqa: T201 -- a command line
        return 1
    return 0


def _ssh(layout: Layout, host: str, command: list[str]) -> None:
    """Become an SSH client on a host."""
    layout.find(host)
    config = layout.base / "ssh" / "config"
    if not config.exists():
        message = "there are no hosts yet; make them with `./inv hosts.up --env docker`"
        raise MachineError(message)
    words = ["ssh", "-F", str(config), host, *command]
    try:
        os.execvp(words[0], words)  # noqa: S606 -- no shell is meant
    except FileNotFoundError as exc:
        message = "no ssh on this machine; install an SSH client (Debian: apt-get install openssh-client)"
        raise MachineError(message) from exc


if __name__ == "__main__":
    sys.exit(main())
