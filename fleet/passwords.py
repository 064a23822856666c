"""Passwords by reference: an inventory says where a password is, never what it is.

Owns the three kinds of reference, {"file": PATH}, {"env": NAME} and {"command": [WORD, ...]}, and SCRAM verifiers.
Passwords are resolved on the machine that runs pyinfra.

SCRAM verifiers are made by hand, of the standard library (RFC 5802, RFC 7677): the host layer has no psycopg, and
libpq's PQencryptPasswordConn takes no salt, so it could not tell whether a role has its password already.

    echo '[{"file": "/run/secrets/app"}]' | python -m fleet.passwords     # prints a JSON list of passwords
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND_TIMEOUT_S = 60


class PasswordError(RuntimeError):
    """A password reference cannot be resolved; says which and why, never a password."""


def resolve(reference: dict[str, Any]) -> str:
    """Return the password that a reference stands for.

    Raises:
        PasswordError: the reference is malformed, or there is no password where it points.
    """
    kind, where = _kind(reference)
    password = {"file": _from_file, "env": _from_env, "command": _from_command}[kind](where)
    if not password:
        message = f"the password of {json.dumps(reference)} is empty"
        raise PasswordError(message)
    if "\n" in password or "\0" in password:
        message = f"the password of {json.dumps(reference)} has more than one line"
        raise PasswordError(message)
    return password


def _kind(reference: Any) -> tuple[str, Any]:
    if isinstance(reference, dict) and len(reference) == 1:
        kind, where = next(iter(reference.items()))
        if kind in {"file", "env", "command"} and where:
            return kind, where
    shape = sorted(reference) if isinstance(reference, dict) else type(reference).__name__
    message = f'a password is given by reference, {{"file": …}}, {{"env": …}} or {{"command": […]}}, not by {shape}'
    raise PasswordError(message)


def _from_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as exc:
        message = f"cannot read the password file {path}: {exc.strerror}; make it, or run `./inv db.provision` first"
        raise PasswordError(message) from exc


def _from_env(name: str) -> str:
    if name not in os.environ:
        message = f"the environment variable {name} with a password is not set; export it and run again"
        raise PasswordError(message)
    return os.environ[name]


def _from_command(words: list[str] | str) -> str:
    return _said_by((words,) if isinstance(words, str) else tuple(str(word) for word in words))


@functools.cache  # it may ask a person
def _said_by(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        message = f"the command for a password, {command[0]}, does not run: {exc.__class__.__name__}"
        raise PasswordError(message) from exc
    if done.returncode != 0:
        message = (
            f"the command for a password, {command[0]}, exited with status {done.returncode}: "
            f"{done.stderr.strip()[-300:]}"
        )
        raise PasswordError(message)
    return done.stdout.rstrip("\r\n")


def passfile_text(passwords: dict[str, dict[str, Any]]) -> str:
    r"""Return the text of a password file of libpq: each role with the password of its reference, on any server.

    >>> os.environ["A_PASSWORD"] = "it:s"
    >>> passfile_text({"app": {"env": "A_PASSWORD"}})
    '*:*:*:app:it\\:s\n'
    """
    found = {
        user: resolve(reference).replace("\\", "\\\\").replace(":", "\\:") for user, reference in passwords.items()
    }
    return "".join(f"*:*:*:{user}:{password}\n" for user, password in found.items())


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = 4096) -> str:
    """Return what PostgreSQL stores for a password under SCRAM-SHA-256, so that the password itself never travels.

    >>> scram_verifier("pencil", b"0123456789abcdef").startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    True
    """
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.digest(salted, key, "sha256") for key in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def verifier_at(costs: str, password: str) -> str:
    """Return the verifier of a password with the iterations and the salt of another one; empty if those are none.

    >>> verifier = scram_verifier("pencil")
    >>> verifier_at(verifier.split("$")[1], "pencil") == verifier, verifier_at("4096", "pencil")
    (True, '')
    """
    try:
        iterations, salt = costs.split(":")
        return scram_verifier(password, base64.b64decode(salt), int(iterations))
    except ValueError:
        return ""


def is_verifier_of(verifier: str, password: str) -> bool:
    """Return whether a stored verifier is that of a password: recomputed with its salt, no login needed.

    >>> is_verifier_of(scram_verifier("pencil"), "pencil"), is_verifier_of(scram_verifier("pencil"), "pen")
    (True, False)
    """
    kind, *rest = verifier.split("$")
    return kind == "SCRAM-SHA-256" and len(rest) == 2 and hmac.compare_digest(verifier, verifier_at(rest[0], password))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def main() -> int:
    """Resolve a JSON list of references from standard input; prints a JSON list, for a pipe and not for a terminal."""
    try:
        passwords = [resolve(reference) for reference in json.load(sys.stdin)]
    except PasswordError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 -- a command line
        return 1
    json.dump(passwords, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
