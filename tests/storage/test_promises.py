"""Stores that keep few promises, and names that are nearly URIs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import rlm_ray
from rlm_ray import storage
from rlm_ray.errors import InputError, ObjectChanged
from rlm_ray.storage.connections import S3


@pytest.fixture
def ignoring(s3: Any, fresh: pytest.MonkeyPatch) -> None:
    """A store to which no condition comes through, so that it takes no notice of any."""

    def strip(request: Any, **_: Any) -> None:
        for name in ("If-Match", "If-None-Match"):
            if name in request.headers:
                del request.headers[name]

    filesystem = S3.filesystem()
    filesystem.call_s3("list_buckets")
    filesystem.s3.meta.events.register("before-sign.s3", strip)


def test_a_replaced_object_is_seen_by_its_replies(ignoring: None, prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/small.log"
    storage.write_bytes(uri, b"OLD a\n")
    corpus = rlm_ray.open(uri)
    version = storage.current_version(uri)
    storage.write_bytes(uri, b"NEW a\n")
    with pytest.raises(ObjectChanged, match="no longer version"):
        storage.read_range(uri, 0, 3, version=version)
    with pytest.warns(rlm_ray.errors.UnreadShard, match="changed"):
        assert corpus.head(2) == []


def test_a_large_object_replaced_in_mid_scan_is_no_mixture(ignoring: None, prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/big.log"
    old = b"".join(b"OLD %07d xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" % i for i in range(1_200_000))
    storage.write_bytes(uri, old)
    stream = storage.open_stream(uri, version=storage.current_version(uri), size=len(old))
    assert stream.read(3) == b"OLD"
    storage.write_bytes(uri, old.replace(b"OLD", b"NEW"))
    parts: list[bytes] = []
    with pytest.raises(ObjectChanged):
        parts.extend(iter(lambda: stream.read(1 << 20), b""))
    assert not any(b"NEW" in part for part in parts)
    stream.close()


def test_a_store_without_conditions_is_said_once(
    ignoring: None, prefix: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = prefix()
    with caplog.at_level(logging.WARNING):
        assert storage.write_bytes(f"{folder}/a", b"1", only_if_absent=True)
        assert not storage.write_bytes(f"{folder}/a", b"2", only_if_absent=True)
        assert storage.write_bytes(f"{folder}/b", b"1", only_if_absent=True)
    assert storage.read_bytes(f"{folder}/a") == b"1"
    assert [record.message.count("takes no notice of conditions") for record in caplog.records] == [1]


def test_a_range_is_not_held_against_the_checksum_of_the_whole(s3: Any, prefix: Callable[[], str]) -> None:
    storage.write_bytes(f"{prefix()}/a", b"1")
    assert S3.filesystem().s3.meta.config.response_checksum_validation == "when_required"


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("s3:/lake/logs", "Write s3://lake/logs with"),
        ("gs:/lake/logs", "Write gs://lake/logs with"),
        ("az:lake/logs", "Write az://lake/logs with"),
        ("https:/host/a.log", "Write https://host/a.log with"),
        ("hf:/datasets/o/n", "Write hf://datasets/o/n with"),
        ("wasbs://c@account.blob.core.windows.net/a", "abfss://"),
        ("s3:lake/logs", "Write s3://lake/logs with"),
        ("S3//lake/logs", "Write s3://lake/logs with"),
        ("s3a:/lake", "Write s3a://lake with"),
        ("arn:aws:s3:::lake/logs", "An ARN is written as s3://lake/logs"),
        ("s3://arn:aws:s3:::lake/logs", "An ARN is written as s3://lake/logs"),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "by its alias"),
        ("https://lake.s3.eu-west-1.amazonaws.com/logs/a.log", "written as s3://lake/logs/a.log"),
        ("https://s3.amazonaws.com/lake/logs", "written as s3://lake/logs"),
    ],
)
def test_what_is_nearly_a_uri_gets_its_hint(uri: str, hint: str) -> None:
    with pytest.raises(InputError) as found:
        rlm_ray.open(uri)
    assert hint in str(found.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:hunter2@lake/logs",
        "s3://AKIAKEY:hun/hunter2@lake/logs",
        "s3://AKIAKEY:hunter2/logs",
        "s3a://hunter2@lake/logs",
        "gs://AKIAKEY:hunter2@lake/logs",
        "gs://AKIAKEY:hunter2/logs",
        "az://account:hun/hunter2@lake/logs",
        "abfss://lake@account.dfs.core.windows.net/a?sig=hunter2",
        "hf://hunter2@datasets/o/n",
        "http://127.0.0.1:1/a.log?token=hunter2",
        "https://user:hunter2@127.0.0.1:1/a.log",
        "list+https://host/a.txt?sig=hunter2",
        "https://user:hunter2@host/a.log",
        "https://lake.s3.amazonaws.com/a.log?X-Amz-Credential=x&X-Amz-Signature=hunter2",
        "https://account.blob.core.windows.net/c/a?sv=1&sig=hunter2",
        "s3:/AKIAKEY:hunter2@lake/logs",
        "delta+s3://AKIAKEY:hunter2@lake/table",
    ],
)
def test_a_secret_in_a_uri_is_never_printed(uri: str) -> None:
    with pytest.raises(Exception) as found:
        rlm_ray.open(uri)
    assert "hunter2" not in str(found.value)
    with pytest.raises(InputError) as refused:
        rlm_ray.ask(uri, "?", rlm_ray.Settings(root_model="m"))
    assert "hunter2" not in str(refused.value)
