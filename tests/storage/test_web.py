"""Objects of web servers and of the hub, which are only read: what a server leaves out is noticed, and said."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from typing import Any
from urllib.parse import unquote

import pyarrow
import pyarrow.parquet
import pytest

import rlm_ray
from rlm_ray import storage
from rlm_ray.errors import CredentialsError, InputError, MissingExtra, ObjectChanged, StorageError
from rlm_ray.storage.rest import web as web_store
from tests.emulators import WebServer

LINES = b"".join(b"line %d of a log\n" % number for number in range(5_000))


def test_an_object_is_read_by_ranges_of_one_version(web: WebServer) -> None:
    web.objects = {"/a%20b.log": LINES, "/empty.log": b""}
    uri = f"{web.endpoint}/a%20b.log"
    info = storage.stat(uri)
    assert info is not None
    assert (info.uri, info.size) == (uri, len(LINES))
    assert storage.read_range(f"{uri}#top", 5, 9) == LINES[5:9]
    assert storage.read_range(uri, len(LINES), len(LINES) + 9, version=info.version) == b""
    corpus = rlm_ray.open(uri)
    assert corpus.count() == 5_000
    [record] = corpus.grep("line 4321 of").head(2)
    assert record["_address"].startswith(f"{uri}@{info.version}#bytes=")
    assert all(len(headers.get("Range", "")) > 8 for _, headers in web.asked)
    assert all(headers.get("Accept-Encoding") == "identity" for _, headers in web.asked)
    empty = storage.stat(f"{web.endpoint}/empty.log")
    assert empty is not None
    assert empty.size == 0
    assert storage.stat(f"{web.endpoint}/none") is None
    assert storage.find_bytes(f"{web.endpoint}/none") is None


@pytest.mark.parametrize("conditions", [True, False])
@pytest.mark.parametrize("etags", [True, False])
def test_a_replaced_object_is_noticed(web: WebServer, etags: bool, conditions: bool) -> None:
    web.etags, web.conditions = etags, conditions
    web.objects["/a.log"] = b"OLD\n"
    uri = f"{web.endpoint}/a.log"
    version = storage.current_version(uri)
    assert version
    web.objects["/a.log"] = b"NEW\n"
    web.modified["/a.log"] = "Mon, 30 Nov 2026 02:00:00 GMT"
    with pytest.raises(ObjectChanged, match="no longer version"):
        storage.read_range(uri, 0, 3, version=version)
    del web.objects["/a.log"]
    with pytest.raises(ObjectChanged, match="is gone"):
        storage.read_range(uri, 0, 3, version=version)


def test_a_server_that_tells_no_version_is_said_once(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    web.etags = web.times = False
    web.objects = {"/a.log": LINES, "/b.log": LINES}
    with caplog.at_level(logging.WARNING):
        assert rlm_ray.open(f"{web.endpoint}/a.log", f"{web.endpoint}/b.log").count() == 10_000
    assert [record.message.count("neither ETag nor Last-Modified") for record in caplog.records] == [1]


def test_a_server_without_ranges(web: WebServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    web.ranges = False
    web.objects = {"/a.log": LINES}
    uri = f"{web.endpoint}/a.log"
    with caplog.at_level(logging.WARNING):
        assert storage.read_range(uri, 7_000, 7_010) == LINES[7_000:7_010]
        assert rlm_ray.open(uri).count() == 5_000
    assert [record.message.count("sends no ranges") for record in caplog.records] == [1]
    monkeypatch.setattr(web_store, "MOST_WITHOUT_RANGES", 1_000)
    with pytest.raises(StorageError, match="sends no ranges, and the object has more than"):
        storage.read_range(uri, 7_000, 7_010)


def test_a_weak_etag_and_one_of_odd_letters(web: WebServer) -> None:
    given = ['W/"a@b#1"', '"x/y z"']

    def answer(handler: Any) -> bool:
        handler.reply(200, b"abc", ETag=given[0])
        return True

    web.answer = answer
    version = storage.current_version(f"{web.endpoint}/a")
    assert not {"@", "#", '"', "/"} & set(version)
    assert storage.read_range(f"{web.endpoint}/a", 0, 2, version=version) == b"ab"
    assert "If-Match" not in web.asked[-1][1]  # a weak one fulfils no condition
    given.reverse()
    with pytest.raises(ObjectChanged):
        storage.read_range(f"{web.endpoint}/a", 0, 2, version=version)
    version = storage.current_version(f"{web.endpoint}/a")
    assert storage.read_range(f"{web.endpoint}/a", 0, 2, version=version) == b"ab"
    assert web.asked[-1][1]["If-Match"] == given[0]


def test_a_server_that_fails_is_asked_again(web: WebServer) -> None:
    web.objects = {"/a.log": LINES}
    failures = ["503", "429", "cut"]

    def answer(handler: Any) -> bool:
        if not failures:
            return False
        kind = failures.pop(0)
        if kind == "cut":  # half of the body, then the connection ends
            handler.send_response(206)
            handler.send_header("Content-Length", "100")
            handler.send_header("Content-Range", f"bytes 0-99/{len(LINES)}")
            handler.end_headers()
            handler.wfile.write(LINES[:50])
            handler.close_connection = True
        else:
            handler.reply(int(kind), b"slow down")
        return True

    web.answer = answer
    assert storage.read_range(f"{web.endpoint}/a.log", 0, 100) == LINES[:100]
    assert not failures
    assert web.asked[-1][1]["Range"] == "bytes=50-99"


def test_what_the_web_cannot_do_is_refused(web: WebServer) -> None:
    def refuse(handler: Any) -> bool:
        handler.reply(403, b"go away?token=hunter2")
        return True

    with pytest.raises(InputError, match="no listing: name each object"):
        rlm_ray.open(f"{web.endpoint}/folder/")
    with pytest.raises(InputError, match="only read"):
        storage.write_bytes(f"{web.endpoint}/a", b"1")
    with pytest.raises(InputError, match="only read"):
        storage.delete_tree(f"{web.endpoint}/a")
    with pytest.raises(InputError, match="no listing"):
        rlm_ray.open(f"delta+{web.endpoint}/table")
    web.answer = refuse
    with pytest.raises(CredentialsError, match="refused") as found:
        storage.stat(f"{web.endpoint}/a")
    assert "hunter2" not in str(found.value)


def test_a_list_names_objects_of_the_web(web: WebServer) -> None:
    web.objects = {"/lists/tonight.txt": f"{web.endpoint}/a.log\nb.log\n".encode(), "/a.log": LINES, "/lists/b.log": LINES}
    assert rlm_ray.open(f"list+{web.endpoint}/lists/tonight.txt").count() == 10_000


class Hub:
    """The hub's answers, as its API writes them: small files by itself, large ones after it sends the reader on to another host."""

    def __init__(self, hub: WebServer, storage_host: WebServer, files: dict[str, bytes]) -> None:
        self.hub, self.host, self.files, self.large = hub, storage_host, files, {"data/large.parquet"}
        hub.answer = self.answer

    def about(self, path: str) -> dict[str, Any]:
        data = self.files[path]
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if path in self.large:
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return found

    def answer(self, handler: Any) -> bool:
        path, _, query = handler.path.partition("?")
        if path.startswith("/api/datasets/o/n/tree/main"):
            below = unquote(path.removeprefix("/api/datasets/o/n/tree/main").removeprefix("/"))
            names = sorted(name for name in self.files if name.startswith(f"{below}/" if below else ""))
            if not names:
                handler.reply(404, b'{"error":"Entry not found"}')
                return True
            half = names[2:] if "cursor" in query else names[:2]
            found: list[dict[str, Any]] = [self.about(name) for name in half]
            found.append({"type": "directory", "path": "data", "size": 0, "oid": "0"})
            more = {"Link": f'<{self.hub.endpoint}{path}?cursor=1>; rel="next"'} if half != names[2:] and len(names) > 2 else {}
            handler.reply(200, json.dumps(found).encode(), **more)
        elif path == "/api/datasets/o/n/paths-info/main":
            wanted = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))["paths"]
            handler.reply(200, json.dumps([self.about(name) for name in wanted if name in self.files]).encode())
        elif path.startswith("/datasets/o/n/resolve/main/"):
            name = unquote(path.removeprefix("/datasets/o/n/resolve/main/"))
            if name in self.large:
                digest = hashlib.sha256(self.files[name]).hexdigest()
                self.host.objects["/signed"] = self.files[name]
                handler.reply(302, b"", Location=f"{self.host.endpoint}/signed?Signature=x", X_Linked_Etag=f'"{digest}"')
                return True
            self.hub.objects[path], self.hub.etags = self.files[name], False
            data = self.files[name]
            start, stop = (int(part) for part in handler.headers["Range"].removeprefix("bytes=").split("-"))
            span = f"bytes {start}-{min(stop, len(data) - 1)}/{len(data)}"
            handler.reply(206, data[start : stop + 1], ETag=f'"{hashlib.sha1(data).hexdigest()}"', Content_Range=span)
        else:
            handler.reply(404)
        return True


@pytest.fixture
def hub(web: WebServer, fresh: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("huggingface_hub", reason="no huggingface_hub: pip install 'rlm-ray[hf]'")
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"n": range(1_000)}), sink)
    files = {
        "README.md": b"# read me\n",
        "data/large.parquet": sink.getvalue().to_pybytes(),
        "data/small.log": LINES,
        "zz.log": b"z\n",
    }
    fresh.setenv("HF_ENDPOINT", web.endpoint)
    fresh.setenv("HF_TOKEN", "hf_hunter2")
    host = WebServer()
    yield Hub(web, host, files)
    storage.forget_connections()
    host.close()


def test_a_repository_of_the_hub_is_listed_and_read(hub: Hub) -> None:
    base = "hf://datasets/o/n"
    assert sorted(info.uri for info in storage.listing(base)) == sorted(f"{base}/{name}" for name in hub.files)
    assert [info.uri for info in storage.listing(f"{base}/data/*.log")] == [f"{base}/data/small.log"]
    assert storage.stat(f"{base}/data") is None
    assert storage.stat(f"{base}@main/none.log") is None
    assert rlm_ray.open(f"{base}@main/data/small.log").count() == 5_000
    rows = rlm_ray.open(f"{base}/data/*.parquet")
    assert rows.where(("n", "==", 777)).count() == 1
    # the token goes to the hub, and not to where it sends the reader on
    assert all(headers["Authorization"] == "Bearer hf_hunter2" for _, headers in hub.hub.asked)
    assert hub.host.asked
    assert not any("Authorization" in headers for _, headers in hub.host.asked)


def test_a_file_of_the_hub_that_is_replaced_is_noticed(hub: Hub) -> None:
    for name in ("data/large.parquet", "data/small.log"):
        uri = f"hf://datasets/o/n/{name}"
        version = storage.current_version(uri)
        assert storage.read_range(uri, 0, 4, version=version) == hub.files[name][:4]
        hub.files[name] += b"more"
        with pytest.raises(ObjectChanged, match="no longer version"):
            storage.read_range(uri, 0, 4, version=version)
    with pytest.raises(InputError, match="only read"):
        storage.write_bytes("hf://datasets/o/n/a", b"1")
    with pytest.raises(InputError, match="names no repository"):
        rlm_ray.open("hf://datasets/o")
    with pytest.raises(InputError, match="Nothing to read"):
        rlm_ray.open("hf://datasets/o/other")


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [("gs://b/k", "gcsfs", "gcs"), ("az://b/k", "adlfs", "azure"), ("hf://o/n/k", "huggingface_hub", "hf")],
)
def test_an_error_names_the_extra(uri: str, module: str, extra: str, fresh: pytest.MonkeyPatch) -> None:
    for name in (module, f"{module}.core"):
        fresh.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"rlm-ray\[{extra}\]"):
        storage.stat(uri)
