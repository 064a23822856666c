"""A small validator of JSON Schema, of just the keywords that our schemas use; any other keyword is an error.

It shares no code with the models that the schemas are exported from.
"""

from __future__ import annotations

from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = {"title", "description", "default", "$schema", "$defs"}
KNOWN = NOTES | {
    "$ref", "type", "anyOf", "allOf", "enum", "const", "properties", "required", "additionalProperties", "items",
    "prefixItems", "minItems", "maxItems",
}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> list[str]:
    """Return where a value breaks its schema."""
    unknown = schema.keys() - KNOWN
    if unknown:
        message = f"{where}: the validator does not know {sorted(unknown)}"
        raise NotImplementedError(message)
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    if "anyOf" in schema:
        tried = [problems(value, branch, root, where) for branch in schema["anyOf"]]
        return [] if any(not found for found in tried) else [f"{where}: fits none of {len(tried)} forms"]
    if "allOf" in schema:
        return [found for part in schema["allOf"] for found in problems(value, part, root, where)]
    return [*_plain(value, schema, where), *_members(value, schema, root, where), *_items(value, schema, root, where)]


def _plain(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    wanted = schema.get("type")
    if wanted and (not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")):
        return [f"{where}: not of type {wanted}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {schema['enum']}"]
    return [f"{where}: not {schema['const']!r}"] if "const" in schema and value != schema["const"] else []


def _members(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    found = [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
    if schema.get("additionalProperties") is False:
        found += [f"{where}: {name} is unknown" for name in value.keys() - known.keys()]
    return found + [p for name in value.keys() & known.keys() for p in problems(value[name], known[name], root, name)]


def _items(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str) -> list[str]:
    if not isinstance(value, list):
        return []
    few = len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value))
    forms = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
    pairs = enumerate(zip(value, forms, strict=False))
    inner = [p for number, (item, form) in pairs for p in problems(item, form, root, f"{where}[{number}]")]
    return [f"{where}: has {len(value)} items", *inner] if few else inner
