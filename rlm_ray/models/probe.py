"""Asks each endpoint of a run for its models before anything is spent: wrong names, keys and addresses end the run at once.

One `GET /models` for each endpoint. A model that the list lacks, or whose endpoint serves no list, is asked for one token; only an
answer that no later call could get past is an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlm_ray.errors import BudgetExceeded, CredentialsError, ModelError, ModelRefused, SettingsError
from rlm_ray.models.client import ChatClient
from rlm_ray.models.contract import ChatRequest, Endpoint, Meter
from rlm_ray.models.failures import Failed
from rlm_ray.models.limiter import LocalLimiter

if TYPE_CHECKING:
    from rlm_ray.settings import Settings

#: Seconds for a list of models, and for one token: an endpoint that takes longer is not judged.
LIST_SECONDS, TOKEN_SECONDS = 10.0, 20.0
#: Names that a message lists.
_MOST_NAMES = 12
_SCHEME = re.compile(r"https?://[^/\s]", re.IGNORECASE)
#: Statuses of a refusal that is about the model or the address, whatever the words.
_NO_SUCH = frozenset({404, 405, 410})
_ABOUT_MODEL = re.compile(
    r"model_not_found|no such model|(invalid|unknown|unsupported|wrong)\b.{0,20}\bmodel"
    r"|model\b.{0,120}\b(not found|not exist|not available|unavailable|invalid|unknown|not (a )?(valid|supported))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Probed:
    """One endpoint and the models that a run asks there.

    Attributes
    ----------
    endpoint : Endpoint
    flag : str
        How a person sets its address.
    models : tuple of (str, str)
        Each with how a person sets it.
    """

    endpoint: Endpoint
    flag: str
    models: tuple[tuple[str, str], ...]


def endpoints_of(settings: Settings, *, root: bool = True) -> list[Probed]:
    """Return the endpoints of a run with their models, each once.

    Parameters
    ----------
    root : bool
        Whether the root model is asked.
    """
    named = [(True, "--base-url", settings.root_model, "--root-model")] if root else []
    own = settings.sub_base_url is not None
    flag = "--sub-model" if settings.sub_model else "--root-model"
    named.append((False, "sub_base_url" if own else "--base-url", settings.leaf_model, flag))
    named += [(False, "sub_base_url" if own else "--base-url", model, "models") for model in settings.models]
    found: dict[Endpoint, Probed] = {}
    for is_root, address, model, how in named:
        endpoint = Endpoint.of(settings, root=is_root)
        before = found.get(endpoint, Probed(endpoint, address, ()))
        if model and model not in dict(before.models):
            before = replace(before, models=(*before.models, (model, how)))
        found[endpoint] = before
    return [probed for probed in found.values() if probed.models]


async def probe(endpoints: Sequence[Probed], meter: Meter) -> None:
    """Ask every endpoint. Calls a model only where its list of models does not settle the matter.

    Parameters
    ----------
    meter : Meter
        Charged for what single tokens cost.

    Raises
    ------
    SettingsError
        An address without a scheme, at which nothing listens, or which is no API; a model that the endpoint does not have.
    CredentialsError
        The key is missing or refused.
    """
    for probed in endpoints:
        if not _SCHEME.match(probed.endpoint.base_url or "https://x"):
            raise SettingsError(
                f"The address {probed.endpoint.name!r} has no scheme. "
                f"Write it as 'http://host:port/v1' or 'https://…' ({probed.flag})."
            )
    await asyncio.gather(*(_probe(probed, meter) for probed in endpoints))


async def _probe(probed: Probed, meter: Meter) -> None:
    client = ChatClient(replace(probed.endpoint, attempts=1), LocalLimiter(len(probed.models)))
    try:
        names = await _listed(client, probed)
        unsure = [(model, flag) for model, flag in probed.models if model not in (names or ())]
        await asyncio.gather(*(_one_token(client, probed, model, flag, names or (), meter) for model, flag in unsure))
    finally:
        await client.close()


async def _listed(client: ChatClient, probed: Probed) -> tuple[str, ...] | None:
    """Return the names that the endpoint lists; None where it lists none."""
    client.prepare()  # before the clock runs
    try:
        async with asyncio.timeout(LIST_SECONDS):
            return await client.models()
    except Failed as failed:
        if failed.never_sent:
            raise SettingsError(
                f"Nothing answers at {probed.endpoint.name}: {failed.reason} Start the server, or correct {probed.flag}."
            ) from None
    except TimeoutError:
        pass
    return None


async def _one_token(client: ChatClient, probed: Probed, model: str, flag: str, names: tuple[str, ...], meter: Meter) -> None:
    """Ask for one token, and raise where the endpoint has no such model or refuses the key."""
    request = ChatRequest(model, ({"role": "user", "content": "ok"},), max_tokens=1)
    try:
        async with asyncio.timeout(TOKEN_SECONDS):
            await client.complete(request, meter)
    except CredentialsError:
        raise
    except ModelRefused as error:
        if error.status in _NO_SUCH or _ABOUT_MODEL.search(str(error).replace(repr(model), "", 1)):
            known = f"It has: {_some(names)}." if names else f"It lists no models; {probed.flag} may be wrong, too."
            raise SettingsError(
                f"{probed.endpoint.name} has no model {model!r} (HTTP {error.status}). {known} Correct {flag}."
            ) from None
    except (ModelError, BudgetExceeded, TimeoutError):
        pass  # busy, or out of order: the run's own calls wait and try again


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(name[:80] for name in names[:_MOST_NAMES]) + more
