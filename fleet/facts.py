"""What is the case on a host: pyinfra facts, each tolerant of a host that is only half built.

A fact that cannot look says "nothing there"; the operation that follows then fails with the real reason. Output that
means nothing fails that one host: any other exception would end the run of every host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError

from fleet.psql import SEPARATOR, Session


class SqlRows(FactBase[list[list[str]]]):
    """Rows of a query; none if the server, the database or the table is not there."""

    default = list

    def command(self, session: Session, query: str) -> StringCommand:
        r"""Return the psql command; over standard input, where `\if` works too."""
        psql = session.command("-F", SEPARATOR, "-f", "-")
        return StringCommand("printf", "'%s\\n'", QuoteString(query), "|", psql, "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> list[list[str]]:
        """Split the lines into columns."""
        return [line.split(SEPARATOR) for line in output if line]


class PrivateRows(FactBase[list[list[str]]]):
    """Rows of SQL with a secret in it, which is given as `_stdin` and so in no argument; none if it cannot be run."""

    default = list

    def command(self, session: Session) -> StringCommand:
        """Return the psql command."""
        return StringCommand(session.command("-F", SEPARATOR, "-f", "-"), "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> list[list[str]]:
        """Split the lines into columns."""
        return SqlRows().process(output)


class Missing(FactBase[list[dict[str, str]]]):
    """What a server does not give to the migrating role yet, found by `sql/hosts/rights.sql`; empty: not looked at."""

    default = list

    def command(self, session: Session, query: str, names: dict[str, str]) -> StringCommand:
        """Return the psql command; `names` are its variables."""
        variables = [word for name, value in names.items() for word in ("-v", f"{name}={value}")]
        psql = session.command("-F", SEPARATOR, *variables, "-f", "-")
        return StringCommand("printf", "'%s\\n'", QuoteString(query), "|", psql, "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> list[dict[str, str]]:
        """Return the rows; none without the last one, which says that it was looked at."""
        rows = [row for row in SqlRows().process(output) if len(row) == 3]
        if not rows or rows[-1][0] != "seen":
            return []
        return [dict(zip(("kind", "statement", "reason"), row, strict=True)) for row in rows]


class AppliedChanges(FactBase[dict[str, str]]):
    """Changes in the registry: name to checksum."""

    default = dict

    def command(self, session: Session) -> StringCommand:
        """Return the psql command."""
        return SqlRows().command(session, "select name, checksum from rehearsal.change order by name")

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Return name to checksum.

        Raises:
            FactProcessError: a row is none of the registry's; taken for nothing, its change would be applied again.
        """
        rows = SqlRows().process(output)
        if odd := next((row for row in rows if len(row) != 2), None):
            message = f"the registry of changes answered with {odd}, not with a name and a checksum"
            raise FactProcessError(message)
        return {row[0]: row[1] for row in rows}


class JsonFact(FactBase[dict[str, Any]]):
    """Facts that one of our own commands prints as JSON on the last line; empty if it cannot."""

    default = dict

    def command(self, words: tuple[str, ...]) -> StringCommand:
        """Return the command."""
        return StringCommand(*(QuoteString(word) for word in words), "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> dict[str, Any]:
        """Parse the last line; one that was cut off is as good as none."""
        lines = [line for line in output if line.startswith("{")]
        try:
            values: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        except json.JSONDecodeError:
            return {}
        return values


class FileState(FactBase[dict[str, str]]):
    """SHA-256, mode, owner and group of a file; empty if there is none."""

    default = dict

    def command(self, path: str) -> StringCommand:
        """Return the command."""
        script = (
            'test -f "$1" || exit 0; (sha256sum "$1" 2>/dev/null || shasum -a 256 "$1") | cut -c1-64; '
            'stat -c "%a %U %G" "$1" 2>/dev/null || stat -f "%Lp %Su %Sg" "$1"'
        )
        return StringCommand("sh", "-c", QuoteString(script), "sh", QuoteString(path))

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Return what was found.

        Raises:
            FactProcessError: `stat` said something else than mode, owner and group.
        """
        lines = list(output)
        if len(lines) < 2:
            return {}
        if lines[1].count(" ") < 2:
            message = f"stat answered with {lines[1]!r}, not with mode, owner and group"
            raise FactProcessError(message)
        mode, owner, group = lines[1].split(" ", 2)
        return {"sha256": lines[0], "mode": mode.zfill(3), "owner": owner, "group": group}


class EnvFlags(FactBase[dict[str, str]]):
    """Values of the named variables in an env file. Only their lines leave the host: the file holds a password."""

    default = dict

    def command(self, path: str, names: tuple[str, ...]) -> StringCommand:
        """Return the command."""
        pattern = f"^({'|'.join(names)})="
        return StringCommand("grep", "-E", QuoteString(pattern), QuoteString(path), "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Return name to value; the last line of a name wins, as in a shell."""
        pairs = (line.split("=", 1) for line in output if "=" in line)
        return {name: value.strip().strip("'\"") for name, value in pairs}


class FlagState(FactBase[dict[str, Any]]):
    """Everything that a flip has to know of a server, by one command: its flags, a problem, whether its app is stale.

    `source` is a shell text that prints the env file, or the lines NAME=value of wherever else the flags are; only
    the lines of the flags leave the host, since the file holds a password.
    """

    @staticmethod
    def default() -> dict[str, Any]:
        """Return what is known of a host that did not even say that it looked."""
        return {
            "flags": {},
            "problem": "no shell could be had; check _sudo, _sudo_user and _su_user of the host",
            "stale": False,
        }

    def command(self, source: str, names: tuple[str, ...], stale: str) -> StringCommand:
        """Return the command; what went wrong is on a line of its own that begins with `!`, `seen` says that it ran.

        pyinfra takes silence for a host where the user to become is unknown; a file without these flags is silent too.
        """
        script = (
            "said=$({ " + source + "\n} 2>&1); code=$?\n"
            f"printf '%s\\n' \"$said\" | grep -E '^({'|'.join(names)})='; "
            'test "$code" -eq 0 || printf "%s\\n" "$said" | tail -n 1 | sed "s/^/!/"; echo seen; ' + stale
        )
        return StringCommand("sh", "-c", QuoteString(script + "\ntrue"))

    def process(self, output: Iterable[str]) -> dict[str, Any]:
        """Return what was found."""
        lines = [line.strip() for line in output]
        if "seen" not in lines:
            return self.default()
        problem = next((line[1:] for line in lines if line.startswith("!")), None)
        return {"flags": EnvFlags().process(lines), "problem": problem, "stale": "stale" in lines}


class StaleService(FactBase[bool]):
    """Whether a systemd unit is down, or was started before one of its files got its present contents."""

    def command(self, unit: str, env_file: str, files: tuple[str, ...] = ()) -> StringCommand:
        """Return the command; `files` are further ones that the process reads once, at its start."""
        script = (
            'unit=$1; shift; systemctl is-active --quiet "$unit" || { echo stale; exit 0; }; '
            'started=$(date -d "$(systemctl show --timestamp=us -P ActiveEnterTimestamp "$unit")" +%s%N); '
            'for file in "$@"; do '
            'test "$(stat -c %.9Y "$file" | tr -d .)" -lt "$started" || { echo stale; exit 0; }; done'
        )
        words = (script, "sh", unit, env_file, *files)
        return StringCommand("sh", "-c", *(QuoteString(word) for word in words))

    def process(self, output: Iterable[str]) -> bool:
        """Return whether the unit must be restarted."""
        return any(line == "stale" for line in output)


class Lines(FactBase[list[str]]):
    """What a shell script prints, as lines; none if it fails. Its words are `$1`, `$2`, …."""

    default = list

    def command(self, script: str, words: tuple[str, ...] = ()) -> StringCommand:
        """Return the command."""
        return StringCommand("sh", "-c", *(QuoteString(word) for word in (script, "sh", *words)), "2>/dev/null || true")

    def process(self, output: Iterable[str]) -> list[str]:
        """Return the lines that are not empty."""
        return [line.strip() for line in output if line.strip()]


class Timer(FactBase[dict[str, str]]):
    """A timer as systemd has it: enabled, active, when it is due next, and how its service ended last."""

    @staticmethod
    def default() -> dict[str, str]:
        """Return what is known of a host without systemd."""
        return {"enabled": "", "active": "", "next": "", "last": ""}

    def command(self, timer: str, service: str) -> StringCommand:
        """Return the command; a line each."""
        script = (
            'echo "enabled=$(systemctl is-enabled "$1" 2>/dev/null)"; echo "active=$(systemctl is-active "$1")"; '
            'echo "next=$(systemctl show -P NextElapseUSecRealtime "$1")"; '
            'echo "last=$(systemctl show -P Result "$2") $(systemctl show -P ExecMainExitTimestamp "$2")"'
        )
        return StringCommand("sh", "-c", *(QuoteString(word) for word in (script, "sh", timer, service)), "2>/dev/null")

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Return what was printed."""
        pairs = dict(line.strip().split("=", 1) for line in output if "=" in line)
        return {**self.default(), **{name: value.strip() for name, value in pairs.items()}}
