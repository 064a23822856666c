"""Environment `local`: everything on this machine, nothing needs root. Three hosts that are processes.

REHEARSAL_LOCAL_BASE      folder of everything that it makes      default: a folder of this project in the temporary one
REHEARSAL_LOCAL_DB_PORT   port of the database                    default: a free one, kept for this project's folder
REHEARSAL_LOCAL_APP_PORT  port of the first app server            default: the ones after it
REHEARSAL_LOCAL_APPS      number of app servers                   default: 2
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

from fleet.cluster import ClusterError, find_binaries
from fleet.ports import local_ports
from fleet.sizing import own_cores

_project = Path(__file__).resolve().parent.parent
_name = f"pg-rehearsal-{os.getuid()}-{hashlib.sha256(str(_project).encode()).hexdigest()[:8]}"
_base = Path(os.environ.get("REHEARSAL_LOCAL_BASE") or Path(tempfile.gettempdir()) / _name).absolute()
_apps = int(os.environ.get("REHEARSAL_LOCAL_APPS") or 2)
_given = [int(os.environ.get(f"REHEARSAL_LOCAL_{name}_PORT") or 0) for name in ("DB", "APP")]
_free = (0, 0) if all(_given) else local_ports(_base, _apps)
_db_port, _port = (given or free for given, free in zip(_given, _free, strict=True))

_major = int(os.environ["REHEARSAL_LOCAL_MAJOR"]) if os.environ.get("REHEARSAL_LOCAL_MAJOR") else None
# The launcher of the cluster writes where the programs of its version are; before that, those that it will take.
_made = _base / "cluster" / "cluster.json"
if _made.exists():
    _cluster = json.loads(_made.read_text())
else:
    try:
        _cluster = {"bin": str(find_binaries(_major).folder)}
    except ClusterError:  # the launcher says so, when it is to start
        _cluster = {}

_everywhere = {
    "base": str(_base),
    "cluster_base": str(_base / "cluster"),
    "db_log": str(_base / "cluster" / "server.log"),
    "cluster_major": _major,
    "db_port": _db_port,
    "db_cores": own_cores(),
    "db_bin": _cluster.get("bin"),
    "db_superuser_password": {"file": str(_base / "cluster" / "superuser.password")},
    "db_migrator_password": {"file": str(_base / "secrets" / "rehearsal.password")},
    "db_app_password": {"file": str(_base / "secrets" / "app.password")},
    "passfile": str(_base / "secrets" / "pgpass"),
    "backup_dir": str(_base / "backups"),
}


def _app(number: int) -> tuple[str, dict[str, object]]:
    server = f"app{number}"
    return f"@process/{server}", {
        "app_server": server,
        "app_port": _port + number - 1,
        "app_url": f"http://127.0.0.1:{_port + number - 1}",
        "app_log": str(_base / "apps" / f"{server}.log"),
        "app_command": [sys.executable, "-m", "example_app"],
        "env_file": str(_base / "apps" / f"{server}.env"),
    }


database = (["@process/db"], _everywhere)
app = ([_app(number) for number in range(1, _apps + 1)], _everywhere)
