"""The specification of an evaluation: a YAML file that `rlm-ray run` takes as it takes a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlm_ray import settings as settings_module
from rlm_ray.settings import Settings
from rlm_ray.specfile import SpecFile, plain
from rlm_ray.subcalls.votes import Votes
from rlm_ray.types.json import JsonObject

Name = Literal["sniah", "oolong", "oolong-pairs", "alerts", "clauses", "questions"]
Method = Literal["engine", "one-prompt", "no-sub-calls", "code", "keyword", "constant"]
METHODS: tuple[Method, ...] = ("engine", "one-prompt", "no-sub-calls", "code", "keyword", "constant")


class EvaluationSpec(BaseModel):
    """An evaluation, or several.

    Attributes
    ----------
    evaluate : list of str
        Which: `sniah`, `oolong`, `oolong-pairs`, `alerts`, `clauses`, `questions`.
    data : str, optional
        A folder or file of real data; made from the seeds where not given.
    sizes : list of int
        Tokens of a corpus that is made, or of official windows that are taken.
    cases : int
        Corpora of each size and seed.
    seeds : list of int
    methods : list of str
        `engine`, and the baselines.
    accuracies : list of float
        Of simulated readers, where no sub-model is named.
    votes : list
        As `votes` of `llm_each`.
    window : int
        Tokens of one long prompt: what is longer is cut.
    output : str
        Folder of the results: `results.parquet` and `results.md`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    evaluate: tuple[Name, ...] = Field(min_length=1)
    data: str | None = None
    sizes: tuple[int, ...] = (8_192,)
    cases: int = Field(default=1, ge=1)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    methods: tuple[Method, ...] = METHODS
    accuracies: tuple[float, ...] = (1.0,)
    votes: tuple[int | str, ...] = (1,)
    window: int = Field(default=8_192, ge=256)
    output: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("evaluate", "sizes", "seeds", "methods", "accuracies", "votes", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("accuracies")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= share <= 1 for share in value):
            raise ValueError("lies between 0 and 1")
        return value

    @field_validator("votes")
    @classmethod
    def _votes(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for votes in value:
            Votes.of(votes)
        return value


def is_evaluation(path: Path) -> bool:
    """Whether a file is an evaluation's specification: it has the key `evaluate`. A file that cannot be read is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return False
    return isinstance(content, dict) and "evaluate" in content


def load(path: Path, changes: Sequence[str] = ()) -> EvaluationSpec:
    """Read a specification, with changes (`key=value`; values are YAML).

    Raises
    ------
    SpecError
        Names the file, the line, the key and the value, and what to do.
    """
    file = SpecFile(path, changes, "`name: …`, `evaluate: …` and `output: …`")
    try:
        spec = EvaluationSpec.model_validate(plain(file.content))
    except ValidationError as error:
        raise file.wrong(error, lambda keys: () if keys else list(EvaluationSpec.model_fields)) from None
    file.check("settings", lambda: settings_module.make(spec.settings))
    return spec


def settings_of(spec: EvaluationSpec, flags: JsonObject) -> Settings:
    """Return the settings: flags, then the specification's, then the environment's."""
    return settings_module.load(**(spec.settings | {name: value for name, value in flags.items() if value is not None}))
