"""Reading a log on its host: how long it is, and its lines of a pattern beyond a place in it."""

from __future__ import annotations

MAX_LINES = 20
# $1 file, $2 place to begin at, $3 most lines, $4 pattern of `grep -E`. A log that shrank was rotated: all of it is
# read, as the engine does with a log of its own machine.
SCRIPT = r"""
test -r "$1" || { echo unreadable; exit 0; }
size=$(stat -c %s "$1"); from=$2; test "$from" -le "$size" || from=0
echo "$size"
tail -c "+$((from + 1))" "$1" | grep -E "$4" | head -n "$3" || true
"""


def words_of(path: str, since: int | None, pattern: str) -> tuple[str, ...]:
    """Return what the script is called with; without a place to begin at, no line is read."""
    return path, str(since or 0), "0" if since is None else str(MAX_LINES), pattern


def report_of(lines: list[str]) -> dict[str, object]:
    """Return size and lines as the script printed them; no size: the log cannot be read.

    >>> report_of(["7", "FATAL: x"]), report_of(["unreadable"])
    ({'size': 7, 'errors': ['FATAL: x']}, {'size': None, 'errors': []})
    """
    size = int(lines[0]) if lines and lines[0].isdecimal() else None
    return {"size": size, "errors": lines[1:]}
