from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from rlm_ray.errors import SettingsError
from rlm_ray.models.contract import Usage
from rlm_ray.models.prices import NANO, Rate, Tier, cost, look_up, price_table, require
from rlm_ray.settings import Price, Settings

OFFICIAL = "https://api.openai.com/v1"


def test_the_settings_come_before_the_catalogue() -> None:
    mine = {"gpt-4o-mini": Price(input=100, output=200)}
    assert look_up(["gpt-4o-mini"], mine, None)["gpt-4o-mini"].source == "settings"
    assert look_up(["gpt-4o-mini"], {}, None)["gpt-4o-mini"].source == "openai/gpt-4o-mini"


def test_a_catalogue_price_is_in_dollars_per_million() -> None:
    prices = look_up(["gpt-4o-mini"], {}, OFFICIAL)
    dollars = cost("gpt-4o-mini", Usage(1, 1_000_000, 1_000_000), prices)
    assert dollars is not None
    assert 0.1 < dollars < 10


def test_an_endpoint_of_ones_own_has_no_price_whatever_the_model_is_called() -> None:
    assert look_up(["gpt-4o-mini"], {}, "http://127.0.0.1:8000/v1") == {}
    assert look_up(["gpt-4o-mini"], {}, "https://models.example/v1") == {}
    assert cost("gpt-4o-mini", Usage(1, 1, 1), {}) is None


def test_cached_tokens_cost_less_and_are_never_assumed() -> None:
    prices = {"m": Rate.of(Price(input=10, cached_input=1, output=0))}
    assert cost("m", Usage(1, 100, 0, cached_tokens=100), prices) == 100 / 1e6
    assert prices["m"].most_nanodollars(100, 0) == 1000 * NANO / 1e6
    assert cost("m", Usage(1, 100, 0, cached_tokens=100), {"m": Rate.of(Price(input=10, output=0))}) == 1000 / 1e6


def test_rounded_up_and_exact() -> None:
    rate = Rate.of(Price(input=0.15, output=0.6))
    assert rate.nanodollars(1, 0) == 150
    assert rate.nanodollars(10_000_000, 0) == 1.5 * NANO
    assert Rate.of(Price(input=0.0001, output=0)).nanodollars(1, 0) == 1


def test_tiers_and_a_price_per_call() -> None:
    rate = Rate((Tier(-1, 1_000, 1_000, 1_000), Tier(200, 5_000, 5_000, 5_000)), per_call=1_000)
    assert rate.nanodollars(200, 0) == 201
    assert rate.nanodollars(201, 0) == 1006
    assert rate.most_nanodollars(100, 0) == 101
    assert rate.most_nanodollars(300, 0) == 1501


def test_the_upper_bound_bounds_every_smaller_call() -> None:
    falling = Rate((Tier(-1, 9_000, 9_000, 1_000), Tier(50, 1_000, 1_000, 1_000)))
    most = falling.most_nanodollars(100, 10)
    assert all(falling.nanodollars(prompt, 10) <= most for prompt in range(101))


def test_the_table_of_a_run() -> None:
    settings = Settings(
        root_model="gpt-4o",
        sub_model="small",
        base_url=OFFICIAL,
        sub_base_url="http://127.0.0.1:1/v1",
        prices={"small": {"input": 1, "output": 1}},
    )
    table = price_table(settings)
    assert {model: rate.source for model, rate in table.items()} == {"gpt-4o": "openai/gpt-4o", "small": "settings"}
    assert pickle.loads(pickle.dumps(table)) == table


def test_one_model_behind_two_endpoints_is_unknown_when_one_of_them_is() -> None:
    assert price_table(Settings(root_model="gpt-4o", base_url="http://127.0.0.1:1/v1", sub_base_url=OFFICIAL)) == {}


def test_a_dollar_limit_needs_prices() -> None:
    require(["m"], {}, None)
    require(["m"], {"m": Rate.of(Price(input=1, output=1))}, 1.0)
    with pytest.raises(SettingsError, match=r"max_usd = 1.0.*'m'.*prices"):
        require(["m"], {}, 1.0)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, rlm_ray.models.client, rlm_ray.models.prices, rlm_ray.models.limiter, rlm_ray.recursion.budget.budget\n"
        "from rlm_ray.models.prices import look_up\n"
        "from rlm_ray.settings import Price\n"
        "look_up(['m'], {'m': Price(input=1, output=1)}, None)\n"
        "look_up(['m'], {}, 'http://127.0.0.1:8000/v1')\n"
        "print([name for name in ('openai', 'httpx2', 'aiohttp', 'genai_prices', 'tenacity', 'jsonschema') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
