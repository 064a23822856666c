"""The JSON Schema of the lines of `evidence.jsonl` and `events.jsonl`, from the classes that they are written from.

Owns `docs/evidence.schema.json`: a form of a line for each gate and for each kind of event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from rehearsal.evidence.data import CARRIED, DISTINCT, SPELT, Baseline, Data, Nothing
from rehearsal.evidence.events import ALL, KINDS, EventLine
from rehearsal.evidence.run import EvidenceLine

Input = tuple[str, Literal["serialization"], TypeAdapter[Any]]


def lines_schema() -> JsonSchemaValue:
    """Return the JSON Schema of one line of either stream."""
    carried = dict.fromkeys(data for several in CARRIED.values() for data in several)
    parts = _definitions([EvidenceLine, EventLine, Nothing, *carried, *ALL])
    parts[Nothing.__name__]["additionalProperties"] = False
    _spell(parts[Baseline.__name__])
    for line in (parts[EvidenceLine.__name__], parts[EventLine.__name__]):
        line["required"] = list(line["properties"])
    forms = [
        *(_form(EvidenceLine, gate=_exactly(gate), data=_data(several)) for gate, several in CARRIED.items()),
        _form(EvidenceLine, data=_data(())),
        *(_form(EventLine, kind=_exactly(kind), fields=_ref(happening)) for kind, happening in KINDS.items()),
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of evidence.jsonl or events.jsonl",
        "anyOf": forms,
        "$defs": parts,
    }


def _definitions(classes: Iterable[type]) -> dict[str, JsonSchemaValue]:
    """Return the schema of each class and of what they hold, by name."""
    inputs: list[Input] = [(part.__name__, "serialization", TypeAdapter(part)) for part in classes]
    _, schema = TypeAdapter.json_schemas(inputs)
    definitions: dict[str, JsonSchemaValue] = schema["$defs"]
    return definitions


def _form(line: type, **fields: JsonSchemaValue) -> JsonSchemaValue:
    """Return a line whose fields are narrowed to what one gate or kind has."""
    return {"allOf": [_ref(line), {"type": "object", "properties": fields}]}


def _data(carried: Sequence[type[Data]]) -> JsonSchemaValue:
    return {"anyOf": [_ref(part) for part in (*carried, Nothing)]}


def _ref(part: type) -> JsonSchemaValue:
    return {"$ref": f"#/$defs/{part.__name__}"}


def _exactly(word: str) -> JsonSchemaValue:
    return {"type": "string", "const": word}


def _spell(baseline: JsonSchemaValue) -> None:
    """Name what a line of a baseline has by the names that it has there."""
    fields = {SPELT.get(name, name): form for name, form in baseline["properties"].items() if name != "distinct"}
    baseline["properties"] = fields
    baseline["description"] += f"\n\nBeside these, a key `{DISTINCT}COLUMN` for each counted column."
