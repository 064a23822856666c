"""Tables out of evidence: whatever a check put into `data` becomes readable rows.

Owns how `data` of a line of evidence is shown:

- `table`: `{"columns": […], "rows": [[…]]}` is shown as it is;
- a list of objects under any key becomes a table titled by the key;
- an object of plain values under any key becomes a table of two columns;
- plain values are gathered into one table of the gate, a row a subject.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from rehearsal.evidence.data import NOTHING
from rehearsal.evidence.run import Evidence
from rehearsal.report.model import Cell, ReportTable

MAX_ROWS = 300
MAX_COLUMNS = 8
PAIR = ["of", "value"]
SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|dsn|conninfo|private", re.IGNORECASE)
CREDENTIALS = re.compile(r"(\w+://[^/\s:@]*):[^@\s]*@|(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def tables_of(evidence: Sequence[Evidence]) -> list[ReportTable]:
    """Return the tables of one gate's evidence, in the order in which they were recorded."""
    declared = [table for item in evidence for table in _declared(item)]
    merged = _merge(declared, several=len({subject for subject, _ in declared}) > 1)
    plain = _plain([item for item in evidence if item.data is not NOTHING])
    return [*merged, *plain]


def make_table(title: str, rows: Sequence[Mapping[str, object]]) -> ReportTable | None:
    """Return objects as a table; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return None
    cells = [[as_cell(row.get(column)) for column in columns] for row in rows]
    return ReportTable(title=title, columns=columns, rows=cells[:MAX_ROWS], omitted=max(0, len(cells) - MAX_ROWS))


def settings_table(settings: Mapping[str, object]) -> ReportTable:
    """Return settings by name, secrets hidden."""
    rows: list[list[Cell]] = [[name, _as_text(hide(name, value))] for name, value in sorted(_flatten(settings))]
    return ReportTable(title="", columns=["setting", "value"], rows=rows)


def hide(name: str, value: object) -> Cell:
    """Return a value, or `hidden` if its name says that it is a secret.

    >>> hide("app_password", "x"), hide("url", "postgres://app:x@db/finance")
    ('hidden', 'postgres://app:hidden@db/finance')
    """
    if SECRET.search(name) and value not in (None, ""):
        return "hidden"
    cell = as_cell(value)
    return CREDENTIALS.sub(_redact, cell) if isinstance(cell, str) else cell


def as_cell(value: object) -> Cell:
    """Return a value as one cell of a table."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if _is_list(value) and all(isinstance(item, str | int | float) for item in _list(value)):
        return ", ".join(str(item) for item in _list(value))
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        if all(column is None or isinstance(column, str | int | float) for column in pairs.values()):
            return ", ".join(f"{name} {_short(value)}" for name, value in pairs.items())
    return json.dumps(value, default=str, sort_keys=True, ensure_ascii=False)


def pivot(title: str, rows: Sequence[Mapping[str, object]], *, across: str, value: str) -> ReportTable | None:
    """Return objects as a table in which the values of one column are the columns; as they are if those are too many.

    >>> pivot("", [{"at": 1, "of": "a", "n": 5}, {"at": 1, "of": "b", "n": 7}], across="of", value="n").rows
    [[1, 5, 7]]
    """
    names = list(dict.fromkeys(str(row.get(across)) for row in rows))
    if len(names) > MAX_COLUMNS or any(across not in row for row in rows):
        return make_table(title, rows)
    wide: dict[str, dict[str, object]] = {}
    for row in rows:
        rest = {name: cell for name, cell in row.items() if name not in {across, value}}
        wide.setdefault(json.dumps(rest, default=str), rest)[str(row[across])] = row.get(value)
    return make_table(title, list(wide.values()))


def _as_text(value: Cell) -> Cell:
    """Return a setting as it was set: a port is no amount."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _short(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value


def _redact(match: re.Match[str]) -> str:
    return f"{match[1]}:hidden@" if match[1] else f"{match[2]}hidden"


def _flatten(settings: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(cast("Mapping[str, object]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _declared(item: Evidence) -> Iterable[tuple[str, ReportTable]]:
    for key, value in item.data.to_json().items():
        table = _grid(item.subject, value) if key == "table" else _nested(key, value)
        if table is not None:
            yield item.subject, table


def _grid(title: str, value: object) -> ReportTable | None:
    if not (isinstance(value, Mapping) and {"columns", "rows"} <= value.keys()):
        return None
    grid = cast("Mapping[str, object]", value)
    columns = [str(column) for column in _list(grid["columns"])]
    return make_table(title, [dict(zip(columns, _list(row), strict=False)) for row in _list(grid["rows"])])


def _nested(key: str, value: object) -> ReportTable | None:
    title = key.replace("_", " ")
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value)
        return make_table(title, [{"of": name, "value": value} for name, value in pairs.items()])
    if _is_list(value) and value and all(isinstance(row, Mapping) for row in _list(value)):
        return make_table(title, cast("Sequence[Mapping[str, object]]", value))
    return None


def _merge(declared: Sequence[tuple[str, ReportTable]], *, several: bool) -> list[ReportTable]:
    groups: dict[tuple[str, ...], list[tuple[str, ReportTable]]] = {}
    for subject, table in declared:
        groups.setdefault((*table.columns, "" if subject == table.title else table.title), []).append((subject, table))
    return [_join(group) if several and len(group) > 1 else table for group in groups.values() for table in _one(group)]


def _one(group: Sequence[tuple[str, ReportTable]]) -> list[ReportTable]:
    return [group[0][1]] if len({subject for subject, _ in group}) > 1 else [table for _, table in group]


def _join(group: Sequence[tuple[str, ReportTable]]) -> ReportTable:
    rows: list[list[Cell]] = [[subject, *row] for subject, table in group for row in table.rows]
    subject, first = group[0]
    title = "" if subject == first.title else first.title
    if first.columns == PAIR:
        pairs = [dict(zip(["subject", *PAIR], row, strict=True)) for row in rows]
        if (wide := pivot(title, pairs, across="of", value="value")) is not None:
            return wide
    omitted = sum(table.omitted for _, table in group) + max(0, len(rows) - MAX_ROWS)
    return ReportTable(title=title, columns=["subject", *first.columns], rows=rows[:MAX_ROWS], omitted=omitted)


def _plain(evidence: Sequence[Evidence]) -> list[ReportTable]:
    rows = [
        {"subject": item.subject, **{key: value for key, value in item.data.to_json().items() if _is_plain(key, value)}}
        for item in evidence
    ]
    table = make_table("measured", [row for row in rows if len(row) > 1])
    return [table] if table else []


def _is_plain(key: str, value: object) -> bool:
    return key != "table" and value not in ([], ()) and not isinstance(value, Mapping) and _nested(key, value) is None


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _list(value: object) -> list[object]:
    return list(cast("Iterable[object]", value))
