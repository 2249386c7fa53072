"""Names, and files of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm_ray import storage
from rlm_ray.errors import InputError, StorageError


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.normal("x/../y.log") == str(tmp_path / "y.log")
    assert storage.normal("~/y.log") == "/home/someone/y.log"
    assert storage.normal("file:///x/y.log") == "/x/y.log"
    assert storage.is_local("x")
    assert not storage.is_local("s3://b/x")
    assert storage.normal("HTTPS://host/a?x=1#top") == "https://host/a?x=1"
    assert storage.normal("gcs://b/y/") == "gs://b/y"
    assert storage.normal("abfs://c/y/") == "az://c/y"
    assert storage.normal("abfss://c@acc.blob.core.windows.net/y") == "abfss://c@acc.dfs.core.windows.net/y"
    assert storage.shown("abfss://c@acc.dfs.core.windows.net/y") == "abfss://c@acc.dfs.core.windows.net/y"
    assert storage.normal("https://host:8080/mail/a@b") == storage.shown("https://host:8080/mail/a@b")
    for wrong in ("ftp://x/y", "hdfs://n/y"):
        with pytest.raises(InputError, match=r"local path, file://, s3://, gs://, az://, abfss://, hf://, https:// or memory://"):
            storage.normal(wrong)
    for wrong in ("", "  ", "s3://", "gs://", "https://"):
        with pytest.raises(InputError):
            storage.normal(wrong)


def test_what_is_written_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "deep" / "file"
    storage.write_bytes(str(path), b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    storage.make_dirs(str(tmp_path / "made" / "dir"))
    assert (tmp_path / "made" / "dir").stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(path.parent)) == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/below"):
        storage.write_bytes(str(tmp_path / "file" / "below"), b"x")
    with pytest.raises(StorageError, match="file/below"):
        storage.make_dirs(str(tmp_path / "file" / "below"))


def test_a_name_that_no_file_can_have_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        list(storage.listing(str(tmp_path / ("x" * 5_000))))
    with pytest.raises(InputError):
        list(storage.listing(f"{tmp_path}/a\0b"))


def test_a_walk_is_that_of_the_paths(tmp_path: Path) -> None:
    for name in ("b.log", "a.log", "a/1.log", "a/sub/2.log", "a-b/3.log", "a.d/4.log", "z/y/x/5.log"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.log").symlink_to(tmp_path / "a.log")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "dangling.log").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.log")
    os.utime(tmp_path / "b.log", ns=(1, -5_000_000_007))
    found = list(storage.listing(str(tmp_path)))
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(tmp_path, followlinks=True) for name in names)
    assert [info.uri for info in found] == [path for path in paths if os.path.isfile(path)]
    # a listing and a question about one object name the same version
    assert found == [storage.stat(info.uri) for info in found]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://lake/a.log?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "s3a://lake/a.log?AWSAccessKeyId=hunter2&Signature=hunter2",
        "s3://AKIA:hunter2@lake/a.log",
    ],
)
def test_a_uri_with_a_secret_is_refused_without_printing_it(uri: str) -> None:
    with pytest.raises(InputError, match="would be written into logs and reports") as caught:
        storage.normal(uri)
    assert "hunter2" not in str(caught.value)
