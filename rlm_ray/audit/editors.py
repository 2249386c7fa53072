"""The JSON Schema of the specification, for editors: its keys, their meaning and their values."""

from __future__ import annotations

from rlm_ray.audit.spec import Spec
from rlm_ray.settings import Settings
from rlm_ray.types.json import JsonSchema


def json_schema() -> JsonSchema:
    """Return the JSON Schema of a specification, with the settings that a job may have.

    Examples
    --------
    >>> sorted(json_schema()["required"])
    ['corpora', 'finding', 'name', 'output', 'question']
    """
    schema = Spec.model_json_schema()
    settings = Settings.model_json_schema()
    parts = schema["$defs"] | settings.pop("$defs", {})
    uris = parts["CorpusSpec"]["properties"]["uris"]
    described = {"description": uris.pop("description"), "title": uris.pop("title")}
    parts["CorpusSpec"]["properties"]["uris"] = described | {"anyOf": [{"type": "string"}, uris]}
    settings.pop("required", None)
    for setting in settings["properties"].values():
        setting.pop("flag", None)  # of the command line alone
    own = schema["properties"]["settings"]
    schema["properties"]["settings"] = settings | {
        "description": own.get("description", "Models, limits and places."),
        "title": "Settings",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"$defs": parts, "title": "A job of rlm_ray"}
