"""Prices model calls in dollars: prices that a person set come before a maintained catalogue. An unknown price is never zero.

Prices are looked up once, in the driver (`price_table`), and travel as plain numbers: the catalogue is not imported
by workers. Sums are integers: picodollars a token, nanodollars a call, rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rlm_ray.errors import SettingsError
from rlm_ray.models.contract import OFFICIAL, Usage

if TYPE_CHECKING:
    from rlm_ray.settings import Price, Settings

NANO = 1_000_000_000
#: Dollars a million tokens to picodollars a token.
_PICO = 1_000_000
_OWN_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Tier:
    """Picodollars a token, for calls of more than `above` prompt tokens."""

    above: int
    input: int
    cached_input: int
    output: int


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one model.

    Attributes
    ----------
    tiers : tuple of Tier
        By rising `above`; the first begins at -1.
    per_call : int
        Picodollars a call.
    source : str
        Where it is from: `settings`, or the catalogue's provider and model.
    """

    tiers: tuple[Tier, ...]
    per_call: int = 0
    source: str = "settings"

    @classmethod
    def of(cls, price: Price) -> Rate:
        """The rate of a price in the settings."""
        cached = price.input if price.cached_input is None else price.cached_input
        return cls((Tier(-1, _pico(price.input), _pico(cached), _pico(price.output)),))

    def nanodollars(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """Price of one call, rounded up to a nanodollar."""
        tier = self.tiers[0]
        for other in self.tiers[1:]:
            if prompt_tokens > other.above:
                tier = other
        cached = min(cached_tokens, prompt_tokens)
        pico = (prompt_tokens - cached) * tier.input + cached * tier.cached_input + completion_tokens * tier.output
        return -(-(pico + self.per_call) // 1000)

    def most_nanodollars(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Most that a call of up to so many tokens can cost."""
        if len(self.tiers) == 1:  # nearly always, and this runs for every call
            tier = self.tiers[0]
            pico = prompt_tokens * max(tier.input, tier.cached_input) + completion_tokens * tier.output
            return -(-(pico + self.per_call) // 1000)
        return max(
            -(-(prompt_tokens * max(tier.input, tier.cached_input) + completion_tokens * tier.output + self.per_call) // 1000)
            for tier in self.tiers
            if prompt_tokens > tier.above
        )


Prices = Mapping[str, Rate]


def cost(model: str, usage: Usage, prices: Prices) -> float | None:
    """Dollars of `usage` as **one** call of `model` (tiers depend on the size of a call).

    Returns
    -------
    float or None
        None when the price is unknown.

    Examples
    --------
    >>> from rlm_ray.settings import Price
    >>> prices = {"small": Rate.of(Price(input=0.5, cached_input=0.05, output=2))}
    >>> cost("small", Usage(1, 1_000, 100, cached_tokens=400), prices)
    0.00052
    >>> cost("other", Usage(1, 1_000, 100), prices) is None
    True
    """
    rate = prices.get(model)
    if rate is None:
        return None
    return rate.nanodollars(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) / NANO


def price_table(settings: Settings) -> dict[str, Rate]:
    """Rates of every model that `settings` name, where known: theirs, else the catalogue's for the model's endpoint.

    A model behind an endpoint that the catalogue does not know (one of your own) has no price unless the settings give one,
    whatever its name.
    """
    leaf_url = settings.sub_base_url or settings.base_url
    places = dict.fromkeys([*settings.models, *([settings.leaf_model] if settings.leaf_model else [])], leaf_url)
    table = look_up(places, settings.prices, leaf_url)
    if settings.root_model and (settings.root_model not in table or settings.base_url != leaf_url):
        root = look_up([settings.root_model], settings.prices, settings.base_url)
        # One name behind two endpoints: the dearer of the two, so that an upper estimate stays one.
        for model, rate in root.items():
            known = table.get(model)
            if known is None or rate.most_nanodollars(1000, 1000) > known.most_nanodollars(1000, 1000):
                table[model] = rate
        if settings.root_model not in root:
            table.pop(settings.root_model, None)
    return table


def look_up(models: Iterable[str], given: Mapping[str, Price], base_url: str | None) -> dict[str, Rate]:
    """Rates of `models` at one endpoint: `given` first, then the catalogue. Models without a price are left out."""
    rates: dict[str, Rate] = {}
    own = urlsplit(base_url or OFFICIAL).hostname in _OWN_MACHINE  # known to be in no catalogue: do not import it
    for model in models:
        rate = Rate.of(given[model]) if model in given else None if own else _catalogue(model, base_url or OFFICIAL)
        if rate is not None:
            rates[model] = rate
    return rates


def require(models: Iterable[str], prices: Prices, max_usd: float | None) -> None:
    """Refuse a dollar limit that could not be kept.

    Raises
    ------
    SettingsError
        There is a dollar limit and the price of one of `models` is unknown.
    """
    unknown = sorted({model for model in models if model not in prices})
    if max_usd is not None and unknown:
        raise SettingsError(
            f"max_usd = {max_usd} cannot be kept: the price of {', '.join(map(repr, unknown))} is unknown. Give it in dollars "
            f"per million tokens in the settings file, as `prices: {{{unknown[0]}: {{input: …, output: …}}}}`, "
            "or limit calls or tokens instead."
        )


def _pico(dollars: float | Decimal) -> int:
    return int((Decimal(str(dollars)) * _PICO).to_integral_value(rounding="ROUND_CEILING"))


def _catalogue(model: str, base_url: str) -> Rate | None:
    # Imported here: 0.4 s, and only the driver of a run on an endpoint that charges needs it.
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, found = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    price = found.get_prices(datetime.now(tz=UTC))
    if price.input_mtok is None or price.output_mtok is None:
        return None
    starts = {-1} | {tier.start for part in _parts(price) for tier in getattr(part, "tiers", ())}
    tiers = tuple(Tier(start, *(_pico(_at(part, start)) for part in _parts(price))) for start in sorted(starts))
    per_call = price.requests_kcount
    return Rate(tiers, int(_at(per_call, -1) * 10**9) if per_call is not None else 0, f"{provider.id}/{found.id}")


def _parts(price: Any) -> tuple[Any, Any, Any]:
    cached = price.cache_read_mtok
    return price.input_mtok, price.input_mtok if cached is None else cached, price.output_mtok


def _at(price: Any, start: int) -> Decimal:
    """A catalogue price for calls of more than `start` prompt tokens."""
    value = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if start >= tier.start:
            value = tier.price
    return Decimal(value)
