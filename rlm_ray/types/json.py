"""JSON values of which the package knows no more than that they are JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: A JSON object whose keys somebody else chooses: settings of a file, arguments of a verb, the body of a request.
JsonObject: TypeAlias = dict[str, Any]
#: A JSON Schema. What a key means depends on the other keys, so no type of Python describes it.
JsonSchema: TypeAlias = dict[str, Any]
#: A record of a corpus, a result or a table of findings: the data choose its columns.
Record: TypeAlias = Mapping[str, object]
