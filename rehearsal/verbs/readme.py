"""The table of commands in README.md, made of the declared verbs: `python -m rehearsal.verbs.readme README.md`.

Owns the layout of the table, and nothing that stands outside its two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rehearsal.verbs.table import VERBS
from rehearsal.verbs.verb import Kind, Option, Verb

BEGIN = "<!-- verbs: written by python -m rehearsal.verbs.readme -->"
END = "<!-- end of verbs -->"
EVERYWHERE = {"plan", "env"}


def render_table() -> str:
    """Return the table: a verb a line, with its options besides plan and environment."""
    return "\n".join(["| command | what it does | options |", "| --- | --- | --- |", *map(_line, VERBS)])


def written(text: str) -> str:
    """Return a page with the table as it is now between its marks; a second time changes nothing."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render_table()}\n{END}{after}"


def _line(verb: Verb) -> str:
    also = f" (also as `./inv {verb.also}`)" if verb.also else ""
    return f"| `./inv {verb.name}` | {verb.help}{also} | {' '.join(_options(verb))} |"


def _options(verb: Verb) -> Iterator[str]:
    yield from (f"`{_shape(option)}`" for option in verb.offered if option.name not in EVERYWHERE)


def _shape(option: Option) -> str:
    """Return an option as a usage line has it.

    >>> _shape(Option("reads", "", choices=("on", "off"))), _shape(Option("rows", "", Kind.WHOLE))
    ('--reads on/off', '--rows ROWS')
    """
    value = "/".join(option.choices) or option.metavar or option.name.upper()
    if option.kind is Kind.WORD:
        return value
    return option.flag if option.kind is Kind.SWITCH else f"{option.flag} {value}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
