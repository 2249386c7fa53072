"""What a server of chat completions enforces of a schema, and how it refuses: one row of the table in docs/servers.md.

    python tests/benchmarks/servers.py --base-url http://127.0.0.1:8080/v1 --model NAME [--key KEY] [--tries 3]

To be run with a small model that cannot follow a schema by itself: then what fits was enforced. Standard library and jsonschema,
no rlm_ray: what is seen is the server's.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from typing import Any

import jsonschema

#: What is asked for, by name; the prompts say nothing of the form.
SCHEMAS: dict[str, dict[str, Any]] = {
    "keys and types": {
        "type": "object",
        "properties": {"level": {"type": "string"}, "count": {"type": "integer"}, "bad": {"type": "boolean"}},
        "required": ["level", "count", "bad"],
        "additionalProperties": False,
    },
    "enum": {
        "type": "object",
        "properties": {"kind": {"enum": ["zebra", "quartz", "nimbus"]}},
        "required": ["kind"],
        "additionalProperties": False,
    },
    "exactly three items": {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}},
        "required": ["rows"],
        "additionalProperties": False,
    },
    "minimum and maximum": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 700, "maximum": 702}},
        "required": ["n"],
        "additionalProperties": False,
    },
    "pattern": {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^Q[0-9]{4}$"}},
        "required": ["code"],
        "additionalProperties": False,
    },
    "longest text": {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 12}},
        "required": ["text"],
        "additionalProperties": False,
    },
    "null or a text": {
        "type": "object",
        "properties": {"name": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 20}]}},
        "required": ["name"],
        "additionalProperties": False,
    },
    "$ref": {
        "type": "object",
        "properties": {"one": {"$ref": "#/$defs/kind"}},
        "required": ["one"],
        "additionalProperties": False,
        "$defs": {"kind": {"enum": ["zebra", "quartz"]}},
    },
}
PROMPTS = ("Tell me a story about the sea.", "line 7: disk failed on node 3", "What is two plus two?")


def ask(url: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return status and reply."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=180) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"text": text}


def text_of(reply: dict[str, Any]) -> str:
    """Return a reply's text."""
    return str(reply["choices"][0]["message"].get("content") or "")


def fits(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is JSON that a schema allows."""
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def enforced(url: str, key: str, body: dict[str, Any], schema: dict[str, Any], tries: int) -> str:
    """Return how many replies fit, or how it was refused."""
    held = 0
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    for prompt in PROMPTS[:tries]:
        status, reply = ask(url, key, body | {"messages": [{"role": "user", "content": prompt}], "response_format": form})
        if status != 200:
            return refused(status, reply)
        held += fits(text_of(reply), schema)
    return f"{held} of {tries}"


def refused(status: int, reply: dict[str, Any]) -> str:
    """Return a refusal in a few words."""
    error = reply.get("error", reply)
    said = error.get("message") if isinstance(error, dict) else error
    return f"{status}: {' '.join(str(said or reply).split())[:110]}"


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--tries", type=int, default=3)
    given = parser.parse_args()
    url, key = given.base_url.rstrip("/"), given.key
    body: dict[str, Any] = {"model": given.model, "max_tokens": 120, "temperature": 0}
    for name, schema in SCHEMAS.items():
        print(f"{name:24} {enforced(url, key, body, schema, given.tries)}", flush=True)
    one = {"messages": [{"role": "user", "content": PROMPTS[0]}]}
    status, reply = ask(url, key, body | one | {"response_format": {"type": "json_object"}})
    print(f"{'json_object':24} {fits(text_of(reply), {'type': 'object'}) if status == 200 else refused(status, reply)}")
    status, reply = ask(url, key, body | one | {"response_format": {"type": "no_such_form"}})
    print(f"{'an unknown form':24} {'200' if status == 200 else refused(status, reply)}")
    status, reply = ask(url, key, body | one | {"model": "no-such-model"})
    print(f"{'an unknown model':24} {'200' if status == 200 else refused(status, reply)}")
    status, reply = ask(url, "wrong-key", body | one)
    print(f"{'a wrong key':24} {'200' if status == 200 else refused(status, reply)}")
    status, reply = ask(url, key, body | one | {"max_tokens": 5})
    print(f"{'cut at five tokens':24} {reply['choices'][0]['finish_reason'] if status == 200 else refused(status, reply)}")
    long = {"messages": [{"role": "user", "content": "word " * 60_000}]}
    status, reply = ask(url, key, body | long)
    print(f"{'60,000 words':24} {'200' if status == 200 else refused(status, reply)}")
    again = {"messages": [{"role": "system", "content": "Be short. " * 60}, {"role": "user", "content": PROMPTS[2]}]}
    for _ in range(2):
        status, reply = ask(url, key, body | again | {"max_tokens": 4})
    print(f"{'usage, asked again':24} {json.dumps(reply.get('usage')) if status == 200 else refused(status, reply)}")


if __name__ == "__main__":
    main()
