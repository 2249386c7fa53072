"""Lists many objects by several prefixes at once, since each page must arrive before the next can be asked for.

Keys that share what stands up to a `/` are one common prefix (S3 API, ListObjectsV2). Prefixes are listed apart where the
first page says that each has many keys, so that there are never many more requests than pages.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from rlm_ray.storage.stores import Entry, Page, PagedStore

#: Prefixes that are listed at once, and pages that wait to be taken.
AT_ONCE, HELD = 8, 16
#: Prefixes that a page may name, if they are to be listed apart: with more, each has few keys, and asks for a page all the same.
MOST_IN_A_PAGE = 8

Entries = list[Entry]


def pages(store: PagedStore, bucket: str, prefix: str, page_keys: int = 1_000) -> Iterator[Entries]:
    """Yield the entries below a prefix by pages, in no order; holds some pages at a time.

    Parameters
    ----------
    page_keys : int
        Most keys of a page.

    Raises
    ------
    InputError
        There is no such bucket.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    first = store.page(bucket, prefix, MaxKeys=page_keys)
    if not first.get("IsTruncated"):
        yield first.get("Contents", [])
        return
    work = _Work(store, bucket, page_keys)
    try:
        work.begin(prefix, first)
        yield from work.pages()
    finally:
        work.end()


class _Work:
    """Prefixes under way, each in a thread."""

    def __init__(self, store: PagedStore, bucket: str, page_keys: int) -> None:
        self._store, self._bucket, self._page_keys = store, bucket, page_keys
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rlm-listing")
        self._events: queue.Queue[Entries | int | Exception] = queue.Queue(HELD)
        self._ended = threading.Event()

    def begin(self, prefix: str, first: Page | None = None) -> None:
        """List a prefix, in its turn."""
        self._pool.submit(self._list, prefix, first)

    def pages(self) -> Iterator[Entries]:
        """Yield pages as they come, until all prefixes are at their end."""
        left = 1
        while left:
            event = self._events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, int):  # so many prefixes begin, or one is at its end
                left += event
            else:
                yield event

    def end(self) -> None:
        """Let go of what is under way."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _list(self, prefix: str, first: Page | None) -> None:
        try:
            page = first or self._store.page(self._bucket, prefix, MaxKeys=self._page_keys)
            apart = self._apart(prefix, page) if page.get("IsTruncated") else None
            if apart is not None:
                page, prefixes = apart
                self._report(len(prefixes))  # before one of them can be at its end
                for found in prefixes:
                    self.begin(found)
            while self._report(page.get("Contents", [])) and page.get("IsTruncated"):
                more = page["NextContinuationToken"]
                page = self._store.page(self._bucket, prefix, MaxKeys=self._page_keys, ContinuationToken=more)
            self._report(-1)
        except Exception as error:  # noqa: BLE001 - raised where the pages are taken
            self._report(error)

    def _apart(self, prefix: str, page: Page) -> tuple[Page, list[str]] | None:
        """What stands at a prefix itself, and the prefixes below; None where it is listed as it stands."""
        names = {key[: cut + 1] for item in page["Contents"] if (cut := (key := item["Key"]).find("/", len(prefix))) >= 0}
        if not 0 < len(names) <= MOST_IN_A_PAGE:
            return None
        level = self._store.page(self._bucket, prefix, MaxKeys=self._page_keys, Delimiter="/")
        if level.get("IsTruncated"):
            return None
        return level, [item["Prefix"] for item in level.get("CommonPrefixes", [])]

    def _report(self, what: Entries | int | Exception) -> bool:
        while not self._ended.is_set():
            try:
                self._events.put(what, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
