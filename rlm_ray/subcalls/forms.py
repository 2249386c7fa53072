"""Makes strict JSON Schemas, as endpoints in strict mode accept them, from the short form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, get_args, get_origin

from rlm_ray.errors import InputError
from rlm_ray.types.json import JsonSchema

EXAMPLE = '{"label": ["spam", "ham"], "amount": "number", "words": "quote"}'
_TYPES = {
    "string": "string", "str": "string", "text": "string",
    "number": "number", "float": "number", "double": "number",
    "integer": "integer", "int": "integer",
    "boolean": "boolean", "bool": "boolean",
    "array": "array", "list": "array",
    "object": "object", "dict": "object",
}  # fmt: skip
#: The type of words that must stand in what the model is shown, and what its form says: a form that says this is a quote.
QUOTE, COPIED = "quote", "words copied from the record to the letter"
_COLUMNS = {"string": "string", "number": "double", "integer": "int64", "boolean": "bool"}
_KEYWORDS = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "items"})


def strict_object(properties: Mapping[str, Any]) -> JsonSchema:
    """A JSON Schema object that requires all of its properties and allows no others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def is_json_schema(schema: Mapping[str, Any]) -> bool:
    """Whether this is a JSON Schema, not the short form."""
    if "$schema" in schema or isinstance(schema.get("properties"), Mapping):
        return True
    if schema.get("type") == "object" and set(schema) <= {"type", "required", "additionalProperties", "title", "description"}:
        return True
    return isinstance(schema.get("type"), str) and (
        isinstance(schema.get("items"), Mapping) or any(isinstance(schema.get(key), list) for key in ("enum", "anyOf"))
    )


def check_name(name: Any, schema: Any) -> None:
    """Refuse a name that no column can have."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"schema has the column {name!r}: a column's name must be a text that is not empty. Rename it.")
    if name.startswith("_"):
        raise InputError(f"schema has the column {name!r} = {shown(schema[name])}: names with '_' in front are ours. Rename it.")


def property_of(name: str, kind: Any) -> JsonSchema:
    """The JSON Schema of one column in the short form."""
    if isinstance(kind, str):
        word = kind.strip().lower().removesuffix("?").removesuffix(" or null")
        if word == QUOTE:
            return {"type": ["string", "null"], "description": COPIED}
        if word in _TYPES:
            return {"type": [_TYPES[word], "null"]}
        raise InputError(
            f'schema["{name}"] = {kind!r} is no type. Use "string", "number", "integer", "boolean" or "quote", or a list of labels.'
        )
    if isinstance(kind, (list, tuple)):
        if len(kind) == 1 and isinstance(kind[0], str) and kind[0].strip().lower() == QUOTE:
            return {"type": ["array", "null"], "items": {"type": "string", "description": COPIED}}
        if len(kind) == 1 and isinstance(kind[0], str) and kind[0].strip().lower() in _TYPES:
            return {"type": ["array", "null"], "items": {"type": _TYPES[kind[0].strip().lower()]}}
        return _labels(name, list(kind))
    if isinstance(kind, Mapping) and kind:
        if _KEYWORDS & set(kind):
            check_json_schema(kind, name)
            schema: dict[str, Any] = strict(dict(kind))
            return schema
        return strict_object({str(key): property_of(f"{name}.{key}", item) for key, item in kind.items()})
    raise InputError(f'schema["{name}"] = {shown(kind)} is no type. Use "string", "number", "integer", "boolean" or labels.')


def _labels(name: str, labels: list[Any]) -> JsonSchema:
    if not labels:
        raise InputError(f'schema["{name}"] = []: a list of labels needs at least one. Give the labels.')
    for label in labels:
        if label is not None and not isinstance(label, (str, int, float, bool)):
            raise InputError(f'schema["{name}"] holds {shown(label)}: a label must be a text or a number. Give plain labels.')
    if len({json.dumps(label) for label in labels}) < len(labels):
        raise InputError(f'schema["{name}"] = {shown(labels)} names a label twice. Give each once.')
    return {"type": "string", "enum": labels} if all(isinstance(label, str) for label in labels) else {"enum": labels}


class Model(Protocol):
    """A pydantic model, as a class."""

    @classmethod
    def model_json_schema(cls) -> JsonSchema:
        """Return its JSON Schema."""


def model_of(schema: Any) -> type[Model] | None:
    """Return the pydantic model that was given as a schema, also of a `list[Model]`; None where none was."""
    kinds = get_args(schema) if get_origin(schema) is list else (schema,)
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and hasattr(kinds[0], "model_json_schema") else None


def json_schema_of(schema: Any) -> JsonSchema:
    """Return the JSON Schema of a pydantic model, or of a list of one, with every form written in its place.

    Raises
    ------
    InputError
        The model refers to itself.
    """
    model = model_of(schema)
    if model is None:
        raise InputError(f"schema = {schema!r:.200} is no pydantic model. Give a class that derives from pydantic.BaseModel.")
    form: JsonSchema = _inlined(model.model_json_schema(), {}, ())
    return {"type": "array", "items": form} if get_origin(schema) is list else form


def _inlined(form: Any, known: JsonSchema, inside: tuple[str, ...]) -> Any:
    """A form without `$ref`, titles and patterns; a type that may be null in the short way."""
    if isinstance(form, list):
        return [_inlined(item, known, inside) for item in form]
    if not isinstance(form, Mapping):
        return form
    known = {**known, **form.get("$defs", {})}
    if isinstance(form.get("$ref"), str):
        name = form["$ref"].rsplit("/", 1)[-1]
        if name in inside:
            raise InputError(f"The model {name} refers to itself, which no answer's schema can. Give a model that ends.")
        return _inlined({**known[name], **{key: item for key, item in form.items() if key != "$ref"}}, known, (*inside, name))
    copy = {
        key: {name: _inlined(item, known, inside) for name, item in value.items()}
        if key == "properties"
        else _inlined(value, known, inside)
        for key, value in form.items()
        if key not in ("$defs", "pattern", "default") and not (key == "title" and isinstance(value, str))
    }
    either = copy.get("anyOf", [])
    if len(either) == 2 and {"type": "null"} in either:
        (other,) = [item for item in either if item != {"type": "null"}]
        if "type" in other or "enum" in other:
            return {key: value for key, value in copy.items() if key != "anyOf"} | _nullable(other)
    return copy


def check_json_schema(schema: Mapping[str, Any], name: str | None = None) -> None:
    """Refuse what is no JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    # root code writes schemas, and a validator would fetch what they refer to, or be busy for ever with a pattern
    if (found := _keyword(schema, ("$ref", "$dynamicRef", "$recursiveRef"))) is not None:
        raise InputError(f"The schema refers to {shown(found)}. Write the form itself in its place, without $ref.")
    if (found := _keyword(schema, ("pattern", "patternProperties"))) is not None:
        raise InputError(f"The schema has the pattern {shown(found)}. Leave it out, and check the answers with .grep.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        at = f'["{name}"]' if name else ""
        place = "".join(f"[{part!r}]" for part in error.path)
        raise InputError(f"schema{at}{place} is no valid JSON Schema: {error.message:.300}. Correct it.") from None


def _keyword(schema: Any, keywords: tuple[str, ...]) -> Any:
    """What the first of these keywords says anywhere in a schema, or None. Properties may have any name."""
    if isinstance(schema, list):
        return next((found for item in schema if (found := _keyword(item, keywords)) is not None), None)
    if not isinstance(schema, Mapping):
        return None
    for key, item in schema.items():
        if key in keywords:
            return item
        named = key in ("properties", "$defs", "definitions", "dependentSchemas") and isinstance(item, Mapping)
        if (found := _keyword(list(item.values()) if named else item, keywords)) is not None:
            return found
    return None


def strict(schema: Any) -> Any:
    """A copy in which every object requires all its properties (those that were optional may be null) and no others."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {key: strict(item) for key, item in schema.items() if key != "properties"}
    if copy.get("format") == QUOTE:  # which endpoints do not know
        copy = {key: item for key, item in copy.items() if key != "format"} | {"description": COPIED}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        required = schema.get("required", list(properties))
        copy["properties"] = {
            name: strict(form) if name in required else _nullable(strict(form)) for name, form in properties.items()
        }
        copy["required"] = list(properties)
        copy.setdefault("type", "object")
        copy.setdefault("additionalProperties", False)
    return copy


def _nullable(form: Any) -> Any:
    if not isinstance(form, dict):
        return form
    if "enum" in form:
        return form | {"enum": [*form["enum"], *([] if None in form["enum"] else [None])]} | _with_null(form)
    return form | _with_null(form) if "type" in form else {"anyOf": [form, {"type": "null"}]}


def _with_null(form: JsonSchema) -> JsonSchema:
    if "type" not in form:
        return {}
    kinds = form["type"] if isinstance(form["type"], list) else [form["type"]]
    return {"type": kinds if "null" in kinds else [*kinds, "null"]}


def column_type(form: JsonSchema) -> str:
    """The type of a column whose values have this form: string, double, int64, bool, or json."""
    if "enum" in form:
        kinds = {type(label) for label in form["enum"] if label is not None}
        return {frozenset({str}): "string", frozenset({bool}): "bool", frozenset({int}): "int64"}.get(
            frozenset(kinds), "double" if kinds and kinds <= {int, float} else "json"
        )
    kinds_named = form.get("type")
    kinds_left = [kind for kind in (kinds_named if isinstance(kinds_named, list) else [kinds_named]) if kind != "null"]
    return _COLUMNS.get(kinds_left[0], "json") if len(kinds_left) == 1 and kinds_left[0] is not None else "json"


def shape(form: Any) -> str:
    """A form in a few words, for a prompt."""
    if not isinstance(form, dict):
        return "value"
    if "enum" in form:
        return " | ".join(json.dumps(label, ensure_ascii=False) for label in form["enum"])
    kinds = form.get("type")
    named = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind]
    suffix = " or null" if "null" in named else ""
    if "array" in named:
        return f"[{shape(form.get('items', {}))}, …]{suffix}"
    if "object" in named and form.get("properties"):
        return "{" + ", ".join(f'"{name}": {shape(item)}' for name, item in form["properties"].items()) + "}" + suffix
    described = f" ({form['description']})" if isinstance(form.get("description"), str) else ""
    return (" or ".join(str(kind) for kind in named) or "value") + described


def shown(value: Any) -> str:
    """A value as it is put into a message: JSON, cut."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 200 else text[:200] + f"… [{len(text) - 200} characters cut]"
