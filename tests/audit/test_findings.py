"""Findings are checked against their records, and keep the records' own characters."""

from __future__ import annotations

from pathlib import Path

from rlm_ray.audit import findings
from rlm_ray.corpus.opening import open_manifest

_SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string"}, "address": {"type": "string"}, "quote": {"type": ["string", "null"]}},
}


def test_a_finding_keeps_the_characters_of_its_record(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("within 30–60\u00a0days of the “Notice”", "utf-8")
    manifest = open_manifest(str(tmp_path / "a.txt"), unit="document")
    shard = manifest.shards[0]
    address = f"{shard.uri}@{shard.version}#bytes=0-{shard.size}"
    rows = [{"kind": "x", "address": address, "quote": quote} for quote in ('30-60 days of the "Notice"', "30 60 days", None)]
    checked = findings.check(rows, _SCHEMA, {"context": manifest})
    assert [row["quote"] for row in checked.standing] == ["30–60\u00a0days of the “Notice”", None]
    (rejected,) = checked.rejected
    assert rejected["quote"] == "30 60 days"
    assert "is not in the record" in rejected["reason"]
    assert rows[0]["quote"] == '30-60 days of the "Notice"'  # what a run answered is not changed


def test_that_an_object_cannot_be_read_is_a_finding_without_a_quote(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04" + bytes(20))
    manifest = open_manifest(str(tmp_path / "a.docx"), unit="document")
    shard = manifest.shards[0]
    address = f"{shard.uri}@{shard.version}#bytes=0-{shard.size}"
    rows = [{"kind": kind, "address": address, "quote": quote} for kind, quote in (("unread", None), ("present", "Ohio"))]
    checked = findings.check(rows, _SCHEMA, {"context": manifest})
    assert [row["kind"] for row in checked.standing] == ["unread"]
    assert "cannot be" in checked.rejected[0]["reason"]
