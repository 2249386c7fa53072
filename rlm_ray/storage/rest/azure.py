"""Azure Blob Storage by its REST API: an object's version is its ETag, new at each write."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from rlm_ray.errors import InputError, ObjectUnreadable, StorageError
from rlm_ray.storage import prefixes
from rlm_ray.storage.names import ObjectInfo
from rlm_ray.storage.rest.requests import Reply, Request, RestStore, unquoted
from rlm_ray.storage.rest.transports import AzurePipeline
from rlm_ray.storage.stores import CommonPrefix, Entry, Page, bucket_key, infos, prefix_of

#: The version of the API whose requests are these.
_API = {"x-ms-version": "2021-12-02"}
#: Keys of a page: the most that the store gives.
_PAGE_KEYS = 5_000


class AzureStore(RestStore[AzurePipeline]):
    """Containers of one account."""

    name = "Azure Blob Storage"
    range_header = "x-ms-range"
    check = "AZURE_STORAGE_ACCOUNT_NAME, its key or login, and the rights on the container"

    def head_request(self, uri: str) -> Request:
        """Return what asks for a blob's size and ETag."""
        return Request("HEAD", self._blob(uri), headers=_API)

    def info_of(self, uri: str, reply: Reply, body: bytes) -> ObjectInfo:
        """Return size and ETag; a folder of a hierarchical account is no object."""
        if reply.headers.get("x-ms-meta-hdi_isfolder", "").lower() == "true":
            raise FileNotFoundError(uri)
        return ObjectInfo(uri, int(reply.headers["Content-Length"]), self.version_of(reply))

    def read_request(self, uri: str, version: str) -> Request:
        """Return what reads a blob while it has this ETag."""
        return Request("GET", self._blob(uri), headers=_API | ({"If-Match": f'"{version}"'} if version else {}))

    def version_of(self, reply: Reply) -> str:
        """Return the ETag of a reply."""
        return unquoted(reply.headers.get("ETag", ""))

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Write a blob whole, on the condition that there is none where it is to be absent."""
        condition = {"If-None-Match": "*"} if only_if_absent else {}
        headers = _API | condition | {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        self._close(Request("PUT", self._blob(uri), headers=headers, body=data), uri)

    def remove(self, uri: str) -> None:
        """Remove one blob. What is not there is no error."""
        try:
            self._close(Request("DELETE", self._blob(uri), headers=_API), uri)
        except InputError:
            return

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield what is below `base` and whose first name begins with `lead`, a page at a time, in no order."""
        root = base.split("://", 1)[0]
        bucket, prefix = prefix_of(base, lead)
        for page in prefixes.pages(self, bucket, prefix, _PAGE_KEYS):
            yield infos(f"{root}://{bucket}/", page)

    def page(self, bucket: str, prefix: str, *, MaxKeys: int, Delimiter: str = "", ContinuationToken: str = "") -> Page:
        """Return one page of a listing; folders of hierarchical accounts, which are listed as blobs, are left out."""
        params = {"restype": "container", "comp": "list", "include": "metadata", "maxresults": str(MaxKeys), "prefix": prefix}
        params |= {name: value for name, value in (("delimiter", Delimiter), ("marker", ContinuationToken)) if value}
        container, uri = bucket.partition("@")[0], f"az://{bucket}/{prefix}"

        async def ask() -> bytes:
            reply = await self.ask(Request("GET", f"{self._endpoint()}/{quote(container)}", params, _API), uri)
            return await reply.content.read()

        try:
            body = self.run(ask())
        except FileNotFoundError:
            raise InputError(f"There is no container '{container}' on {self.name}. Check the name and the account.") from None
        try:
            return _page(ElementTree.fromstring(body))
        except (ElementTree.ParseError, ValueError) as error:
            raise StorageError(f"{self.name} sent a listing of {uri} that cannot be read: {error}. Try again.") from None

    def table_options(self, uri: str) -> dict[str, str]:
        """Return the account, its credentials and the endpoint as Rust's `object_store` takes them."""
        return dict(self.transport().options)

    def _endpoint(self) -> str:
        return self.transport().endpoint

    def _blob(self, uri: str) -> str:
        bucket, key = bucket_key(uri)
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise ObjectUnreadable(
                f"{uri} has a part that is only dots, which a request to {self.name} cannot name. Rename the blob."
            )
        return f"{self._endpoint()}/{quote(bucket.partition('@')[0])}/{quote(key)}"

    def _close(self, request: Request, uri: str) -> None:
        async def ask() -> None:
            (await self.ask(request, uri)).close()

        try:
            self.run(ask())
        except FileNotFoundError:
            raise InputError(f"There is no container of {uri}, or no such blob. Check the name and the account.") from None


def _page(root: ElementTree.Element) -> Page:
    contents = []
    for blob in root.iterfind("Blobs/Blob"):
        properties = blob.find("Properties")
        folder = blob.findtext("Metadata/hdi_isfolder") or blob.findtext("Metadata/Hdi_isfolder") or ""
        if properties is None or folder.lower() == "true" or properties.findtext("ResourceType") == "directory":
            continue
        size, etag = properties.findtext("Content-Length"), properties.findtext("Etag")
        contents.append(Entry(Key=_name(blob), Size=int(size or ""), ETag=unquoted(etag or "")))
    more = root.findtext("NextMarker") or ""
    folders = [CommonPrefix(Prefix=_name(item)) for item in root.iterfind("Blobs/BlobPrefix")]
    return {"Contents": contents, "CommonPrefixes": folders, "IsTruncated": bool(more), "NextContinuationToken": more}


def _name(item: ElementTree.Element) -> str:
    """A name as it is: one that XML cannot hold is written as in a URL, and marked."""
    name = item.find("Name")
    if name is None or not name.text:
        raise ValueError("a blob without a name")
    return unquote(name.text) if name.get("Encoded") == "true" else name.text
