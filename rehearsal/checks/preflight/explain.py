"""Texts about findings, made of the catalogue: one finding explained, the pages in `docs/findings/`.

Owns wording and layout of these texts. Must not know a database.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, cast

from rehearsal.checks.preflight.catalogue import ENTRIES, ENTRY, Entry, Example, Says
from rehearsal.checks.preflight.catalogue.entry import NEWEST, OLDEST
from rehearsal.plan.strategies import STRATEGIES

# Nothing of a text but its words stands in braces; two of them stand for one that is meant.
WORD = re.compile(r"(?<!{){(\w+)}(?!})")
COMMENT = """\
What preflight finds before anything is changed. A blocker is refused, and only its remedy helps. A warning is a risk
that people decide on. `./inv explain FINDING` says on the screen what its page says here.

A plan may accept these, by writing the id into `accepted` of the table: they are about statements of the application
that go on with another meaning, and only you know whether that is meant. They are still shown, as accepted.
"""


def explain_finding(name: str) -> str:
    """Return what the finding of that id means, for a terminal."""
    entry = ENTRY[name]
    lines = [f"{entry.id}: {entry.title}", ""]
    for label, text in _sentences(entry):
        lines += textwrap.wrap(
            _filled(text, "<{}>"), 88, initial_indent=f"{label + ':':<12}", subsequent_indent=" " * 12
        )
    if isinstance(entry.example, Example):
        lines += ["", f"docs/findings/{entry.id}.md shows it on a small table."]
    return "\n".join(lines) + "\n"


def render_finding(entry: Entry) -> str:
    """Return the page `docs/findings/<id>.md`."""
    sentences = "".join(f"**{label}.** {_whole(_filled(text, '*{}*'))}\n\n" for label, text in _sentences(entry))
    shown = "".join(f"{line}\n" for line in _shown(entry.example)) if isinstance(entry.example, Example) else ""
    return f"# {entry.id}\n\n{entry.title}.\n\n{sentences}{shown}".rstrip("\n") + "\n"


def render_findings() -> dict[str, str]:
    """Return every page of a finding, and the index, by file name."""
    accepted = "".join(f"- [{entry.id}]({entry.id}.md)\n" for entry in ENTRIES if entry.may_accept)
    rows = "".join(
        f"| [{entry.id}]({entry.id}.md) | {entry.title} | {_severity(entry)} | {'yes' if entry.may_accept else ''} |\n"
        for entry in ENTRIES
    )
    index = f"| finding | means | severity | a plan may accept it |\n| --- | --- | --- | --- |\n{rows}"
    return {"README.md": f"# Findings\n\n{COMMENT}\n{accepted}\n{index}"} | {
        f"{entry.id}.md": render_finding(entry) for entry in ENTRIES
    }


def _sentences(entry: Entry) -> Iterator[tuple[str, str]]:
    yield "Severity", _severity(entry)
    for case, says in entry.cases():
        yield from _texts(case, says)
    yield "Concerns", "every strategy" if entry.strategies == STRATEGIES else " and ".join(sorted(entry.strategies))
    if entry.may_accept:
        yield "Accepted", f"a plan may accept it: write {entry.id} into `accepted` of the table"
    if not isinstance(entry.example, Example):
        yield "Shown by", f"{entry.example.by}. No SQL on a small table shows it: {entry.example.why}"


def _texts(case: str, says: Says) -> Iterator[tuple[str, str]]:
    if case:
        yield "Case", f"{case}, a {says.severity}"
    yield "Says", says.condition
    yield "Effect", says.effect
    yield "Remedy", says.remedy


def _severity(entry: Entry) -> str:
    return " or ".join(entry.severities)


def _filled(text: str, form: str) -> str:
    """Return a text with its words as they are shown to people.

    >>> _filled('{rows} rows of uniques = {{ "a" }}', "<{}>")
    '<rows> rows of uniques = { "a" }'
    """
    shown = WORD.sub(lambda found: form.format(found[1].replace("_", " ")), text)
    return shown.replace("{{", "{").replace("}}", "}")


def _whole(text: str) -> str:
    """Return a text as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _shown(example: Example) -> Iterator[str]:
    yield "## See it"
    yield ""
    if (example.since, example.until) != (OLDEST, NEWEST):
        yield _versions(example)
        yield ""
    yield from _fenced("sql", example.table + example.bad_sql)
    yield from _fenced("toml", _toml(example.plan()))
    if example.along:
        yield f"With it comes {' and '.join(sorted(example.along))}."
        yield ""
    yield "## Mend it"
    yield ""
    yield from _fenced("sql", example.good_sql)
    if example.good_spec is not None:
        yield "and in the plan:"
        yield ""
        yield from _fenced("toml", _toml(example.plan(is_mended=True)))


def _versions(example: Example) -> str:
    if example.since > OLDEST:
        return f"On PostgreSQL {example.since} and later:"
    return f"On PostgreSQL {example.until} and earlier:"


def _fenced(language: str, text: str) -> list[str]:
    return [f"```{language}", text.rstrip("\n"), "```", ""]


def _toml(plan: dict[str, Any]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in plan.items() if isinstance(value, str)]
    if "flags" in plan:
        lines += ["", "[flags]", *(f"{key} = {_value(value)}" for key, value in plan["flags"].items())]
    for table in plan["tables"]:
        lines += ["", "[[tables]]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _value(value: Any) -> str:
    """Return a text, a list, or a table on one line, as TOML has them.

    >>> _value({"message_body": "add-key"})
    '{ "message_body" = "add-key" }'
    """
    if not isinstance(value, dict):
        return json.dumps(value)
    items = cast("dict[str, Any]", value).items()
    return f"{{ {', '.join(f'{json.dumps(key)} = {_value(item)}' for key, item in items)} }}"
