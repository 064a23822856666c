"""Which variables of the caller's shell a command of ours may see: an allow-list, and those that the inventories name.

Owns the environment of this process and so of all its children. libpq, OpenSSL, HTTP clients and Python itself take
orders from variables (`PGOPTIONS`, `PGSERVICE`, `http_proxy`, `PYTHONOPTIMIZE`); a rehearsal must not.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_WHO_AND_WHERE = {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL", "PWD", "TZ", "CI"}
_TERMINAL = {"TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
_DESKTOP = {"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "BROWSER"}
_SECRETS = {"SSH_AUTH_SOCK", "GPG_TTY", "GNUPGHOME", "PASSWORD_STORE_DIR", "SOPS_AGE_KEY_FILE"}
_DOCKER = {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"}
_PROGRAMS = {"PGBIN", "LD_LIBRARY_PATH", "LD_PRELOAD"}
ALLOWED = frozenset(_WHO_AND_WHERE | _TERMINAL | _DESKTOP | _SECRETS | _DOCKER | _PROGRAMS)
ALLOWED_PREFIXES = ("REHEARSAL_", "FAKETIME")
# Whatever the shell's locale is: texts of programs are read as UTF-8 and in English.
PINNED = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
# Only for what fetches packages for new hosts (fleet/machines): proxies, indexes and certificates of this machine.
DOWNLOADS = "REHEARSAL_DOWNLOADS"
DOWNLOAD_PREFIXES = ("PIP_", "UV_", "SSL_CERT_", "APT_")
DOWNLOAD_NAMES = frozenset({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
# Names of what was left out although somebody may have meant it, for the first lines of a rehearsal.
LEFT_OUT = "REHEARSAL_LEFT_OUT"
TELLING = "PG"


def reduced(environ: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """Return the variables that a command of ours may see; `named` are those that the inventories name.

    What is reduced already is returned as it is.

    >>> seen = reduced({"PATH": "/bin", "PGOPTIONS": "-c x=1", "https_proxy": "p", "VAULT_ADDR": "v"}, ["VAULT_ADDR"])
    >>> sorted(seen.keys() - PINNED.keys())
    ['PATH', 'REHEARSAL_DOWNLOADS', 'REHEARSAL_LEFT_OUT', 'VAULT_ADDR']
    >>> seen["REHEARSAL_LEFT_OUT"], reduced(seen, ["VAULT_ADDR"]) == seen
    ('PGOPTIONS https_proxy', True)
    """
    wanted = ALLOWED | set(named)
    kept = {name: value for name, value in environ.items() if name in wanted or name.startswith(ALLOWED_PREFIXES)}
    dropped = {name: value for name, value in environ.items() if name not in kept and name not in PINNED}
    if downloads := {name: value for name, value in dropped.items() if _is_download(name)}:
        kept.setdefault(DOWNLOADS, json.dumps(downloads, sort_keys=True))
    if telling := sorted(name for name in dropped if name.startswith(TELLING) or _is_proxy(name)):
        kept.setdefault(LEFT_OUT, " ".join(telling))
    return {**kept, **PINNED}


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")


def _is_download(name: str) -> bool:
    return _is_proxy(name) or name.startswith(DOWNLOAD_PREFIXES) or name in DOWNLOAD_NAMES


def named_in(folder: Path) -> frozenset[str]:
    """Return every text that stands in an inventory or its group data: a variable's name may be one of them.

    An inventory that cannot be parsed names nothing; whoever reads it says what is wrong with it.
    """
    found: set[str] = set()
    for path in sorted(folder.glob("**/*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        found |= {text for text in texts if isinstance(text, str)}
    return frozenset(found)


def begin_anew(module: str, inventories: Path) -> None:
    """Begin this process anew with the reduced environment, unless it has it: libraries read variables at import."""
    environ = reduced(os.environ, named_in(inventories))
    if environ != dict(os.environ):
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environ)  # noqa: S606 -- ourselves


def left_out() -> list[str]:
    """Return the names of what the caller's shell set and no command of ours heeds."""
    return os.environ.get(LEFT_OUT, "").split()
