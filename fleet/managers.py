"""How each kind of app manager is asked whether an app is stale, and restarts it: shell texts, by inventory.

Owns the words `app_manager` may have. Must not run anything: facts and operations do, on the app's host.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Manager:
    """Two shell texts. `stale` prints `stale` if the app is down or older than its env file; empty: cannot tell."""

    stale: str
    restart: str


def manager_of(data: Any) -> Manager:
    """Return the manager that the inventory names for a host, its own `app_restart` in the place of the usual one.

    Raises:
        ValueError: no such manager, or it lacks a key; says which.
    """
    kind = data.get("app_manager")
    if kind not in MANAGERS:
        message = f"app_manager is {kind!r}; it must be one of {', '.join(MANAGERS)}"
        raise ValueError(message)
    manager = MANAGERS[kind](data)
    restart = data.get("app_restart") or manager.restart
    if not restart:
        message = f"the inventory does not say how to restart the app (app_restart), which app_manager {kind!r} needs"
        raise ValueError(message)
    return Manager(manager.stale, str(restart))


def _value(data: Mapping[str, Any], key: str) -> str:
    if not data.get(key):
        message = f"the inventory does not say `{key}`, which app_manager {data.get('app_manager')!r} needs"
        raise ValueError(message)
    return shlex.quote(str(data.get(key)))


def _systemd(data: Any) -> Manager:
    unit, path = _value(data, "app_service"), _value(data, "env_file")
    stale = (
        f"if systemctl is-active --quiet {unit}; then "
        f'started=$(date -d "$(systemctl show --timestamp=us -P ActiveEnterTimestamp {unit})" +%s%N); '
        f'test "$(stat -c %.9Y {path} | tr -d .)" -lt "$started" || echo stale; else echo stale; fi'
    )
    return Manager(stale, f"systemctl restart {unit}")


def _supervisord(data: Any) -> Manager:
    words = f"--base {_value(data, 'base')} --program {_value(data, 'app_server')}"
    ours = f"{shlex.quote(sys.executable)} -m fleet.local"
    return Manager(f"{ours} stale {words}", f"{ours} restart {words} >/dev/null")


def _docker(data: Any) -> Manager:
    name, path = _value(data, "app_container"), _value(data, "env_file")
    stale = (
        f"set -- $(docker inspect -f '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {name} 2>/dev/null); "
        f'test "$1" = true && test "$(stat -c %.9Y {path} | tr -d .)" -lt "$(date -d "$2" +%s%N)" || echo stale'
    )
    return Manager(stale, f"docker restart {name} >/dev/null")


def _command(data: Any) -> Manager:
    return Manager(str(data.get("app_stale") or ""), "")


MANAGERS: dict[str, Callable[[Any], Manager]] = {
    "systemd": _systemd,
    "supervisord": _supervisord,
    "docker": _docker,
    "command": _command,
}
