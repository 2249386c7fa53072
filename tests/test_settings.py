from __future__ import annotations

import json
import pickle
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pytest

from rlm_ray.cli import main
from rlm_ray.errors import SettingsError, SpecError
from rlm_ray.settings import ENVIRONMENT, Settings, change, flags, load, make


def test_the_defaults_are_those_of_the_design() -> None:
    settings = Settings()
    assert (settings.max_turns, settings.max_calls, settings.max_seconds, settings.max_depth) == (30, 2_000, 3_600, 1)
    assert (settings.isolation, settings.on_shard_error, settings.store_prompts) == ("strict", "report", True)
    assert settings.max_usd is settings.max_tokens is settings.root_model is None


def test_settings_are_values() -> None:
    settings = Settings(root_model="big")
    with pytest.raises(ValueError, match="frozen"):
        settings.max_calls = 5  # type: ignore[misc]
    assert settings == Settings(root_model="big")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_a_changed_copy_is_validated_and_none_leaves_what_is_there() -> None:
    settings = Settings(root_model="big", max_usd=2.0)
    assert settings.with_(max_calls=5, max_usd=None).max_usd == 2.0
    assert settings.with_(max_calls=5).max_calls == 5
    assert settings.max_calls == 2_000
    with pytest.raises(SettingsError, match="max_calls = 0"):
        settings.with_(max_calls=0)


def test_the_leaf_model_is_the_sub_model_or_the_root() -> None:
    assert Settings(root_model="big").leaf_model == "big"
    assert Settings(root_model="big", sub_model="small").leaf_model == "small"


@pytest.mark.parametrize(
    "values",
    [
        {"max_calls": -1},
        {"max_calls": "many"},
        {"max_usd": 0},
        {"max_seconds": float("nan")},
        {"max_depth": -1},
        {"max_turns": 0},
        {"isolation": "loose"},
        {"on_shard_error": "ignore"},
        {"temperature": -1},
        {"concurrency": 0},
        {"prices": {"m": {"input": -1, "output": 1}}},
        {"prices": {"m": {"inputs": 1}}},
        {"no_such_setting": 1},
        {"api_key": "sk-secret"},
    ],
)
def test_a_value_that_cannot_work_is_named(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"Correct (it|them) and run again\.$") as caught:
        make(values)
    assert str(caught.value).startswith(next(iter(values)))
    assert "sk-secret" not in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        make({"max_calls": 0, "max_turns": 0, "nope": 1})
    assert all(name in str(caught.value) for name in ("max_calls = 0", "max_turns = 0", "nope: there is no such setting"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("root_model: from-file\nmax_calls: 50\nmodels: [a, b]\nprices:\n  a: {input: 1, output: 2}\n")
    return path


def test_flags_win_over_the_file_and_the_file_over_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_RAY_ROOT_MODEL", "from-environment")
    monkeypatch.setenv("RLM_RAY_SUB_MODEL", "sub-from-environment")
    assert load().root_model == "from-environment"
    settings = load(file)
    assert (settings.root_model, settings.sub_model, settings.max_calls) == ("from-file", "sub-from-environment", 50)
    assert settings.models == ("a", "b")
    assert settings.prices["a"].output == 2
    settings = load(file, root_model="from-flag", max_calls=None)
    assert (settings.root_model, settings.max_calls) == ("from-flag", 50)


@pytest.mark.parametrize(("name", "variable"), list(ENVIRONMENT.items()))
def test_each_variable_of_the_environment(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "given")
    assert getattr(load(), name) == "given"
    monkeypatch.setenv(variable, "")
    assert getattr(load(), name) == getattr(Settings(), name)


def test_a_file_may_be_json_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"max_turns": 3}))
    assert load(path).max_turns == 3
    path.write_text("")
    assert load(path) == load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n- b\n", "holds a list, not a mapping"),
        (b"just words", "holds a str, not a mapping"),
        (b"a: [1", "cannot be read"),
        (b"a: 1\na: 2", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"!!python/object/apply:os.system ['true']", "cannot be read"),
        (b"max_calls: none", "settings.yaml) = 'none': it should be a valid integer"),
    ],
)
def test_a_file_that_cannot_work(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nope\.yaml cannot be read: .*Give a YAML or JSON file"):
        load(tmp_path / "nope.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["base_url", "sub_base_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@models.example/v1",
        "http://hunter2@models.example/v1",
        "http://me:x/hunter2@models.example/v1",
        "https://models.example/v1?api_key=hunter2",
        "https://models.example/v1#hunter2",
        f"https://me:{'x' * 90}hunter2@models.example/v1",
    ],
)
def test_an_endpoint_with_a_secret_in_its_url_is_refused_without_printing_it(name: str, url: str) -> None:
    for made in (Settings, load):
        with pytest.raises(SettingsError, match="api_key_env names") as caught:
            made(**{name: url})
        assert "hunter2" not in str(caught.value)
        assert "xxx" not in str(caught.value)


def test_an_endpoint_may_have_a_port_and_an_at_in_its_path() -> None:
    for url in ("http://127.0.0.1:8000/v1", "http://models.example:8000/run/@cf/v1", "https://models.example/run/@cf/v1"):
        assert Settings(base_url=url).base_url == url


def test_no_setting_holds_a_secret() -> None:
    """Settings travel to workers and into run directories; keys are named, never held."""
    secrets = [name for name in Settings.model_fields if "key" in name or "token" in name or "secret" in name or "password" in name]
    assert [name for name in secrets if not name.endswith(("_env", "tokens", "_per_token", "_per_minute"))] == []


@pytest.mark.parametrize(
    ("told", "said"),
    [("a", "sets nothing"), ("=1", "sets nothing"), ("a.b=1", "'a' is a value"), ("b=[1", "no YAML")],
)
def test_a_change_of_a_specification_that_cannot_be_made(told: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        change({"a": 1}, told)


def test_the_command_line_has_the_flags_of_the_settings() -> None:
    """The table is generated: `python -m rlm_ray.settings > rlm_ray/flags.json`."""
    table = json.loads(files("rlm_ray").joinpath("flags.json").read_text("utf-8"))
    assert table == flags()
    assert {flag["name"] for flag in table} <= set(Settings.model_fields)
    options = {parameter.name: parameter for parameter in main.commands["ask"].params}
    for flag in table:
        assert isinstance(options[flag["name"]], click.Option)
        assert options[flag["name"]].help == flag["help"]


def test_a_flag_says_its_default_and_its_choices() -> None:
    found = {flag["name"]: flag for flag in flags()}
    assert found["max_calls"]["help"] == "Model calls of the whole tree; root calls count (2,000)."
    assert (found["isolation"]["kind"], found["store_prompts"]["kind"], found["max_usd"]["kind"]) == (
        ["strict", "noopen", "none"],
        "bool",
        "float",
    )
    assert "temperature" not in found
