"""Plan files: find, load and check them, with errors that name key, line and what is right.

Owns the way from a TOML text to a `Plan`. Must not know databases or hosts. Lines of keys are counted here, since no
library tells them truly: tomllib and tomlkit have none, and tomlkit moves what was opened twice
(docs/decisions/0014-what-is-kept-by-hand.md).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rehearsal.errors import PlanError
from rehearsal.plan.model import Operation, Plan, TableSpec

Where = tuple[str | int, ...]
SHOWN = 5


def find_plan(name: str, root: Path) -> Path:
    """Find the file of a plan by its name (`hospitality`) or its path (`my/plan.toml`).

    Raises:
        PlanError: there is none; lists the plans and the nearest name.
    """
    as_path = Path(name)
    if name.endswith(".toml") and as_path.is_file():
        return as_path
    path = root / "plans" / f"{name}.toml"
    if re.fullmatch(r"[\w.-]+", name) and path.is_file():
        return path
    known = sorted(file.stem for file in (root / "plans").glob("*.toml"))
    message = (
        f"no plan {name!r} in {root / 'plans'}; the plans are: {', '.join(known) or 'none'}{_nearest(name, known)}"
    )
    raise PlanError(message)


def load_plan(path: Path) -> Plan:
    """Read a plan and check it against its schema and against itself.

    Raises:
        PlanError: unreadable, not TOML, an unknown key, a wrong value, or parts that contradict each other.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise PlanError(f"cannot read plan {path}: {reason}") from exc
    try:
        plan = Plan.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as exc:
        raise PlanError(f"{path}: not valid TOML: {str(exc).lower()}") from exc
    except ValidationError as exc:
        raise PlanError(_joined(path, text, [_explain(error) for error in exc.errors()])) from exc
    if problems := list(_contradictions(plan)):
        raise PlanError(_joined(path, text, problems))
    return plan


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan file."""
    schema = Plan.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def render_schema() -> str:
    """Return the text of `plans/plan.schema.json`."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


# ---- what is wrong, and where ------------------------------------------------------------------------------------


def _joined(path: Path, text: str, problems: Sequence[tuple[Where, str]]) -> str:
    lines = key_lines(text)
    shown = [f"{path}, line {_line(lines, where)}: {what}" for where, what in problems[:SHOWN]]
    if len(problems) > SHOWN:
        shown.append(f"and {len(problems) - SHOWN} more")
    return "\n".join(shown)


def _explain(error: ErrorDetails) -> tuple[Where, str]:
    where = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        return where, f"unknown key {_spell(where)}{_nearest(str(where[-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return where, f"key {_spell(where)} is missing"
    return where, f"{_spell(where)} is {_short(error['input'])}: {_lower_first(error['msg'])}"


def _short(value: object, room: int = 60) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= room else text[:room] + "…"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _spell(where: Where) -> str:
    """Spell a place as people write it.

    >>> _spell(("tables", 0, "premake"))
    'tables[0].premake'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _known_keys(where: Where) -> list[str]:
    schema = plan_schema()
    node = schema
    for part in where:
        node = _child(schema, node, part)
    return sorted(_resolved(schema, node).get("properties", {}))


def _child(schema: dict[str, Any], node: dict[str, Any], part: str | int) -> dict[str, Any]:
    node = _resolved(schema, node)
    if isinstance(part, int):
        return cast("dict[str, Any]", node.get("items", {}))
    properties = node.get("properties", {})
    return cast("dict[str, Any]", properties.get(part) or node.get("additionalProperties") or {})


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            node = option
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


# ---- lines of keys -----------------------------------------------------------------------------------------------


def key_lines(text: str) -> dict[Where, int]:
    r"""Return the line where each header and each key of a TOML text begins, which must be valid.

    Keys within an inline table have the line where it begins.

    >>> key_lines('name = "x"\n[[tables]]\nkey = "at"\n')[("tables", 0, "key")]
    3
    """
    lines: dict[Where, int] = {}
    counts: dict[Where, int] = {}
    prefix: Where = ()
    for number, statement, read in _statements(text):
        keys = list(_keys(read))
        if statement.startswith("["):
            prefix = _enter(counts, keys[-1], is_array=statement.startswith("[["))
            keys = [()]
        for where in keys:
            lines.setdefault((*prefix, *where), number)
    return lines


# A value that goes on over lines ends in a line that has one of these; to read it anew at each line would take minutes.
CLOSING = ("]", "}", '"""', "'''")


def _statements(text: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Yield each header and each key with its value: its first line, its text, and what that alone means.

    Each is a TOML text of its own, and ends with the first line that makes it one.
    """
    held, begin = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        held += line + "\n"
        may_end = number == begin or any(sign in line for sign in CLOSING)
        read = _read(held) if may_end else None
        if read is None:
            continue
        if read:
            yield begin, held.lstrip(), read
        held, begin = "", number + 1


def _read(statement: str) -> Mapping[str, Any] | None:
    """Return what a statement means; None where it goes on in the next line."""
    try:
        return tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None


def _keys(read: Mapping[str, Any]) -> Iterator[Where]:
    """Yield the path of each key, a table before what is in it."""
    for name, value in read.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *rest) for rest in _keys(cast("dict[str, Any]", value)))


def _enter(counts: dict[Where, int], header: Where, *, is_array: bool) -> Where:
    path: Where = ()
    for depth, part in enumerate(header, start=1):
        path = (*path, part)
        if is_array and depth == len(header):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _line(lines: dict[Where, int], where: Where) -> int:
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return 1


# ---- parts of a plan that must agree -----------------------------------------------------------------------------


def _contradictions(plan: Plan) -> Iterator[tuple[Where, str]]:
    names = [table.name for table in plan.tables]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("tables", index, "name"), f"table {name} is planned twice"
    for index, table in enumerate(plan.tables):
        for at, what in _method(plan, table):
            yield ("tables", index, at), f"table {table.name}: {what}"
        if "after_cleanup" in table.model_fields_set and not plan.traits.mirrors:
            what = f"after_cleanup is for dual-write, where both tables have a name; the strategy is {plan.strategy}"
            yield ("tables", index, "after_cleanup"), f"table {table.name}: {what}"
    if plan.traits.mirrors and plan.flags is None:
        yield (
            ("strategy",),
            f"strategy {plan.strategy} needs [flags] with reads and writes: the application decides by them",
        )
    yield from _references(plan, names)
    yield from _queries(plan)
    for index, operation in enumerate(plan.load.operations):
        for key, what in _operation(plan, operation):
            yield ("load", "operations", index, *key), f"load operation {operation.name!r}: {what}"


BELONGS_TO = {"interval": "range", "epoch": "range", "premake": "range", "values": "list", "modulus": "hash"}


def _method(plan: Plan, table: TableSpec) -> Iterator[tuple[str, str]]:
    """Parts of a table that mean nothing for its method, or lack in it."""
    method = table.method
    for key, owner in BELONGS_TO.items():
        if key in table.model_fields_set and owner != method:
            yield key, f'{key} belongs to method = "{owner}", and the method is {method}'
    if method not in plan.traits.methods:
        yield (
            "method",
            f"strategy {plan.strategy} partitions by {' or '.join(plan.traits.methods)}, and the method is {method}",
        )
    if method == "range":
        yield from _range(table)
    elif table.retention is not None:
        yield "retention", f"partitions of a {method} have no age"
    if method == "list":
        yield from _values(table)
    if method == "hash" and table.modulus is None:
        yield "method", "method hash needs modulus, the number of partitions"
    if method == "hash" and table.default_partition:
        yield "default_partition", "a hash has a partition for every key, so PostgreSQL refuses a default one"


def _range(table: TableSpec) -> Iterator[tuple[str, str]]:
    if not table.interval.isdigit():
        return
    if table.epoch:
        yield "interval", f"interval {table.interval} is a number, and with epoch it must be a time, as '1 month'"
    elif table.retention is not None:
        yield "retention", "an age means nothing for a key that is a number; if it counts time, say so with epoch"


def _values(table: TableSpec) -> Iterator[tuple[str, str]]:
    if not table.values:
        yield "method", 'method list needs values, as { europe = ["de", "fr"] }'
    homes: dict[str, str] = {}
    for name, values in table.values.items():
        if not values:
            yield "values", f"partition {name} has no values"
        if name == "default":
            yield "values", "the name default is kept for default_partition = true"
        for value in values:
            if homes.setdefault(str(value), name) != name:
                yield "values", f"value {value!r} is in {homes[str(value)]} and in {name}"


def _references(plan: Plan, names: list[str]) -> Iterator[tuple[Where, str]]:
    """Tables that queries, smoke and data name must be there."""
    used: list[tuple[Where, str | None]] = [
        *((("queries", i, "table"), query.table) for i, query in enumerate(plan.queries)),
        *((("smoke", i, "creates"), smoke.creates) for i, smoke in enumerate(plan.smoke)),
        *((("load", "operations", i, "table"), operation.table) for i, operation in enumerate(plan.load.operations)),
    ]
    for where, name in used:
        if name is not None and name not in names:
            yield where, f"table {name} is not planned{_nearest(name, names)}; planned: {', '.join(names)}"
    made: list[str] = []
    for index, table in enumerate(plan.data.tables):
        for column_name, column in table.columns.items():
            where = ("data", "tables", index, "columns", column_name)
            if column.kind == "reference" and column.table not in made:
                yield where, f"{_spell(where)} refers to {column.table}, which is not filled before it"
            if column.kind == "offset" and column.column not in table.columns:
                yield where, f"{_spell(where)} follows {column.column!r}, which is no column of {table.name}"
        made.append(table.name)


def _queries(plan: Plan) -> Iterator[tuple[Where, str]]:
    methods = {table.name: table.method for table in plan.tables}
    for index, query in enumerate(plan.queries):
        has_range = query.window is not None or query.month is not None
        uses_range = "%(lower)s" in query.sql or "%(upper)s" in query.sql
        if "{table}" not in query.sql:
            yield ("queries", index, "sql"), f"query {query.name!r} does not use {{table}}"
        if uses_range and not has_range:
            yield ("queries", index, "sql"), f"query {query.name!r} uses a range; give window or month"
        if query.window is not None and query.month is not None:
            yield ("queries", index, "month"), f"query {query.name!r} has window and month; give one of them"
        if uses_range and "%(key)s" in query.sql:
            yield ("queries", index, "sql"), f"query {query.name!r} asks for a range and for one key; take one of them"
        if query.pruned and not uses_range and "%(key)s" not in query.sql:
            yield ("queries", index), f"query {query.name!r} has no range of the key; set pruned = false"
        method = methods.get(query.table, "range")
        if has_range and method != "range":
            what = f"query {query.name!r}: a {method} has no window and no month; ask for %(key)s"
            yield ("queries", index, "window" if query.window is not None else "month"), what


NEEDED_IN_TEXT = {
    "insert": ("key", "marker"),
    "update": ("id", "marker"),
    "move": ("id", "key", "marker"),
    "delete": ("id",),
    "read": (),
}


def _operation(plan: Plan, operation: Operation) -> Iterator[tuple[Where, str]]:
    markers = {table.name: table.marker for table in plan.tables}
    if operation.action in ("insert", "update", "move") and not markers.get(operation.table, "unknown"):
        yield (), f"it writes to {operation.table}, which has no marker; name a text column as marker in [[tables]]"
    if operation.via == "sql" and not operation.sql:
        yield (), "via sql needs sql"
        return
    if operation.via == "http" and not (operation.method and operation.path):
        yield (), "via http needs method and path"
        return
    text = operation.sql or f"{operation.path} {json.dumps(operation.body)}"
    for name in NEEDED_IN_TEXT[operation.action]:
        wanted = f"%({name})s" if operation.via == "sql" else f"{{{name}}}"
        if wanted not in text:
            yield ("sql" if operation.via == "sql" else "path",), f"{operation.action} needs {wanted}"
    if operation.via == "sql" and operation.action == "insert" and "returning" not in text.lower():
        yield ("sql",), "insert must end with returning id"


def main() -> None:
    """Write the JSON Schema beside the plans: `python -m rehearsal.plan.file > plans/plan.schema.json`."""
    print(render_schema(), end="")  # noqa: T201 -- the command's result


if __name__ == "__main__":
    main()
