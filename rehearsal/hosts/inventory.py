"""Environments as their pyinfra inventories describe them.

Owns the reading of an inventory, which a child process of pyinfra does, so that groups and group data mean the same
to both sides, and the resolving of passwords. Must not import pyinfra.
"""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast, get_args

from rehearsal.environment import AppServer, Database, Environment, Kind
from rehearsal.errors import PreconditionError, UsageError
from rehearsal.hosts.pyinfra import PROJECT, last_lines

INVENTORY_TIMEOUT_S = 60
POOLERS = ("session", "transaction")


def environment_names(root: Path = PROJECT) -> tuple[str, ...]:
    """Return the names of the environments that have an inventory."""
    return tuple(sorted(path.stem for path in (root / "inventories").glob("*.py") if "." not in path.stem))


def find_inventory(name: str, root: Path = PROJECT) -> Path:
    """Return the inventory of an environment.

    Raises:
        UsageError: there is none; names those that there are, the nearest first.
    """
    known = environment_names(root)
    if name in known:
        return root / "inventories" / f"{name}.py"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    message = (
        f"no environment {name!r}{hint} there are {', '.join(known) or 'none'}, a file each in {root / 'inventories'}"
    )
    raise UsageError(message)


def load_environment(name: str, plan: str, root: Path = PROJECT, *, secrets: bool = True) -> Environment:
    """Read an environment from its inventory, host groups and group data as pyinfra sees them.

    `secrets=False` leaves the passwords empty, for an environment that is not provisioned yet.

    Raises:
        UsageError: no such environment, or its inventory lacks something; names the key.
        PreconditionError: a password cannot be resolved.
    """
    inventory = find_inventory(name, root)
    hosts = _read_inventory(inventory, root)
    databases = [host for host in hosts if "database" in host["groups"]]
    if len(databases) != 1:
        message = f"the inventory {inventory} has {len(databases)} hosts in the group `database`; it must have one"
        raise UsageError(message)
    data = _Data(inventory, databases[0])
    for host in hosts:
        _check_pooler(_Data(inventory, host))
    migrator, app = _passwords(data) if secrets else ("", "")
    return Environment(
        name=name,
        kind=_kind(data),
        inventory=inventory,
        database=_database(data, plan, "db_migrator", migrator),
        app_database=_database(data, plan, "db_app_role", app),
        database_host=data.host,
        app_servers=tuple(_app_server(_Data(inventory, host)) for host in hosts if "app" in host["groups"]),
        backup_folder=Path(data["backup_dir"]),
        admin_email=data["admin_email"],
        client_bin=Path(data.values["db_bin"]) if data.values.get("db_bin") else None,
        state_folder=Path(data.values["base"]) if data.values.get("base") else None,
        settings=data.values,
        clocks=tuple(host["name"] for host in hosts if "clock" in host["groups"]),
    )


class _Data:
    """Data of one host; a missing key is an error that says where it belongs."""

    def __init__(self, inventory: Path, host: dict[str, Any]) -> None:
        self.host: str = host["name"]
        self.values: dict[str, Any] = host["data"]
        self.inventory = inventory

    def __getitem__(self, key: str) -> Any:
        if self.values.get(key) is None:
            message = (
                f"the inventory {self.inventory} does not say `{key}` for {self.host}; add it to the host or its group"
            )
            raise UsageError(message)
        return self.values[key]


def _read_inventory(inventory: Path, root: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pyinfra", "--json", str(inventory.absolute()), "debug-inventory"]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INVENTORY_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            return cast("list[dict[str, Any]]", json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError) as exc:
        message = f"pyinfra cannot read the inventory {inventory}: {exc.__class__.__name__}"
        raise UsageError(message) from exc
    message = f"pyinfra cannot read the inventory {inventory}: {last_lines(done.stderr)}"
    raise UsageError(message)


def _passwords(data: _Data) -> tuple[str, str]:
    """Resolve the references on the side of the hosts, so that both sides see the same password; over a pipe."""
    references = [data["db_migrator_password"], data["db_app_password"]]
    done = subprocess.run(
        [sys.executable, "-m", "fleet.passwords"],
        input=json.dumps(references),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PreconditionError(last_lines(done.stderr))
    migrator, app = json.loads(done.stdout)
    return migrator, app


def _kind(data: _Data) -> Kind:
    kind = data["env_kind"]
    if kind not in get_args(Kind):
        message = f"`env_kind` of {data.host} is {kind!r}; it must be one of {', '.join(get_args(Kind))}"
        raise UsageError(message)
    return cast("Kind", kind)


def _check_pooler(data: _Data) -> None:
    """Refuse what is no pooler before anything is touched; the hosts would find out half way."""
    pooler, kind = data.values.get("pooler"), data.values.get("env_kind")
    if not pooler:
        return
    if pooler not in POOLERS:
        found = f"is {pooler!r}; it must be {' or '.join(POOLERS)}, or be left out: no pooler"
    elif kind == "local":
        found = "is not for the environment local, which installs no package; leave it out, or rehearse on docker"
    elif str(data.values.get("db_sslmode")).startswith("verify-") and not data.values.get("db_sslrootcert"):
        found = f"needs `db_sslrootcert`, since `db_sslmode` is {data.values['db_sslmode']}; add it to the group data"
    else:
        return
    message = f"`pooler` of {data.host} in the inventory {data.inventory} {found}"
    raise UsageError(message)


def _database(data: _Data, plan: str, user: str, password: str) -> Database:
    name = str(data["db_name"]).format(plan=plan)
    sslmode = str(data.values.get("db_sslmode") or "prefer")
    rootcert = data.values.get("db_sslrootcert")
    cores = data.values.get("db_cores")
    return Database(
        data["db_host"],
        int(data["db_port"]),
        name,
        data[user],
        password,
        sslmode,
        rootcert,
        int(cores) if cores else None,
    )


def _app_server(data: _Data) -> AppServer:
    return AppServer(data.host, str(data["app_url"]).rstrip("/"), data.values.get("app_log"), data.values)
