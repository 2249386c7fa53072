"""Google Cloud Storage by its JSON API: an object's version is its generation, new at each write."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from urllib.parse import quote

from rlm_ray.errors import InputError
from rlm_ray.storage import prefixes
from rlm_ray.storage.names import ObjectInfo
from rlm_ray.storage.rest.requests import Reply, Request, RestStore
from rlm_ray.storage.rest.transports import GoogleSession
from rlm_ray.storage.stores import CommonPrefix, Entry, Page, bucket_key, infos, prefix_of

#: What is asked of each object in a listing.
_FIELDS = "items(name,size,generation),prefixes,nextPageToken"
#: Objects stored gzipped come as they are stored, not unpacked on the way: sizes and ranges are those of the listing.
_STORED = {"Accept-Encoding": "gzip"}


class GoogleStore(RestStore[GoogleSession]):
    """Buckets of Google Cloud Storage."""

    name = "Google Cloud Storage"
    check = "GOOGLE_APPLICATION_CREDENTIALS, and the account's rights on the bucket"

    def head_request(self, uri: str) -> Request:
        """Return what asks for an object's size and generation."""
        return Request("GET", self._object(uri), {"fields": "size,generation"})

    def info_of(self, uri: str, reply: Reply, body: bytes) -> ObjectInfo:
        """Return size and generation."""
        found = json.loads(body)
        return ObjectInfo(uri, int(found["size"]), str(found["generation"]))

    def read_request(self, uri: str, version: str) -> Request:
        """Return what reads one generation of an object."""
        pinned = {"generation": version} if version else {}
        return Request("GET", self._object(uri), {"alt": "media"} | pinned, _STORED)

    def version_of(self, reply: Reply) -> str:
        """Return the generation that was read."""
        return reply.headers.get("x-goog-generation", "")

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Write an object whole, on the condition that there is no generation of it where it is to be absent."""
        bucket, key = bucket_key(uri)
        url = f"{self._endpoint()}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        kind = "application/octet-stream"
        if not only_if_absent:
            self._close(Request("POST", url, {"uploadType": "media", "name": key}, {"Content-Type": kind}, data), uri)
            return
        # in two parts, the way in which emulators too take notice of the condition
        mark = secrets.token_hex(16)
        about = json.dumps({"name": key}).encode()
        head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + about
        body = head + f"\r\n--{mark}\r\nContent-Type: {kind}\r\n\r\n".encode() + data + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/related; boundary={mark}"}
        self._close(Request("POST", url, {"uploadType": "multipart", "ifGenerationMatch": "0"}, headers, body), uri)

    def remove(self, uri: str) -> None:
        """Remove one object. What is not there is no error."""
        try:
            self._close(Request("DELETE", self._object(uri)), uri)
        except InputError:
            return

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield what is below `base` and whose first name begins with `lead`, a page at a time, in no order."""
        bucket, prefix = prefix_of(base, lead)
        for page in prefixes.pages(self, bucket, prefix):
            yield infos(f"gs://{bucket}/", page)

    def page(self, bucket: str, prefix: str, *, MaxKeys: int, Delimiter: str = "", ContinuationToken: str = "") -> Page:
        """Return one page of a listing; a generation stands in the place of the etag."""
        params = {"prefix": prefix, "maxResults": str(MaxKeys), "fields": _FIELDS}
        params |= {name: value for name, value in (("delimiter", Delimiter), ("pageToken", ContinuationToken)) if value}
        url, uri = f"{self._endpoint()}/storage/v1/b/{quote(bucket, safe='')}/o", f"gs://{bucket}/{prefix}"

        async def ask() -> bytes:
            reply = await self.ask(Request("GET", url, params), uri)
            return await reply.content.read()

        try:
            found = json.loads(self.run(ask()))
        except FileNotFoundError:
            raise InputError(f"There is no bucket '{bucket}' on Google Cloud Storage. Check the name.") from None
        page: Page = {
            "Contents": [
                Entry(Key=item["name"], Size=int(item["size"]), ETag=str(item["generation"])) for item in found.get("items", [])
            ],
            "CommonPrefixes": [CommonPrefix(Prefix=name) for name in found.get("prefixes", [])],
            "IsTruncated": bool(found.get("nextPageToken")),
            "NextContinuationToken": found.get("nextPageToken", ""),
        }
        return page

    def table_options(self, uri: str) -> dict[str, str]:
        """Return what Rust's `object_store` takes; it reads GOOGLE_APPLICATION_CREDENTIALS by itself."""
        endpoint = self._endpoint()
        if endpoint.startswith("https://"):
            return {}
        account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        return {"google_service_account_key": json.dumps(account)}

    def _endpoint(self) -> str:
        return self.transport().endpoint

    def _object(self, uri: str) -> str:
        bucket, key = bucket_key(uri)
        return f"{self._endpoint()}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(key, safe='')}"

    def _close(self, request: Request, uri: str) -> None:
        async def ask() -> None:
            (await self.ask(request, uri)).close()

        try:
            self.run(ask())
        except FileNotFoundError:
            raise InputError(
                f"There is no bucket '{bucket_key(uri)[0]}' on {self.name}, or no {uri} in it. Check the name."
            ) from None
