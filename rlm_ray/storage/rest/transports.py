"""What carries requests and their credentials: gcsfs for Google, adlfs for Azure, aiohttp alone for the web.

The libraries are imported when a store is first asked; an error names the extra that brings them.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import warnings
from typing import Any, cast
from urllib.parse import quote

from rlm_ray.errors import CredentialsError, MissingExtra
from rlm_ray.storage.names import shown
from rlm_ray.storage.rest.requests import Reply, Request

_NO_REPLY_SECONDS, _CONNECT_SECONDS = 60, 10


def timeout() -> Any:
    """Return how long a connection and a silence may last; a whole body may take any time."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=_NO_REPLY_SECONDS)


class Session:
    """Requests over aiohttp, without credentials.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        A loop that runs in a thread of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._session: Any = None

    async def session(self) -> Any:
        """Return the session, made when first needed; bodies come as they are sent."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False, trust_env=True, timeout=timeout())
        return self._session

    async def headers(self, request: Request) -> dict[str, str]:
        """Return the request's headers, with credentials where there are any."""
        return dict(request.headers)

    async def send(self, request: Request) -> Reply:
        """Send once."""
        from yarl import URL

        session = await self.session()
        url = URL(request.url, encoded=True)
        if request.params:
            url = url.update_query(dict(request.params))
        headers = await self.headers(request)
        body = None if request.body is None else io.BytesIO(request.body)  # aiohttp warns of large ones that are bytes
        reply = await session.request(
            request.method, url, headers=headers, data=body, timeout=timeout(), skip_auto_headers=["Accept-Encoding"]
        )
        return cast("Reply", reply)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class GoogleSession(Session):
    """Requests with the credentials that gcsfs finds: application default, its cache, the machine's account, or none."""

    def __init__(self) -> None:
        try:
            from gcsfs.core import GCSFileSystem
        except ImportError:
            raise MissingExtra("Reading gs://", "gcs") from None
        emulated = os.environ.get("STORAGE_EMULATOR_HOST", "").startswith("http://")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a project is needed to make buckets alone
            filesystem = GCSFileSystem(
                token="anon" if emulated else None,
                use_listings_cache=False,
                skip_instance_cache=True,
                session_kwargs={"auto_decompress": False, "trust_env": True},
            )
        super().__init__(filesystem.loop)
        self._filesystem = filesystem
        self.endpoint: str = filesystem._location

    async def session(self) -> Any:
        """Return the session of gcsfs, which has its certificates."""
        return await self._filesystem._set_session()

    async def headers(self, request: Request) -> dict[str, str]:
        """Return the request's headers with a token, renewed where it is old."""
        from google.auth.exceptions import GoogleAuthError

        headers = dict(request.headers)
        known = self._filesystem.credentials
        try:
            if known.credentials is None or known.credentials.valid:
                known.apply(headers)
            else:  # it asks for a new one over the network, and would hold the loop
                await asyncio.to_thread(known.apply, headers)
        except GoogleAuthError as error:
            raise CredentialsError(
                f"No credentials for Google Cloud Storage: {_short(error)}. Set GOOGLE_APPLICATION_CREDENTIALS."
            ) from None
        return headers

    async def close(self) -> None:
        """Close the connections."""
        session, self._filesystem._session = self._filesystem._session, None
        if session is not None:
            await session.close()


class HubSession(Session):
    """Requests with the token of the hub, which is sent to the hub alone, and not to where it sends the reader on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise MissingExtra("Reading hf://", "hf") from None
        super().__init__(loop)
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self._token = huggingface_hub.get_token

    async def headers(self, request: Request) -> dict[str, str]:
        """Return the request's headers with the token, where there is one."""
        token = self._token()
        return dict(request.headers) | ({"Authorization": f"Bearer {token}"} if token else {})


class AzurePipeline:
    """Requests through the pipeline of Azure's own client, which adlfs makes from the environment and which signs them.

    Parameters
    ----------
    account : str
        Of another account than the environment's: its name.
    """

    def __init__(self, account: str = "") -> None:
        try:
            from adlfs import AzureBlobFileSystem
        except ImportError:
            raise MissingExtra("Reading az:// or abfss://", "azure") from None
        given = {"account_name": account} if account else {}
        try:
            filesystem = AzureBlobFileSystem(use_listings_cache=False, skip_instance_cache=True, **given)
        except ValueError:  # its message repeats what it was given
            raise CredentialsError(
                "No credentials for Azure Blob Storage. Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, "
                "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or log in with az login."
            ) from None
        self._filesystem = filesystem
        self.loop: asyncio.AbstractEventLoop = filesystem.loop
        client = filesystem.service_client
        if account and client.account_name != account:
            raise CredentialsError(
                f"The environment names the account {client.account_name} of Azure, and the URI {account}. Set "
                "AZURE_STORAGE_ACCOUNT_NAME and a key or a login, and no AZURE_STORAGE_CONNECTION_STRING of another account."
            )
        self.endpoint: str = client.url.partition("?")[0].rstrip("/")
        self._query: str = client.url.partition("?")[2]
        self._pipeline = client._pipeline
        self.options = _azure_options(filesystem, client)

    async def send(self, request: Request) -> Reply:
        """Send once: the caller tries again by itself."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.core.pipeline.transport import HttpRequest

        made = HttpRequest(request.method, f"{request.url}?{self._query}" if self._query else request.url, dict(request.headers))
        made.format_parameters({name: quote(value, safe="") for name, value in request.params.items()})
        if request.body is not None:
            made.headers["Content-Length"] = str(len(request.body))
            made.set_streamed_data_body(io.BytesIO(request.body))
        try:
            seconds = {"connection_timeout": _CONNECT_SECONDS, "read_timeout": _NO_REPLY_SECONDS}
            response = await self._pipeline.run(made, stream=True, retry_total=0, **seconds)
        except ClientAuthenticationError as error:
            raise CredentialsError(
                f"No credentials for Azure Blob Storage: {_short(error)}. Check AZURE_STORAGE_ACCOUNT_KEY or the login."
            ) from None
        except AzureError as error:
            raise OSError(str(error)) from None
        return cast("Reply", response.http_response.internal_response)

    async def close(self) -> None:
        """Close the connections."""
        await self._filesystem.service_client.close()


def _short(error: Exception) -> str:
    return shown(" ".join(str(error).split()))[:300].rstrip(".")


def _azure_options(filesystem: Any, client: Any) -> dict[str, str]:
    """The account and its credentials as Rust's `object_store` takes them; logins it makes by itself."""
    options = {"azure_storage_account_name": client.account_name or filesystem.account_name}
    key = filesystem.account_key
    if filesystem.connection_string:
        match = re.search(r"(?i)AccountKey=([^;]+)", filesystem.connection_string)
        key = match[1] if match else None
    if key:
        options["azure_storage_account_key"] = key
    elif filesystem.sas_token:
        options["azure_storage_sas_key"] = filesystem.sas_token.lstrip("?")
    endpoint = client.url.partition("?")[0].rstrip("/")
    if not endpoint.endswith(".blob.core.windows.net"):
        options["azure_storage_endpoint"] = endpoint
    if endpoint.startswith("http://"):
        options["azure_allow_http"] = "true"
    return options
