"""What readers do with documents that have to be parsed: asked for once while the text is kept; a reason where there is none."""

from __future__ import annotations

import dataclasses

import pytest

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.documents import extracting
from rlm_ray.errors import ObjectUnreadable


def shard(name: str, version: str = "1") -> Shard:
    return Shard(0, 0, name, version, 4, "document", None, 0, 4, 1, 4)


def test_the_last_texts_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(extracting, "KEPT_CHARS", 20)

    def extract(kind: str, data: bytes) -> list[str]:
        asked.append(data)
        return [data.decode(), "\fend"]

    first, second = shard("kept-a.pdf"), shard("kept-b.PDF")
    assert extracting.text_of(first, b"one", extract) == "one\f\nend"  # a page is one, whatever its parser puts into it
    extracting.text_of(second, b"two", extract)
    extracting.text_of(first, b"one", extract)
    extracting.text_of(second, b"two", extract)
    assert asked == [b"one", b"two"]
    extracting.text_of(shard("kept-a.pdf", "2"), b"three", extract)  # another version is another text
    extracting.text_of(second, b"two", extract)
    assert asked == [b"one", b"two", b"three"]
    extracting.text_of(first, b"one", extract)  # the oldest has gone
    assert asked == [b"one", b"two", b"three", b"one"]
    assert extracting._kept_chars == sum(map(len, extracting._kept.values())) <= 20


def test_a_document_that_cannot_be_parsed_is_refused_with_the_reason() -> None:
    def refuses(kind: str, data: bytes) -> list[str]:
        raise ValueError("it is encrypted")

    with pytest.raises(ObjectUnreadable, match=r"refused\.docx cannot be parsed: it is encrypted"):
        extracting.text_of(shard("refused.docx"), b"", refuses)
    with pytest.raises(ObjectUnreadable, match="has no sandbox for it"):
        extracting.text_of(shard("refused.docx"), b"", None)


def test_tracked_changes_are_another_text() -> None:
    plain = shard("tracked-changes.docx")
    assert extracting.text_of(plain, b"PK", lambda kind, data: [kind]) == "docx"
    changed = dataclasses.replace(plain, tracked_changes="shown")
    assert extracting.text_of(changed, b"PK", lambda kind, data: [kind]) == "docx+changes"
