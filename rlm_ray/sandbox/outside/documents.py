"""The parent's side of the sandbox that parses documents: a fresh child for each document; only text comes out."""

from __future__ import annotations

from rlm_ray.errors import InputError, SandboxError
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import ENDS_AFTER, Entry, FunctionSandbox, StoppedChild, entries_of
from rlm_ray.sandbox.wire.channel import clean

MAX_PAGES = 100_000
#: Bytes beyond the child's start, and seconds, for one document.
MEMORY = 1 << 30
SECONDS = 120.0


class DocumentSandbox(FunctionSandbox):
    """A child process that parses one document, at level strict: the bytes are hostile, whatever level root code has."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        super().__init__(level="strict", limits=Limits(seconds, 2 * seconds, 1, memory))

    def pages(self, kind: str, data: bytes) -> list[str]:
        """Return the text of each page. Blocks.

        Parameters
        ----------
        kind : {"pdf", "docx"}
        data : bytes

        Raises
        ------
        ValueError
            The document cannot be parsed, or not within the bounds; with the reason.
        """
        entries: list[Entry] = []
        seconds = self.limits.soft_seconds

        def work() -> None:
            for answer, blob in self._exchange({"t": "extract", "kind": kind, "seconds": seconds}, data, seconds + ENDS_AFTER * 5):
                if answer.get("t") == "applied":
                    return
                entries.extend(entries_of(answer, blob, len(entries), MAX_PAGES + 1))
                if len(entries) > MAX_PAGES:
                    raise StoppedChild(f"it has more than {MAX_PAGES:,} pages")

        with self._lock:
            try:
                self._attempt(work)
            except StoppedChild as error:
                raise ValueError(f"its parser was stopped: {error}") from None
            except SandboxError as error:
                raise ValueError(str(error)) from None
        for entry in entries:
            if "error" in entry:
                raise ValueError(clean(entry["error"], 300).removeprefix("ValueError: "))
            if not isinstance(entry["value"], str):
                raise ValueError("its parser gave a page that is no text")
        return [clean(entry["value"], len(entry["value"])) for entry in entries]


def extract(kind: str, data: bytes) -> list[str]:
    """Return the pages of a document, from a sandbox of its own: what one document did to its parser no other meets.

    Raises
    ------
    ValueError
        It cannot be parsed; with the reason.
    """
    try:
        sandbox = DocumentSandbox()
        try:
            return sandbox.pages(kind, data)
        finally:
            sandbox.close()
    except InputError as error:
        raise ValueError(str(error)) from None
