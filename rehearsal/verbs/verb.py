"""What a verb of the command line is declared with: its name, what it does, its options with kinds and defaults.

Nothing is imported here that takes time: `tasks.py` reads it before anything else is there.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an option takes."""

    SWITCH = "nothing: it is given or not"
    TEXT = "any text"
    NAME = "a name: a blank one would mean as much as none"
    WORD = "a name that is typed without its option"
    WHOLE = "a whole number"
    NUMBER = "a number"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a verb; `default` is as it would be typed.

    One that is `scripted` is taken from programs, and not offered by `./inv`. `short` is a second name there.
    """

    name: str
    help: str
    kind: Kind = Kind.TEXT
    default: str | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    required: bool = False
    scripted: bool = False
    short: str = ""

    @property
    def flag(self) -> str:
        """Return the option as it is typed."""
        return f"--{self.name}"

    @property
    def dest(self) -> str:
        """Return the option's name in Python.

        >>> Option("dry-run", "").dest, Option("from", "").dest
        ('dry_run', 'from_')
        """
        name = self.name.replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def told(self) -> str:
        """Return what help says of it.

        >>> Option("reads", "read them", choices=("on", "off")).told, Option("batch", "at once", default="1").told
        ('read them: on or off', 'at once (default: 1)')
        """
        choices = f": {' or '.join(self.choices)}" if self.choices else ""
        return f"{self.help}{choices}" + (f" (default: {self.default})" if self.default else "")


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as people type it; `also` is another name that it has there for good."""

    name: str
    help: str
    options: tuple[Option, ...] = ()
    also: str = ""

    @property
    def command(self) -> str:
        """Return the verb's name for `python -m rehearsal`."""
        return command_of(self.name)

    @property
    def offered(self) -> tuple[Option, ...]:
        """Return the options that `./inv` offers."""
        return tuple(option for option in self.options if not option.scripted)

    def words(self, given: Mapping[str, str | bool | None]) -> Iterator[str]:
        """Yield the words of a command line: what is None was not given, an empty text was.

        >>> verb = Verb("db.rollback", "", (Option("env", ""), Option("yes", ""), Option("emergency", "")))
        >>> list(verb.words({"env": None, "yes": True, "emergency": ""}))
        ['--yes', '--emergency=']
        """
        for option in self.options:
            value = given.get(option.name)
            if value is None or value is False:
                continue
            if option.kind is Kind.WORD:
                yield str(value)
            else:
                yield option.flag if value is True else f"{option.flag}={value}"


def command_of(name: str) -> str:
    """Return the name for `python -m rehearsal` of what people type.

    >>> [command_of(name) for name in ("db.rollback", "load.run", "report.open", "doctor")]
    ['rollback', 'load', 'report-open', 'doctor']
    """
    return name.removeprefix("db.").removesuffix(".run").replace(".", "-")
