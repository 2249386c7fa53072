"""What a person can set, in one validated value.

Order of precedence: arguments and flags, then a settings file (YAML or JSON), then the environment
(`RLM_RAY_ROOT_MODEL`, `RLM_RAY_SUB_MODEL`, `OPENAI_BASE_URL`, …), then the defaults here.
Secrets are never a setting: a setting holds the *name* of the environment variable that has the key.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from rlm_ray.errors import SettingsError, SpecError
from rlm_ray.types.json import JsonObject

Isolation = Literal["strict", "noopen", "none"]


class Flag(TypedDict):
    """A flag of the command line; `kind` is the name of a type, or the values that it may have."""

    name: str
    kind: str | list[str]
    metavar: str | None
    help: str


class Price(BaseModel):
    """Dollars for a million tokens of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    output: float = Field(ge=0)


def _flag(metavar: str | None = None) -> dict[str, JsonValue]:
    """Mark a setting that is also a flag of the command line."""
    return {"flag": metavar or ""}


class Settings(BaseModel):
    """Everything a run can be told. Immutable; `settings.with_(max_usd=1)` makes a changed one.

    Examples
    --------
    >>> Settings(max_calls=100).with_(max_depth=2).max_depth
    2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refused(error, {}) from None

    # models
    root_model: str | None = Field(default=None, description="Model that writes the code.", json_schema_extra=_flag("M"))
    sub_model: str | None = Field(
        default=None, description="Model of the sub-calls; the root model where not set.", json_schema_extra=_flag("M")
    )
    models: tuple[str, ...] = Field(default=(), description="Further models that root code may name.")
    base_url: str | None = Field(
        default=None, description="OpenAI-compatible endpoint of both models.", json_schema_extra=_flag("U")
    )
    sub_base_url: str | None = Field(default=None, description="Endpoint of the sub-model, where it is another one.")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="Name of the environment variable with the key.")
    sub_api_key_env: str | None = Field(default=None, description="The same for the sub-model's endpoint, where it is another one.")
    temperature: float | None = Field(default=None, ge=0, description="Sent only when set.")
    call_timeout: float = Field(default=120.0, gt=0, description="Seconds for one attempt of one model call.")
    call_attempts: int = Field(default=5, ge=1, description="Attempts of one model call before it is an error row.")
    concurrency: int = Field(default=512, ge=1, description="Model calls in flight of one process.")
    endpoint_concurrency: int | None = Field(
        default=None, ge=1, description="Model calls in flight at one endpoint, of all runs on the same Ray cluster."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests a minute to one endpoint, of all runs on the same Ray cluster."
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="The same for tokens, prompt and completion together; estimated before a call, then corrected.",
    )
    structured_output: Literal["auto", "json_schema", "json"] = Field(
        default="auto", description="How typed answers are asked for; auto tries response_format and falls back."
    )
    prices: dict[str, Price] = Field(
        default_factory=dict, description="Dollars per million tokens, by model; fills in the catalogue."
    )

    # limits of the whole tree
    max_turns: int = Field(default=30, ge=1, description="Turns of the root model.", json_schema_extra=_flag())
    max_calls: int = Field(
        default=2_000, ge=1, description="Model calls of the whole tree; root calls count.", json_schema_extra=_flag()
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Prompt and completion tokens of the whole tree.", json_schema_extra=_flag()
    )
    max_usd: float | None = Field(default=None, gt=0, description="Dollars of the whole tree.", json_schema_extra=_flag())
    max_seconds: float = Field(default=3_600.0, gt=0, description="Seconds of the whole tree.", json_schema_extra=_flag())
    max_depth: int = Field(
        default=1, ge=0, description="Deepest level of a recursive call; the root is depth 0.", json_schema_extra=_flag()
    )

    confirm_over_usd: float | None = Field(
        default=None, gt=0, description="A batch that costs more is asked about first.", json_schema_extra=_flag()
    )
    plan: bool = Field(default=False, description="Stop before the first batch of sub-calls, and say what it will take.")
    batch_price: float = Field(
        default=0.5, ge=0, le=1, description="What a provider's batch costs, as a share of the price of the same calls."
    )

    # sizes
    chunk_tokens: int = Field(default=8_000, ge=16, description="Default size of a chunk.")
    call_tokens: int = Field(default=24_000, ge=64, description="Most prompt tokens of one leaf call.")
    completion_tokens: int = Field(default=2_048, ge=1, description="Most completion tokens of a leaf call; always sent.")
    root_completion_tokens: int = Field(default=4_096, ge=1)
    history_tokens: int = Field(default=48_000, ge=2_000, description="Limit of the root's messages.")
    output_chars: int = Field(default=8_000, ge=200, description="Cut of what one cell prints, as the root sees it.")
    records_per_call: int = Field(default=50, ge=1, description="Most records that llm_each packs into one call.")
    second_readings: int = Field(
        default=50,
        ge=0,
        le=5_000,
        description="Records of a batch of 200 judgements that are read again; 0: none.",
    )
    share_answers: bool = Field(
        default=True,
        description="Ask about records of which the model is shown the same once, and give each the answer.",
        json_schema_extra=_flag("yes|no"),
    )
    calls_per_group: int = Field(default=1_024, ge=1, description="Leaf calls of one Ray task; a batch up to that needs none.")
    shard_bytes: int = Field(default=64 << 20, ge=1 << 10, description="Text objects are read in byte ranges of this size.")
    bytes_per_token: float = Field(default=4.0, gt=0, description="Estimate used to cut chunks.")

    # the process that runs root code
    isolation: Isolation = Field(default="strict", description="Walls around root code.", json_schema_extra=_flag())
    cell_seconds: float = Field(default=60.0, gt=0, description="Seconds a cell may compute; waiting for models does not count.")
    cell_wall_seconds: float = Field(default=3_600.0, gt=0)
    cell_requests: int = Field(default=100_000, ge=1)
    sandbox_memory: int = Field(default=2 << 30, ge=64 << 20, description="Bytes that the sandbox may use above its start.")

    # data, run, cluster
    on_shard_error: Literal["report", "stop"] = Field(
        default="report", description="What an unreadable object does.", json_schema_extra=_flag()
    )
    max_failed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A function or a batch of sub-calls that fails on more than this share is an error, unless on_error='keep'.",
    )
    encoding: str = Field(default="utf-8", description="Encoding of text objects.")
    tracked_changes: Literal["accepted", "shown"] = Field(
        default="accepted", description="Documents as if all changes were accepted, or with each change marked."
    )
    csv_separator: str | None = Field(default=None, description="Between fields of CSV; found in each object where not set.")
    csv_quote: str | None = Field(default=None, description="Quote of CSV fields; empty for none.")
    csv_escape: str | None = Field(default=None, description="Escape of CSV, such as a backslash; empty for none.")
    event_start: str | None = Field(
        default=None, description="A pattern in the lines that begin an event of logs; found from samples where not set."
    )
    parse: str | None = Field(
        default=None,
        description="Columns of logs: 'auto', a format's name (docs/data.md), or a pattern with names.",
        json_schema_extra=_flag("FORMAT"),
    )
    log_patterns: dict[str, str] = Field(
        default_factory=dict, description="Formats of logs of your own: a name, and a pattern whose names are columns."
    )
    event_bytes: int = Field(default=1 << 20, ge=1 << 10, description="An event that goes on for one to two times as long is cut.")
    run_dir: str | None = Field(
        default=None,
        description="Folder or s3:// prefix under which run directories are made.",
        json_schema_extra=_flag("URL"),
    )
    run_id: str | None = Field(
        default=None, description="Name of this run; one that exists is resumed.", json_schema_extra=_flag("ID")
    )
    reuse: str | None = Field(
        default=None, description="Also take answers that another run has paid for.", json_schema_extra=_flag("RUN")
    )
    answers: str | None = Field(
        default=None,
        description="Store of answers that runs share, a folder or prefix: what one of them has paid, none pays again.",
        json_schema_extra=_flag("URL"),
    )
    answers_days: float | None = Field(default=None, gt=0, description="Days after which an answer of the store is asked again.")
    store_prompts: bool = Field(
        default=True, description="Keep prompts and records in the run directory.", json_schema_extra=_flag("yes|no")
    )
    trace: bool = Field(
        default=False,
        description="Send a trace of the run when it ends, to the collector of OTEL_EXPORTER_OTLP_ENDPOINT (extra otel).",
        json_schema_extra=_flag("yes|no"),
    )
    address: str | None = Field(
        default=None,
        description="Ray cluster: an address, 'auto', or 'local' for an embedded one.",
        json_schema_extra=_flag("A"),
    )
    num_cpus: int | None = Field(default=None, ge=1, description="CPUs of the embedded Ray; all of the machine where not set.")

    @field_validator("base_url", "sub_base_url")
    @classmethod
    def _without_secrets(cls, url: str | None) -> str | None:
        # a run's settings are stored with it, and no request sends what stands here
        if url is not None and _SECRETS.search(url):
            raise ValueError(
                "holds a user, a password or a query, which no request sends. Give the endpoint alone, and the key in the "
                "environment variable that api_key_env names"
            )
        return url

    def with_(self, **changes: Any) -> Settings:
        """Return a copy with `changes`, validated. Values of None leave what is there."""
        return make(self.model_dump() | {key: value for key, value in changes.items() if value is not None})

    def with_root(self, model: str) -> Settings:
        """Return a copy in which another of the run's models writes the code; it is asked where it was asked before.

        Examples
        --------
        >>> changed = Settings(root_model="large", sub_model="small", base_url="http://a", sub_base_url="http://b").with_root("small")
        >>> changed.root_model, changed.base_url, changed.leaf_model, changed.models
        ('small', 'http://b', 'small', ('large',))
        """
        changes: dict[str, Any] = {"root_model": model, "sub_model": self.leaf_model}
        if self.root_model and self.root_model != model:
            changes["models"] = tuple(dict.fromkeys((*self.models, self.root_model)))
        if model == self.leaf_model != self.root_model:
            if self.sub_base_url is not None:
                changes["base_url"] = self.sub_base_url
            if self.sub_api_key_env is not None:
                changes["api_key_env"] = self.sub_api_key_env
        return self.model_copy(update=changes)

    @property
    def leaf_model(self) -> str | None:
        """Model of the sub-calls: `sub_model`, or the root model."""
        return self.sub_model or self.root_model


#: What of a URL may be a secret: user and password, and a query.
_SECRETS = re.compile(r"//(?:[^/?#\s]*|[^/?#\s:]*:(?!\d+/)[^?#\s@]*)@|[?#]\S*")

#: Environment variables that fill a setting which neither a flag nor a file gave.
ENVIRONMENT = {
    "root_model": "RLM_RAY_ROOT_MODEL",
    "sub_model": "RLM_RAY_SUB_MODEL",
    "base_url": "OPENAI_BASE_URL",
    "run_dir": "RLM_RAY_RUN_DIR",
    "address": "RLM_RAY_ADDRESS",
}


def flags() -> list[Flag]:
    """Return the command line's flags, from the fields of Settings: name, kind of value, placeholder and help.

    `flags.json` holds them for the command line, whose help imports no model of settings.
    ``python -m rlm_ray.settings > rlm_ray/flags.json`` writes it.
    """
    found = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if not isinstance(extra, dict) or "flag" not in extra:
            continue
        default = field.default
        text = (field.description or "").removesuffix(".")
        if isinstance(default, bool):
            text += f" ({'yes' if default else 'no'})"
        elif default is not None:
            text += f" ({default})" if isinstance(default, str) else f" ({default:,g})"
        found.append(Flag(name=name, kind=_kind(field.annotation), metavar=str(extra["flag"]) or None, help=f"{text}."))
    return found


def _kind(annotation: Any) -> str | list[str]:
    """Return the type of a flag's value, or the values that it may have."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    kind = next((part for part in get_args(annotation) if part is not type(None)), annotation)
    return str(kind.__name__)


def make(values: JsonObject, origins: Mapping[str, str] | None = None) -> Settings:
    """Validate `values` into Settings.

    Parameters
    ----------
    values : dict
    origins : mapping of str to str, optional
        Where a value came from, for the message.

    Raises
    ------
    SettingsError
        Names each wrong setting, its value and what it should be.

    Examples
    --------
    >>> make({"max_turn": 3})
    Traceback (most recent call last):
    ...
    rlm_ray.errors.SettingsError: max_turn: there is no such setting; did you mean max_turns? Correct it and run again.
    """
    try:
        return Settings(**values)
    except SettingsError as refused:
        error = refused.__context__  # which names each value, so that each can be said with where it comes from
        raise (_refused(error, origins or {}) if isinstance(error, ValidationError) else refused) from None


def _refused(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    wrong = [_wrong(item, origins) for item in error.errors()]
    return SettingsError(f"{'; '.join(wrong)} Correct {'it' if len(wrong) == 1 else 'them'} and run again.")


def _wrong(item: Any, origins: Mapping[str, str]) -> str:
    name = str(item["loc"][0]) if item["loc"] else "settings"
    place = ".".join(map(str, item["loc"])) or name
    where = f"{place} ({origins[name]})" if name in origins else place
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        near = difflib.get_close_matches(name, Settings.model_fields, 1)
        return f"{where}: there is no such setting{f'; did you mean {near[0]}?' if near else '.'}"
    value = item["input"]
    if name in ("base_url", "sub_base_url"):
        value = _SECRETS.sub(lambda found: "//***@" if found[0].startswith("//") else f"{found[0][0]}***", str(value))
    value = f"{value!r:.100}"
    reason = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{where} = {value}: it {reason}." if reason.startswith("should") else f"{where} = {value}: {reason}."


def load(file: str | os.PathLike[str] | None = None, **flags: Any) -> Settings:
    """Build Settings from flags, a file and the environment, in that order of precedence.

    Parameters
    ----------
    file : path, optional
        YAML or JSON mapping of settings.
    **flags
        Settings; None means not given.

    Raises
    ------
    SettingsError
        The file cannot be read, or a value cannot work.
    """
    values: dict[str, Any] = {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if os.environ.get(variable)}
    origins = {name: ENVIRONMENT[name] for name in values}
    if file is not None:
        read = _read(Path(file))
        values |= read
        origins |= dict.fromkeys(read, f"in {file}")
    given = {key: value for key, value in flags.items() if value is not None}
    origins |= {name: f"--{name.replace('_', '-')}" for name in given}
    return make(values | given, origins)


def given(file: str | os.PathLike[str] | None = None, **flags: Any) -> set[str]:
    """Return the names of the settings that a file or a flag gives: what goes before a resumed run's own."""
    return set(_read(Path(file)) if file is not None else ()) | {key for key, value in flags.items() if value is not None}


def _read(path: Path) -> JsonObject:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"Settings file {path} cannot be read: {reason}. Give a YAML or JSON file with one setting a line."
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(
            f"Settings file {path} holds a {type(content).__name__}, not a mapping. Write one `name: value` a line."
        )
    return {str(key): value for key, value in content.items()}


def change(content: JsonObject, assignment: str) -> None:
    """Change one value of a specification, as `KEY=VALUE`: keys with dots go into groups, values are YAML.

    Raises
    ------
    SpecError
        It sets nothing, its value is no YAML, or a key on the way is a value.

    Examples
    --------
    >>> content = {"name": "night", "settings": {"max_usd": 1}}
    >>> change(content, "settings.max_usd=2.5")
    >>> content
    {'name': 'night', 'settings': {'max_usd': 2.5}}
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, sign, value = assignment.partition("=")
    if not sign or not key:
        raise SpecError(f"--set {assignment!r} sets nothing. Write KEY=VALUE, as in --set settings.max_usd=2.")
    *folders, last = key.split(".")
    place = content
    for folder in folders:
        place = place.setdefault(folder, {})
        if not isinstance(place, dict):
            raise SpecError(f"--set {assignment!r}: {folder!r} is a value, not a group of keys. Name a key of the specification.")
    try:
        place[last] = YAML(typ="safe").load(value)
    except YAMLError:
        raise SpecError(f"--set {assignment!r}: {value!r:.80} is no YAML. Close what is opened, or quote it.") from None


if __name__ == "__main__":
    print(json.dumps(flags(), indent=1))
