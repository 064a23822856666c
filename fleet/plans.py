"""What the host layer has to know of a plan: its strategy, the names of its tables and of its flags.

The engine says them with each run. Where pyinfra is run by itself, they are read from the plan's file. Must not judge
a plan: the engine does.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError

FOLDER = Path(__file__).resolve().parent.parent / "plans"
FLAGS = {"reads": "USE_PARTITIONED_TABLES", "writes": "ENABLE_PARTITION_ROUTING"}


def phase_of(data: Any, phases: Collection[str]) -> str | None:
    """Return the phase that a run is for; None is all that brings hosts to the wanted state.

    Raises:
        PyinfraError: there is no such phase, or all of production was meant, which only `invoke` lets through.
    """
    phase: str | None = data.get("phase")
    if phase is None and data.get("env_kind") == "production":
        message = "production is changed by `./inv db.provision`, which asks for a GO; nothing was done"
        raise PyinfraError(message)
    if phase is not None and phase not in phases:
        message = f"unknown phase {phase!r}; there are {', '.join(phases)}, or leave it out: hosts in the wanted state"
        raise PyinfraError(message)
    return phase


def fill_in(data: Any) -> None:
    """Let a host's data say which tables, strategy and flags the plan has, unless the caller said it.

    Raises:
        PyinfraError: there is no such plan, or its file cannot be read.
    """
    if any(data.get(key) is None for key in ("plan", "flag_reads", "flag_writes", "tables", "strategy")):
        data.plan = data.get("plan") or data.get("default_plan")
        for key, value in read_plan(data.plan).items():
            if data.get(key) is None:
                setattr(data, key, value)


def read_plan(name: str) -> dict[str, Any]:
    """Return the tables, strategy and flags of a plan's file.

    >>> read_plan("sensor_readings")["tables"]
    ['public.sensor_readings']

    Raises:
        PyinfraError: there is no such plan, or its file cannot be read.
    """
    path = FOLDER / f"{name}.toml"
    if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)) or not path.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        message = f"no plan {name!r}; there are {known}: --data plan=NAME"
        raise PyinfraError(message)
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
        flags = {**FLAGS, **plan.get("flags", {})}
        tables, strategy = [table["name"] for table in plan["tables"]], plan["strategy"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as exc:
        message = f"the plan {path} cannot be read: {exc!r}; `./inv plan.check` says more"
        raise PyinfraError(message) from exc
    named = {"flag_reads": flags["reads"], "flag_writes": flags["writes"]}
    return {**named, "tables": tables, "strategy": strategy}
