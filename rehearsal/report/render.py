"""Render a report: Markdown, JSON, HTML and JUnit XML. Pure text, from values only.

Owns escaping: HTML by autoescape, Markdown by a finalizer that every value passes, XML by the standard library.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from rehearsal.report.charts import draw
from rehearsal.report.model import GateRow, Observation, Report, ReportTable, Section, Signature

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
PLAIN_COLUMNS = re.compile(r"pid|port|id|xid|oid|year|number|status|lsn|version", re.IGNORECASE)
SEPARATE_FROM = 10_000
MAX_SUBJECTS = 3
MAX_OPEN_ROWS = 10
# What XML 1.0 cannot hold, escaped or not.
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_json(report: Report) -> str:
    """Return report.json."""
    return report.model_dump_json(indent=2) + "\n"


def render_markdown(report: Report, signature: Signature | None = None, problem: str = "") -> str:
    """Return report.md. `problem` says why a signature that is there does not hold."""
    values = _values(report, signature, problem)
    return _markdown().get_template("report.md.j2").render(**values, safe=Ready)


def render_html(report: Report, signature: Signature | None = None, problem: str = "") -> str:
    """Return report.html: one file, no script, no network."""
    values = _values(report, signature, problem)
    return _html().get_template("report.html.j2").render(**values, draw=draw)


def render_junit(report: Report) -> str:
    """Return report.junit.xml: a test case a gate; a gate that nobody saw is an error, never skipped."""
    states = [gate.state for gate in report.gates]
    suite = ET.Element(
        "testsuite",
        name=f"{report.plan} on {report.environment}",
        tests=str(len(states)),
        failures=str(states.count("failed")),
        errors=str(states.count("unseen")),
        skipped=str(sum(state.startswith("not ") for state in states)),
        time=f"{report.duration_s:.3f}",
        timestamp=report.started,
    )
    for gate in report.gates:
        _case(suite, gate, report.plan)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def show(value: Any, column: str = "") -> str:
    """Return one cell as people read it.

    >>> show(None), show(True), show(1234567, "rows"), show(1234567, "pid"), show(0.12345)
    ('–', 'yes', '1,234,567', '1234567', '0.123')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= SEPARATE_FROM and not PLAIN_COLUMNS.search(column) else str(value)
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return str(value)


def group(observations: Sequence[Observation]) -> list[Observation]:
    """Return what was seen, equal results of one phase in one row, and equal rows of several phases in one.

    A row for each thing that did not pass, always.
    """
    subjects: dict[tuple[bool | None, str, str, str], list[Observation]] = {}
    for item in observations:
        own = "" if item.passed is True else item.subject
        subjects.setdefault((item.passed, item.observed, item.phase, own), []).append(item)
    joined = [_join(items) for items in subjects.values()]
    phases: dict[tuple[bool | None, str, str], list[Observation]] = {}
    for item in joined:
        phases.setdefault((item.passed, item.observed, item.subject), []).append(item)
    return [
        items[0].model_copy(update={"phase": ", ".join(dict.fromkeys(item.phase for item in items))})
        for items in phases.values()
    ]


def _join(items: Sequence[Observation]) -> Observation:
    names = list(dict.fromkeys(item.subject for item in items))
    more = f" and {len(names) - MAX_SUBJECTS} more" if len(names) > MAX_SUBJECTS else ""
    return items[0].model_copy(update={"subject": ", ".join(names[:MAX_SUBJECTS]) + more})


def is_long(gate: GateRow) -> bool:
    """Return whether what a gate saw is folded away: it passed, and there is much of it."""
    return gate.state == "passed" and len(group(gate.observations)) > MAX_OPEN_ROWS


def is_folded(table: ReportTable) -> bool:
    """Return whether a table is folded away: a long one."""
    return len(table.rows) > MAX_OPEN_ROWS


def is_worthy(table: ReportTable, gate: GateRow) -> bool:
    """Return whether a table is shown on a page: plain values of a gate that passed stand in what it observed."""
    return gate.state != "passed" or table.title != "measured"


def head(column: str) -> Markup:
    """Return the head of a column: a word of ours without underscores, a name as it is, to be broken at its joints.

    >>> str(head("held_ms")), str(head("public.cash_flows"))
    ('held ms', 'public.<wbr>cash_<wbr>flows')
    """
    if "." not in column:
        return escape(column.replace("_", " "))
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[._])", column))


class Ready(str):
    """Markdown whose values are escaped already."""

    __slots__ = ()


def escape_markdown(value: Any) -> str:
    r"""Return a value as text of one line that Markdown leaves alone.

    >>> escape_markdown("a|b\n<c>")
    'a\\|b &lt;c&gt;'
    """
    if isinstance(value, Ready):
        return value
    text = " ".join(show(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text)


def _values(report: Report, signature: Signature | None, problem: str) -> dict[str, Any]:
    gates = {gate.id: gate for gate in report.gates}
    return {
        "report": report,
        "signature": signature,
        "problem": problem,
        "chapters": [(section, _gates_of(section, gates)) for section in report.sections],
        "strangers": _strangers(report),
    }


def _gates_of(section: Section, gates: dict[str, GateRow]) -> list[GateRow]:
    return [gates[name] for name in section.gates if name in gates]


def _strangers(report: Report) -> list[GateRow]:
    shown = {name for section in report.sections for name in section.gates}
    return [gate for gate in report.gates if gate.id not in shown]


def _case(suite: ET.Element, gate: GateRow, plan: str) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"rehearsal.{plan}", name=gate.id)
    tag = {"failed": "failure", "unseen": "error", "passed": "system-out"}.get(gate.state, "skipped")
    child = ET.SubElement(case, tag)
    lines = [f"{_mark(item.passed)} {item.subject}: {item.observed}" for item in gate.observations]
    child.text = _xml("\n".join(lines or [gate.reason]))
    if tag != "system-out":
        child.set("message", _xml(gate.reason))


def _mark(passed: bool | None) -> str:  # noqa: FBT001 -- a value that is shown
    return {True: "passed", False: "FAILED", None: "UNSEEN"}[passed]


def _xml(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


@cache
def _html() -> jinja2.Environment:
    return _prepare(jinja2.Environment(autoescape=True, **_common()))


@cache
def _markdown() -> jinja2.Environment:
    # Autoescape is for HTML; here every value passes `escape_markdown`.
    return _prepare(jinja2.Environment(autoescape=False, finalize=escape_markdown, **_common()))  # noqa: S701 -- above


def _common() -> dict[str, Any]:
    return {
        "loader": jinja2.FileSystemLoader(TEMPLATES),
        "undefined": jinja2.StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }


def _prepare(env: jinja2.Environment) -> jinja2.Environment:
    own = {"show": show, "mark": _mark, "head": head, "group": group}
    rules = {"long": is_long, "folded": is_folded, "worthy": is_worthy}
    filters: dict[str, Any] = env.filters
    filters.update({**own, **rules})
    return env
