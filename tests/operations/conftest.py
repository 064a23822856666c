"""A `@fake` host of pyinfra in a process of its own, and dry runs of real inventories whose hosts are all `@fake`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFUSAL = ["sh", "-c", 'printf "%s\\n" "$1" >&2; exit 1', "sh"]
SESSION: dict[str, Any] = {
    "host": "db.example",
    "port": 5433,
    "user": "rehearsal",
    "database": "finance",
    "passfile": "/root/pass file",
}
Answers = Mapping[str, str | list[str]]


@dataclass(frozen=True)
class Command:
    """A command that an operation gave: a shell line, with what goes to its standard input."""

    line: str
    text: str | None

    @property
    def words(self) -> list[str]:
        """Return the words as a shell would split them."""
        return shlex.split(self.line)


@dataclass(frozen=True)
class Ran:
    """What an operation did: its commands in order, what it said when it had none, every line that the host saw."""

    changed: bool
    commands: list[Command]
    noops: list[str]
    lines: list[str]

    @property
    def only(self) -> Command:
        """Return the one command."""
        assert len(self.commands) == 1, self.commands
        return self.commands[0]

    @property
    def noop(self) -> str:
        """Return why there was nothing to do; fails if there was."""
        assert (self.changed, self.commands, len(set(self.noops))) == (False, [], 1), self
        return self.noops[0]

    @property
    def refusal(self) -> str:
        """Return the reason of a refusal, said by a real shell that fails; fails if it was none."""
        words = self.only.words
        assert words[:-1] == REFUSAL, self.only
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.removesuffix("\n")


class Fake:
    """The child that asks facts and runs operations."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Send one line, return the answer."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer

    def fact(self, name: str, output: str | list[str], **values: Any) -> Any:
        """Return a fact's value on a host that prints this for any command."""
        answer = self.ask(fact=f"fleet.{name}", values=values, answers={"": output})
        assert "value" in answer, answer
        return answer["value"]

    def problem(self, name: str, output: str | list[str], **values: Any) -> str:
        """Return what is said of output that a fact cannot understand; the host has failed, other hosts go on."""
        answer = self.ask(fact=f"fleet.{name}", values=values, answers={"": output})
        assert answer.get("failed") == "PyinfraError: No hosts remaining!", answer
        return "\n".join(answer["said"])

    def run(self, name: str, answers: Answers, host_data: Any = None, **values: Any) -> Ran:
        """Run an operation of `fleet` on a host that answers commands with such a part in this way, others not."""
        answer = self.ask(operation=f"fleet.{name}", values=values, answers=dict(answers), data=dict(host_data or {}))
        assert "commands" in answer, answer
        noops = [line.partition("noop: ")[2] for line in answer["said"] if "noop: " in line]
        return Ran(answer["changed"], [Command(**command) for command in answer["commands"]], noops, answer["executed"])


@pytest.fixture(scope="session")
def fake() -> Iterator[Fake]:
    """One child for all; it ends with its input."""
    words = [sys.executable, "-m", "tests.operations.driver"]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield Fake(child)
        assert child.stdin
        child.stdin.close()
        assert child.wait(10) == 0
