"""The types of a chat completion: request, reply and usage.

Plain values and protocols, picklable, importing nothing heavy: other rooms name them without importing `openai`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rlm_ray.errors import CredentialsError
from rlm_ray.types.usage import Usage as Usage

if TYPE_CHECKING:
    from rlm_ray.settings import Settings

OFFICIAL = "https://api.openai.com/v1"
#: Tokens that a chat template may add around one message, generously.
_MESSAGE_OVERHEAD = 16

StructuredOutput = Literal["auto", "json_schema", "json"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where chat completions are asked for. Travels between processes; the key does not.

    Attributes
    ----------
    base_url : str or None
        OpenAI-compatible URL; None is the official one.
    api_key_env : str
        *Name* of the environment variable with the key, read by the process that calls.
    timeout : float
        Seconds for one attempt.
    attempts : int
        Attempts of one call. Refusals for lack of room (429, 503) are waited out and do not count.
    structured_output : {"auto", "json_schema", "json"}
        How typed answers are asked for: `auto` tries `response_format` and falls back to instructions,
        `json_schema` insists on it, `json` never sends it.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    attempts: int = 5
    structured_output: StructuredOutput = "auto"

    @classmethod
    def of(cls, settings: Settings, *, root: bool = False) -> Endpoint:
        """The endpoint of the root model, or of the sub-calls, as `settings` say."""
        own = not root and settings.sub_base_url is not None
        return cls(
            base_url=settings.sub_base_url if own else settings.base_url,
            api_key_env=(None if root else settings.sub_api_key_env) or settings.api_key_env,
            timeout=settings.call_timeout,
            attempts=settings.call_attempts,
            structured_output=settings.structured_output,
        )

    @property
    def name(self) -> str:
        """The URL as it may be shown: without a user, a password or a query.

        Examples
        --------
        >>> Endpoint("https://me:secret@models.example/v1?key=1").name
        'https://models.example/v1'
        """
        return re.sub(r"//[^/@]*@", "//", self.base_url or OFFICIAL).partition("?")[0]

    def key(self) -> str:
        """The key, from this process's environment.

        Raises
        ------
        CredentialsError
            No key is there, and the endpoint is the official one.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise CredentialsError(f"The key in {self.api_key_env} has characters that no HTTP header can carry. Set it again.")
            return key
        if self.base_url is None:
            raise CredentialsError(
                f"The environment variable {self.api_key_env} holds no key for {self.name}. "
                "Set it, or give the URL of an endpoint that needs none with --base-url."
            )
        return "none"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion to ask for.

    Attributes
    ----------
    model : str
    messages : tuple of dict
        Each with `role` and `content` (str).
    max_tokens : int
        Most completion tokens; always sent.
    temperature : float or None
        Sent only when set.
    schema : dict or None
        JSON Schema of the reply. The messages must say the shape in words as well: not every endpoint can be held to one.
    schema_name : str
    failures : int
        Attempts that failed when the same was asked before; they count as this call's own.
    cache_key : str
        The same for requests that begin with the same words; an endpoint of many servers sends them to the one that has the
        words in its cache. Not sent where empty.
    """

    model: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int = 2_048
    temperature: float | None = None
    schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    failures: int = 0
    cache_key: str = ""

    def prompt_tokens(self) -> int:
        """An upper bound of its prompt tokens: no tokenizer makes more tokens than there are UTF-8 bytes.

        Examples
        --------
        >>> ChatRequest("m", ({"role": "user", "content": "hello"},)).prompt_tokens()
        37
        """
        size = sum(len(message["content"].encode("utf-8", "replace")) + _MESSAGE_OVERHEAD for message in self.messages)
        return size + _MESSAGE_OVERHEAD + (len(json.dumps(self.schema)) if self.schema else 0)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A chat completion.

    Attributes
    ----------
    text : str
    usage : Usage
        Of all attempts that were charged, this one included.
    finish_reason : str
        `stop`, or `length` when the reply was cut at `max_tokens`.
    seconds : float
        From the first attempt to the reply, waiting included.
    attempts : int
    problem : str
        Why the reply has no text, in words that a model can act on; empty where it has some.
    failures : int
        Attempts that failed, those of earlier askings included; refusals for lack of room do not count.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    seconds: float = 0.0
    attempts: int = 1
    problem: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, for the limiter.

    Attributes
    ----------
    kind : {"ok", "slow_down", "timed_out", "failed"}
        `slow_down`: the endpoint has no room (429, 503); `timed_out`: it gave no reply in time, which slows calls down too.
    retry_after : float or None
        Seconds that it asked for.
    seconds : float
        How long ago the attempt was sent, of one that timed out.
    """

    kind: Literal["ok", "slow_down", "timed_out", "failed"]
    retry_after: float | None = None
    tokens: int = 0
    seconds: float = 0.0


OK = Outcome("ok")
FAILED = Outcome("failed")


class Limiter(Protocol):
    """Says when an attempt may go out. Every `acquire` that returns is followed by one `release`."""

    async def acquire(self, tokens: int) -> None:
        """Wait until an attempt of about `tokens` tokens may go out."""

    def release(self, outcome: Outcome) -> None:
        """Say how the attempt ended."""


class Meter(Protocol):
    """Says whether an attempt may be paid for. Every reservation is settled once."""

    def reserve(self, prompt_tokens: int, completion_tokens: int, model: str) -> Any:
        """Set aside an upper estimate of one attempt.

        Raises
        ------
        BudgetExceeded
            It does not fit. `error.passing` is true when it may fit once what is in flight has settled.
        """

    def seconds_left(self) -> float | None:
        """Return the seconds until the budget's deadline; None: no deadline applies."""

    def settle(self, reservation: Any, usage: Usage | None) -> Usage:
        """Charge what it used, and return that with its price; None: the outcome is unknown, charged in full."""
