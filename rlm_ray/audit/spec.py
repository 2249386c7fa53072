"""The specification of a job: a YAML file, checked whole before anything runs, with the line in every error."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlm_ray import settings as settings_module
from rlm_ray.audit import values as values_module
from rlm_ray.audit.conditions import Condition
from rlm_ray.audit.demands import CoverageSpec
from rlm_ray.errors import InputError, SpecError
from rlm_ray.settings import Settings
from rlm_ray.specfile import SpecFile, plain
from rlm_ray.subcalls.quotes import refuse_quotes
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.types.json import JsonSchema

#: Columns of a finding that every job has: the record it rests on, and words that stand in it.
EVIDENCE = ("address", "quote")
#: Further ones of an incremental job: whether it is new, and the run that found it.
NIGHT = ("status", "since")
#: Names of variables that may hold one.
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


#: Settings that a corpus may have for itself.
_READING = ("encoding", "tracked_changes", "csv_separator", "csv_quote", "csv_escape", "event_start", "parse")


class CorpusOptions(TypedDict):
    """Arguments of `rlm_ray.open` beside the URIs."""

    format: str | None
    unit: str | None
    encoding: str
    tracked_changes: str
    shard_bytes: int
    settings: Settings


class CorpusSpec(_Part):
    """Where a corpus is, and what a record of it is."""

    uris: tuple[str, ...] = Field(min_length=1, description="Objects, folders or globs; one or several.")
    format: str | None = None
    unit: str | None = None
    encoding: str | None = Field(default=None, description="Of text; that of the settings where not given.")
    tracked_changes: Literal["accepted", "shown"] | None = Field(
        default=None, description="Of documents; that of the settings where not given."
    )
    csv_separator: str | None = Field(default=None, description="Between fields of CSV; that of the settings where not given.")
    csv_quote: str | None = Field(default=None, description="Quote of CSV fields; empty for none.")
    csv_escape: str | None = Field(default=None, description="Escape of CSV, such as a backslash; empty for none.")
    event_start: str | None = Field(
        default=None, description="A pattern in the lines that begin an event of logs; found from samples where not given."
    )

    parse: str | None = Field(
        default=None,
        description="Columns of logs: 'auto', a format's name or a pattern with names; that of the settings where not given.",
    )

    def options(self, settings: Settings) -> CorpusOptions:
        """Return how `rlm_ray.open` reads this corpus: as it says, else as the settings say."""
        own = {name: getattr(self, name) for name in _READING if getattr(self, name) is not None}
        made = settings.with_(**own)
        return {
            "format": self.format,
            "unit": self.unit,
            "encoding": made.encoding,
            "tracked_changes": made.tracked_changes,
            "shard_bytes": made.shard_bytes,
            "settings": made,
        }

    @field_validator("uris", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class OutputSpec(_Part):
    """Where a job's results go: folders, local or in object storage."""

    findings: str = Field(description="Folder of the table of findings, a partition a run.")
    format: Literal["parquet", "delta"] = Field(default="parquet", description="Of the table: Parquet files, or a Delta table.")
    reports: str | None = Field(default=None, description="Folder of a report and a summary a run.")
    state: str | None = Field(
        default=None, description="Folder of what an incremental job knows of its runs; beside the findings where not given."
    )


class ClusterSpec(_Part):
    """What `rlm-ray manifest` asks Kubernetes for, and what `rlm-ray submit` hands to the cluster."""

    image: str | None = Field(default=None, description="An image that has rlm_ray and Ray, and runs as a user that is not root.")
    workers: int = Field(default=2, ge=0, description="Pods beside the head.")
    cpus: int = Field(default=4, ge=1, description="Of each pod.")
    memory: str = Field(default="16Gi", pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti)?$", description="Of each pod.")
    secret: str | None = Field(
        default=None, description="A Secret whose keys become environment variables: API keys, AWS settings."
    )
    service_account: str | None = Field(default=None, description="For a role that may read the lake.")
    ray_version: str | None = Field(default=None, description="The image's; that of this machine where not given.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Variables that anybody may see; keys go into the Secret."
    )
    packages: tuple[str, ...] = Field(
        default=(), description="What pip installs on each node first; better is an image that has it."
    )

    @field_validator("environment")
    @classmethod
    def _open(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if _SECRET.search(name):
                raise ValueError(f"has {name}, which looks like a secret, and is shown by Ray's dashboard. Put it into the Secret")
        return value


class Spec(_Part):
    """A job.

    Attributes
    ----------
    finding : dict
        Columns of a finding and their types, as `llm_each` takes them; each finding also has an `address` and a `quote`.
    program : str, optional
        Folder with the cells that run, beside the specification; without it a root model writes them.
    fail_on : str, optional
        A condition on a finding, as ``severity >= high``: labels are ordered as they are listed.
    """

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$", description="Names the job's runs; small letters, digits, '-' and '_'."
    )
    question: str = Field(min_length=1)
    corpora: dict[str, CorpusSpec] = Field(min_length=1)
    finding: dict[str, Any] = Field(min_length=1)
    output: OutputSpec
    settings: dict[str, Any] = Field(default_factory=dict)
    program: str | None = None
    values: dict[str, Any] = Field(
        default_factory=dict, description="Variables of the program: a value, or a YAML, JSON or CSV file beside the specification."
    )
    fail_on: str | None = None
    require_coverage: CoverageSpec | None = Field(default=None, description="What must have been read, or the answer is partial.")
    incremental: bool = Field(
        default=False, description="Read what is new or changed since the last finished run; carry other findings forward."
    )
    cluster: ClusterSpec | None = None
    schedule: str | None = Field(default=None, pattern=r"^\S+ \S+ \S+ \S+ \S+$", description="When it runs, as cron writes it.")
    time_zone: str | None = Field(default=None, description="Of the schedule, as in Europe/Berlin.")

    @property
    def answer_schema(self) -> JsonSchema:
        """JSON Schema of the answer: a list of findings."""
        answer = AnswerSchema.of(self.finding)
        refuse_quotes(answer, "a finding, which has a `quote` of its own,")
        columns = answer.json_schema
        properties = dict(columns["properties"]) | {"address": {"type": "string"}, "quote": {"type": ["string", "null"]}}
        item = {"type": "object", "properties": properties, "required": [*columns["properties"], "address"]}
        return {"type": "array", "items": item}

    @property
    def condition(self) -> Condition | None:
        """The condition that fails a run."""
        return None if self.fail_on is None else Condition.of(self.fail_on, self.finding)


def read(spec: str | os.PathLike[str] | Mapping[str, object], changes: Sequence[str] = ()) -> tuple[Spec, Path]:
    """Return a specification from its file or from what would stand in one, and the folder that its program is meant from."""
    if not isinstance(spec, Mapping):
        path = Path(spec)
        return load(path, changes), path.parent
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(json.dumps(dict(spec), default=str), "utf-8")  # JSON is YAML, and an error names its line
        try:
            return load(path, changes), Path.cwd()
        except SpecError as error:
            raise SpecError(str(error).replace(str(path), "the job")) from None


def load(path: Path, changes: Sequence[str] = ()) -> Spec:
    """Read a specification.

    Parameters
    ----------
    path : Path
        A YAML file.
    changes : sequence of str
        `key=value` or `key.key=value`, which replace what the file says; values are YAML.

    Raises
    ------
    SpecError
        Names the file, the line, the key and the value, and what to do.
    """
    file = _file(path, changes)
    try:
        spec = Spec.model_validate(plain(file.content))
    except ValidationError as error:
        raise file.wrong(error, _known) from None
    checks: dict[str, Callable[[], Any]] = {
        "settings": lambda: settings_module.make({name: value for name, value in spec.settings.items() if value is not None}),
        "finding": lambda: spec.answer_schema,
        "fail_on": lambda: spec.condition,
        "require_coverage": lambda: None if (demand := spec.require_coverage) is None else demand.check(spec.corpora),
    }
    for key, check in checks.items():
        file.check(key, check)
    for group, names in {"corpora": spec.corpora, "values": spec.values}.items():
        for name in names:
            if not name.isidentifier():
                raise SpecError(f"{file.at(group, name)}: {group}: {name!r} cannot be a variable. Use letters, digits and '_'.")
    if spec.incremental and len(spec.corpora) > 1:
        raise SpecError(
            f"{file.at('incremental')}: incremental: a job over several corpora cannot be: a finding may rest on "
            "how they go together. Give it one corpus, or leave it out."
        )
    taken = sorted({*EVIDENCE, "id", *(NIGHT if spec.incremental else ())} & set(spec.finding))
    if taken:
        raise SpecError(f"{file.at('finding', taken[0])}: finding: every finding has {taken[0]!r} already. Leave it out.")
    return spec


def files_of(spec: Spec, path: Path, changes: Sequence[str] = ()) -> dict[str, str]:
    """Return the files of a job by their path beside it: the specification, with its changes, and its program's.

    Raises
    ------
    SpecError
        A file cannot be read, or the program is not beside the specification.
    """
    from ruamel.yaml import YAML

    sink = io.StringIO()
    YAML(typ="rt").dump(_file(path, changes).content, sink)
    files = {"job.yaml": sink.getvalue()}
    if spec.program is not None:
        folder = path.parent / spec.program
        if Path(spec.program).is_absolute() or ".." in Path(spec.program).parts:
            raise SpecError(f"program: {spec.program} is not beside {path}. Put it there: it travels with the specification.")
        try:
            found = [file for file in sorted(folder.rglob("*")) if file.suffix in (".py", ".yaml")]
            files |= {str(file.relative_to(path.parent)): file.read_text("utf-8") for file in found}
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"The program {folder} cannot be read: {error}.") from None
    return files


def settings_of(spec: Spec, **flags: Any) -> Settings:
    """Return the settings of a job: flags, then its own, then the environment's."""
    own = {name: value for name, value in spec.settings.items() if value is not None}
    return settings_module.load(**(own | {name: value for name, value in flags.items() if value is not None}))


def _file(path: Path, changes: Sequence[str]) -> SpecFile:
    """What a file says, with changes, and with its values in the place of the files that they come from."""
    file = SpecFile(path, changes, "`name: …`, `question: …`, `corpora: …`, `finding: …` and `output: …`")
    values = file.content.get("values")
    for name, given in values.items() if isinstance(values, Mapping) else ():
        if isinstance(given, str) and given.endswith(values_module.ENDINGS):
            try:
                values[name] = values_module.read(given, path.parent)
            except InputError as error:
                raise SpecError(f"{file.at('values', name)}: values.{name}: {error}") from None
    if values and not file.content.get("program"):
        raise SpecError(f"{file.at('values')}: values: they go to a program, and there is none. Name one.")
    return file


def _known(keys: Sequence[Any]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "corpora": CorpusSpec,
        "require_coverage": CoverageSpec,
        "output": OutputSpec,
        "cluster": ClusterSpec,
    }
    return list(parts.get(str(keys[0]) if keys else "", Spec).model_fields)
