"""Whether a value that a record shows is the one that another reader has."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import re
import uuid
from typing import Any


def same(shown: Any, value: Any) -> bool:
    """Compare a value of a record with what pyarrow gives for it."""
    if value is None:
        return shown is None
    if isinstance(value, bool):
        return shown is value
    if isinstance(value, float):
        # NaN is no object that equals itself, so it is asked for by what it is
        number = isinstance(shown, int | float)
        return number and (math.isnan(shown) if math.isnan(value) else math.isclose(shown, value, rel_tol=1e-6))
    if isinstance(value, int):
        return bool(shown == value)
    if isinstance(value, str):
        return shown == value or json.dumps(shown) == value  # a column of JSON is shown as what it says
    if isinstance(value, dict):
        named = {str(name): item for name, item in value.items()}
        return isinstance(shown, dict) and shown.keys() == named.keys() and all(same(shown[name], named[name]) for name in named)
    if isinstance(value, list):
        return _same_list(shown, value)
    if isinstance(value, datetime.timedelta):
        return bool(shown == value.total_seconds())
    return isinstance(shown, str) and _same_text(shown, value)


def same_variant(shown: Any, value: Any) -> bool:
    """Compare a VARIANT of a record with what DuckDB writes for it as JSON: its decimals are doubles, its times have a blank."""
    if isinstance(value, dict):
        return (
            isinstance(shown, dict)
            and shown.keys() == value.keys()
            and all(same_variant(shown[name], value[name]) for name in value)
        )
    if isinstance(value, list):
        return isinstance(shown, list) and len(shown) == len(value) and all(map(same_variant, shown, value))
    if isinstance(value, float) and isinstance(shown, str):
        return float(shown) == value
    if isinstance(value, str) and isinstance(shown, str) and shown != value:
        data = re.sub(r"\\x(..)", lambda found: chr(int(found[1], 16)), value).encode("latin-1")
        return _same_text(shown, data) if shown.startswith("base64:") else shown.replace("T", " ").replace("Z", "+00") == value
    return bool(shown == value)


def _same_list(shown: Any, value: list[Any]) -> bool:
    if value and all(isinstance(item, tuple) for item in value):  # a map; of a key that it has twice one is shown
        return isinstance(shown, dict) and len(shown) == len({str(key) for key, _ in value})
    if not value:
        return shown in ([], {})
    return isinstance(shown, list) and len(shown) == len(value) and all(map(same, shown, value))


def _same_text(shown: str, value: Any) -> bool:
    if isinstance(value, bytes):
        return (base64.b64decode(shown[7:]) if shown.startswith("base64:") else shown.encode()) == value
    if isinstance(value, decimal.Decimal):
        return decimal.Decimal(shown) == value
    if isinstance(value, datetime.datetime):
        head, _, fraction = shown.removesuffix("Z").replace(" ", "T").partition(".")
        got = datetime.datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}")
        return got == (value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value)
    if isinstance(value, datetime.time):
        return datetime.time.fromisoformat(shown) == value
    if isinstance(value, uuid.UUID):
        return uuid.UUID(shown) == value
    return shown == str(value)
