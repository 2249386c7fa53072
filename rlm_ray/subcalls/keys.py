"""The key of a sub-call: equal keys mean the same question to the same model about the same content."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from rlm_ray.subcalls.prompts import VERSION


def digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1_000)
def question_key(kind: str, model: str, prompt: str, schema: str, temperature: float | None) -> str:
    """The part of a key that a whole batch shares. `schema` is canonical JSON."""
    return digest(json.dumps([VERSION, kind, model, prompt, schema, temperature]))


def call_key(question: str, content: str, vote: int = 0, piece: int | None = None, pieces: int | None = None, own: str = "") -> str:
    """Key of one sub-call: the question and exactly what the model is shown of the record, wherever the record is.

    Parameters
    ----------
    question : str
        From `question_key`.
    content : str
        Digest of the rendered record, chunk, piece or prompt.
    vote : int
        Which of several votes, from 1; 0 for the answer itself.
    piece, pieces : int, optional
        Which piece of how many, of a chunk that was too large: the prompt says both.
    own : str
        Names the record and its version where equal records are asked about apart; else empty.
    """
    return hashlib.sha256(f"{question}\n{own}\n{content}\n{vote}\n{piece}/{pieces}".encode("utf-8", "surrogatepass")).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys, for keys and for comparing answers.

    Examples
    --------
    >>> canonical({"b": 1, "a": None})
    '{"a":null,"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
