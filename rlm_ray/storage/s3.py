"""The S3 half of storage: requests, their retries, and what their failures mean.

Knows the calls of the S3 API and nothing of s3fs: the file system comes from `connections`, the one place that imports
it. Requests are those of aiobotocore, run on the file system's own event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from rlm_ray.errors import CredentialsError, InputError, ObjectChanged, StorageError
from rlm_ray.storage import prefixes, s3contents
from rlm_ray.storage.names import ObjectInfo, shown
from rlm_ray.storage.stores import BehindTheEnd, Entry, Page, PreconditionFailed, Reading, bucket_key, prefix_of

#: Attempts of one read whose connection breaks in the body, on top of those of the request itself.
_ATTEMPTS = 5

#: Most bytes of a body that are taken at once.
_PART = 1 << 20


class Store:
    """S3 as this process sees it: one file system, made when first needed, never shared with a forked child.

    Parameters
    ----------
    connect : callable
        Makes the file system.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._made: dict[int, Any] = {}
        self._lock = threading.Lock()

    def filesystem(self) -> Any:
        """Return this process's file system."""
        with self._lock:
            if os.getpid() not in self._made:
                self._made = {os.getpid(): self._connect()}
            return self._made[os.getpid()]

    def forget(self) -> None:
        """Close the connections and connect anew at the next request: the environment names another store."""
        with self._lock:
            filesystem = self._made.pop(os.getpid(), None)
            self._made = {}
        if filesystem is not None and filesystem._s3 is not None:
            type(filesystem).close_session(filesystem.loop, filesystem._s3)

    # -- requests

    def call(self, method: str, uri: str, **arguments: Any) -> Any:
        """Make one request.

        Raises
        ------
        InputError
            The bucket or the object is not there.
        PreconditionFailed, CredentialsError, StorageError
        """
        return self._in_bucket(uri, lambda fs: fs._call_s3(method, **arguments))

    def _in_bucket(self, uri: str, call: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return self._run(uri, call)
        except FileNotFoundError:
            bucket = bucket_key(uri)[0]
            raise InputError(
                f"There is no bucket '{bucket}' on this store, or no {uri} in it. Check the name and AWS_ENDPOINT_URL."
            ) from None

    def body(self, uri: str, **arguments: Any) -> bytes:
        """Return what a `get_object` gives; FileNotFoundError where there is no object."""
        bucket, key = bucket_key(uri)
        data: bytes = self._run(uri, lambda fs: _read_body(fs, Bucket=bucket, Key=key, **arguments))
        return data

    def page(self, bucket: str, prefix: str, **arguments: Any) -> Page:
        """Return one page of a listing, as ListObjectsV2 gives it; of its entries their keys, sizes and etags."""

        async def ask(fs: Any) -> Any:
            await fs.set_session()
            s3contents.install(await fs.get_s3(bucket))
            return await fs._call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **arguments)

        found: Page = self._in_bucket(f"s3://{bucket}/{prefix}", ask)
        return found

    def pages(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """Yield the entries of a listing, one page in memory at a time: in key order on S3, not on every store like it."""
        more: dict[str, str] = {}
        while True:
            page = self.page(bucket, prefix, **more)
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def stat(self, uri: str) -> ObjectInfo | None:
        """Return one object's size and version; None where it is not there."""
        bucket, key = bucket_key(uri)
        if not key:
            return None
        try:
            head = self._run(uri, lambda fs: fs._call_s3("head_object", Bucket=bucket, Key=key))
        except FileNotFoundError:
            return None
        size = head.get("ContentLength")
        if size is None:  # some proxies leave it out: the name itself is the first of a listing that begins with it
            size = next((item["Size"] for item in self.pages(bucket, key) if item["Key"] == key), None)
            if size is None:
                return None
        return ObjectInfo(uri, size, etag(head))

    def read(self, uri: str, start: int, stop: int, version: str) -> bytes:
        """Return a range of an object, on the condition that it has this version.

        Raises
        ------
        ObjectChanged
            It has another, or is gone.
        """
        return bytes(self.result(self.begin(uri, start, stop, version))) if stop > start else b""

    def begin(self, uri: str, start: int, stop: int, version: str) -> Reading:
        """Ask for a range of an object; `result` waits for it."""
        return Reading(uri, version, stop - start, self._start(lambda fs: _read_range(fs, *bucket_key(uri), start, stop, version)))

    def result(self, reading: Reading) -> memoryview:
        """Return the bytes of a range, fewer where the object ends before.

        Raises
        ------
        ObjectChanged
            The object has another version, or is gone.
        """
        uri, version = reading.uri, reading.version
        try:
            with _named(uri):
                return reading.future.result()
        except FileNotFoundError:
            raise ObjectChanged(f"{uri} is gone since the corpus was opened. Open the corpus again.") from None
        except BehindTheEnd:
            return memoryview(b"")
        except PreconditionFailed:
            raise ObjectChanged(
                f"{uri} changed: it is no longer version {version}, as it was when the corpus was opened. Open it again."
            ) from None

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield what is below `base` and whose first name begins with `lead`, a page at a time, in no order."""
        bucket, prefix = prefix_of(base, lead)
        for page in prefixes.pages(self, bucket, prefix):
            # a name that ends so is a folder marker of some consoles
            yield [info(bucket, item) for item in page if not item["Key"].endswith("/")]

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Write an object whole.

        Raises
        ------
        PreconditionFailed
            It was to be absent, and is not.
        """
        bucket, key = bucket_key(uri)
        condition = {"IfNoneMatch": "*"} if only_if_absent else {}
        self.call("put_object", uri, Bucket=bucket, Key=key, Body=data, **condition)

    def remove(self, uri: str) -> None:
        """Remove one object. What is not there is no error."""
        bucket, key = bucket_key(uri)
        self.call("delete_object", uri, Bucket=bucket, Key=key)  # the batch request needs a checksum that some stores do not know

    def table_options(self, uri: str) -> dict[str, str]:
        """Return the credentials and the endpoint of this store as polars and delta-rs take them."""
        options: dict[str, str] = self._run(uri, _table_options)
        return options

    def _run(self, uri: str, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run one coroutine over the file system and give its failure a name."""
        with _named(uri):
            return self._start(call).result()

    def _start(self, call: Callable[[Any], Awaitable[Any]]) -> Future[Any]:
        fs = self.filesystem()

        async def run() -> Any:
            return await call(fs)

        return asyncio.run_coroutine_threadsafe(run(), fs.loop)


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Give the failure of a request a name of ours; FileNotFoundError stays."""
    import botocore.exceptions as boto

    try:
        yield
    except (FileNotFoundError, PreconditionFailed):
        raise
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.ProfileNotFound,
    ) as error:
        raise CredentialsError(
            f"No S3 credentials for {shown(uri)}: {reason(error)}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
            "or a role."
        ) from None
    except PermissionError as error:
        raise CredentialsError(
            f"The store refused {uri}: {reason(error)}. Check the key, its rights, the clock, and AWS_ENDPOINT_URL."
        ) from None
    except boto.ParamValidationError as error:
        raise InputError(f"{uri} is no S3 URI: {reason(error)}. Write s3://bucket/prefix.") from None
    except (OSError, boto.BotoCoreError, boto.ClientError, ValueError) as error:
        if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
            raise PreconditionFailed from None
        if _code(error) in ("InvalidRange", "416"):
            raise BehindTheEnd from None
        raise StorageError(
            f"The store failed on {uri}: {reason(error)}. Check AWS_ENDPOINT_URL and the network, and try again."
        ) from None


def info(bucket: str, item: Entry) -> ObjectInfo:
    """Return an entry of a listing."""
    return ObjectInfo(f"s3://{bucket}/{item['Key']}", item["Size"], etag(item))


def etag(reply: Mapping[str, object]) -> str:
    """Return the version in a reply or in an entry of a listing; empty where there is none.

    Examples
    --------
    >>> etag({"ETag": '"9a0364b9"'}), etag({"ETag": 'W/"9a0364b9"'}), etag({})
    ('9a0364b9', '9a0364b9', '')
    """
    found = str(reply.get("ETag") or "")
    return found.removeprefix("W/").strip('"')


async def _read_body(fs: Any, **arguments: Any) -> bytes:
    import aiohttp

    for attempt in range(1, _ATTEMPTS + 1):
        response = await fs._call_s3("get_object", **arguments)
        try:
            # the request itself was retried; a connection that breaks in the body is asked again here
            async with response["Body"] as body:
                data: bytes = await body.read()
            return data
        except (aiohttp.ClientError, OSError, TimeoutError):
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


async def _read_range(fs: Any, bucket: str, key: str, start: int, stop: int, version: str) -> memoryview:
    """Read a range into memory of its own size; where the connection breaks, it goes on behind what has come.

    What each reply says that it is of is compared, since some stores take no notice of `If-Match`, or of `Range`.
    """
    import aiohttp

    condition = {"IfMatch": f'"{version}"'} if version else {}
    memory = memoryview(bytearray(stop - start))
    at = 0
    for attempt in range(1, _ATTEMPTS + 1):
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start + at}-{stop - 1}", **condition)
        came = etag(response)
        if version and came and came != version:
            response["Body"].close()
            raise PreconditionFailed
        version = version or came  # where it goes on, it is to be of the same
        whole = response["ResponseMetadata"]["HTTPStatusCode"] == 200 and "ContentRange" not in response
        skip = start + at if whole else 0
        try:
            async with response["Body"] as body:
                while at < len(memory) and (data := await body.read(_PART)):
                    if skip:
                        data, skip = data[skip:], max(0, skip - len(data))
                    data = data[: len(memory) - at]
                    memory[at : at + len(data)] = data
                    at += len(data)
            return memory[:at]
        except (aiohttp.ClientError, OSError, TimeoutError):
            if at == len(memory):
                return memory
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


async def _table_options(fs: Any) -> dict[str, str]:
    import botocore.exceptions

    client = await fs.set_session()  # connected already, as a rule
    credentials = await fs.session.get_credentials()
    if credentials is None:
        raise botocore.exceptions.NoCredentialsError
    frozen = await credentials.get_frozen_credentials()
    options = {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
    if frozen.token:
        options["aws_session_token"] = frozen.token
    options["aws_region"] = client.meta.region_name or "us-east-1"
    if "amazonaws.com" not in client.meta.endpoint_url:
        options["aws_endpoint_url"] = client.meta.endpoint_url
        options["aws_allow_http"] = "true"
    return options


def _code(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__
    return ""


def reason(error: BaseException) -> str:
    """Return an error's message in one line, cut."""
    return " ".join((str(error) or type(error).__name__).split()).rstrip(".")[:300]
