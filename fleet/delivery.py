"""The one way by which contents reach a host: over a command's standard input, into a file that is private by then.

pyinfra's own uploads are not used. Where a host is changed by sudo they pass through /tmp, readable by everybody, under
a name that anybody can work out. An argument, a here-document or a variable (`_env`) is no better: it is in the host's
process list, and in sudo's log for good. `tests/faults/test_secrecy.py` holds that there is no other way.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra.api import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError

# The file is made by this very command (O_EXCL, by `set -C`): none that somebody opened before gets the contents.
RECEIVE = 'set -eu; umask 077; mkdir -p "$(dirname "$1")"; rm -f "$1"; set -C; {} >"$1"'
# By these, pyinfra puts the password that somebody has for sudo or su into an argument of `env`.
TOLD = ("_sudo_password", "_su_password")


def text_to(path: str, text: str) -> StringCommand:
    """Return a command that makes a file of lines, which its owner alone can read from its first moment on."""
    return _receive("cat", path, text)


def file_to(path: str, source: Path) -> StringCommand:
    """Return a command that makes a file with the bytes of one on this machine."""
    return _receive("base64 -d", path, Encoded(source))


@dataclass(frozen=True)
class Encoded:
    """A file of this machine as a text, read when it is sent: a dry run does not need it."""

    source: Path

    def readlines(self) -> list[str]:
        """Return all of it in one piece, which is how pyinfra asks for a standard input."""
        return [base64.encodebytes(self.source.read_bytes()).decode()]


def _receive(reader: str, path: str, text: str | Encoded) -> StringCommand:
    given: Any = text  # pyinfra takes all that has lines to read
    return StringCommand("sh", "-c", QuoteString(RECEIVE.format(reader)), "sh", QuoteString(path), _stdin=given)


def lines_of(text: str) -> str:
    r"""Return a text with a newline at its end, which pyinfra adds to a standard input that has none.

    >>> lines_of("a\nb"), lines_of("a\n"), lines_of("")
    ('a\nb\n', 'a\n', '')
    """
    return text if text.endswith("\n") or not text else text + "\n"


def refuse_told(name: str, data: Any) -> None:
    """Refuse a host whose inventory has pyinfra say a password where everybody on the host can read it.

    Raises:
        PyinfraError: it is such a host; it ends the run of all hosts, before anything is done.
    """
    if told := [key for key in TOLD if data.get(key)]:
        message = (
            f"{' and '.join(told)} of {name} would be in the host's process list; let {name} ask for no password "
            "(NOPASSWD), and take it out of the inventory"
        )
        raise PyinfraError(message)
