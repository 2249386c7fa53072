"""Columns of logs: what each format's lines say, by values written down by hand or found by the standard library."""

from __future__ import annotations

import datetime
import json
import re
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.logs import notes
from rlm_ray.corpus.reading.logs.formats import FORMATS, named
from rlm_ray.corpus.reading.logs.layout import Layout, LogOptions
from rlm_ray.corpus.reading.logs.times import form_of
from rlm_ray.corpus.reading.text import streams
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable
from rlm_ray.handle.plan import Grep, Where

_AUTO = LogOptions(parse="auto")
_W3C = (
    "#Software: IIS\n#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port c-ip cs(User-Agent) sc-status\n"
    "2024-01-05 10:00:00 10.0.0.1 GET /a.html - 80 1.2.3.4 Mozilla/5.0+(X) 200"
)
_CLOUDFRONT = (
    "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status\n"
    "2019-12-04\t21:02:31\tLAX1\t392\t192.0.2.100\tGET\td111.cloudfront.net\t/index.html\t200"
)
_ALB = (
    "http 2018-07-02T22:23:00.186641Z app/my-lb/50dc 192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "
    '"GET http://www.example.com:80/ HTTP/1.1" "curl/7.46.0" - - arn:aws:x "Root=1-5833" "-" "-" 0 2018-07-02T22:22:48.364000Z "forward"'
)
_S3 = (
    "79a59df bucket1 [06/Feb/2019:00:00:38 +0000] 192.0.2.3 79a59df 3E57427F3 REST.GET.VERSIONING - "
    '"GET /bucket1?versioning HTTP/1.1" 200 - 113 - 7 - "-" "S3Console/0.4" - s9lz= SigV4 ECDHE AuthHeader b.s3.amazonaws.com TLSV1.2 - -'
)
_HAPROXY = (
    "Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 "
    '- - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"'
)

#: Format, lines, and what the last line says. A time is as ISO 8601 writes it.
_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("combined", '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 "http://e.com/" "Mozilla/4.08 [en]"',
     {"time": "2000-10-10T20:55:36Z", "client": "127.0.0.1", "user": "frank", "method": "GET", "path": "/a.gif", "status": 200,
      "bytes": 2326, "referer": "http://e.com/", "agent": "Mozilla/4.08 [en]", "message": "GET /a.gif HTTP/1.0"}),
    ("combined", '10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] "\\x16\\x03\\"" 400 - "-" "-"',
     {"time": "2000-10-10T13:55:36Z", "message": '\\x16\\x03\\"', "status": 400, "bytes": None, "agent": None, "method": None}),
    ("common", '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 304 -', {"status": 304, "bytes": None, "user": None}),
    ("vhost_combined", 'example.com:80 1.2.3.4 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.0" 200 1 "-" "x"',
     {"host": "example.com:80", "client": "1.2.3.4"}),
    ("nginx_error", "2024/01/05 10:00:00 [error] 1234#5678: *99 open() failed, client: 1.2.3.4",
     {"time": "2024-01-05T10:00:00", "level": "ERROR", "pid": 1234, "tid": 5678, "connection": 99,
      "message": "open() failed, client: 1.2.3.4"}),
    ("apache_error", "[Thu Jun 09 06:07:04.123456 2005] [core:error] [pid 123:tid 456] [client 1.2.3.4:5] AH00128: no file",
     {"time": "2005-06-09T06:07:04.123456", "logger": "core", "level": "ERROR", "pid": 123, "client": "1.2.3.4:5",
      "message": "AH00128: no file"}),
    ("apache_error", "[Sun Dec 04 04:51:09 2005] [notice] jk2_init() Found child", {"level": "NOTICE", "logger": None}),
    ("haproxy", _HAPROXY, {"time": "2009-02-06T12:14:14.655", "host": "localhost", "logger": "haproxy", "pid": 14389, "client": "10.0.1.2",
                           "backend": "static", "server": "srv1", "status": 200, "bytes": 2750, "message": "GET /index.html HTTP/1.1"}),
    ("alb", _ALB, {"time": "2018-07-02T22:23:00.186641Z", "client": "192.168.131.39:2817", "target_processing_time": 0.001, "status": 200,
                   "received_bytes": 34, "bytes": 366, "agent": "curl/7.46.0", "trace_id": "Root=1-5833"}),
    ("s3", _S3, {"time": "2019-02-06T00:00:38Z", "bucket": "bucket1", "operation": "REST.GET.VERSIONING", "key": None, "status": 200,
                 "bytes": 113, "total_time": 7, "agent": "S3Console/0.4"}),
    ("cloudfront", _CLOUDFRONT, {"time": "2019-12-04T21:02:31Z", "x_edge_location": "LAX1", "sc_bytes": 392, "message": "/index.html",
                                 "status": 200}),
    ("w3c", _W3C, {"time": "2024-01-05T10:00:00Z", "host": "10.0.0.1", "client": "1.2.3.4", "message": "/a.html", "cs_uri_query": None,
                   "s_port": 80, "status": 200, "cs_user_agent": "Mozilla/5.0+(X)"}),
    ("syslog5424", '<165>1 2003-10-11T22:14:15.003Z a.example.com evntslog - ID47 [x@1 iut="3" e="App]l"] An entry',
     {"time": "2003-10-11T22:14:15.003Z", "level": "NOTICE", "host": "a.example.com", "logger": "evntslog", "pid": None, "msgid": "ID47",
      "data": '[x@1 iut="3" e="App]l"]', "message": "An entry"}),
    ("syslog3164", "<34>Oct 11 22:14:15 mymachine su: 'su root' failed on /dev/pts/8",
     {"time": "Oct 11 22:14:15", "level": "CRIT", "host": "mymachine", "logger": "su", "message": "'su root' failed on /dev/pts/8"}),
    ("syslog3164", "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure",
     {"host": "combo", "logger": "sshd(pam_unix)", "pid": 19939, "level": None, "message": "authentication failure"}),
    ("syslog3164", "Jun  4 15:16:01 combo last message repeated 2 times", {"logger": None, "message": "last message repeated 2 times"}),
    ("rsyslog", "2024-01-05T10:00:00.123456+01:00 web1 sshd[1234]: Accepted",
     {"time": "2024-01-05T09:00:00.123456Z", "host": "web1", "logger": "sshd", "pid": 1234, "message": "Accepted"}),
    ("klog", "E0304 12:00:00.123456   17 main.go:10] broken", {"level": "ERROR", "pid": 17, "logger": "main.go:10", "message": "broken"}),
    ("cri", "2016-10-06T00:17:09.669794202Z stdout F hello world",
     {"time": "2016-10-06T00:17:09.669794Z", "stream": "stdout", "message": "hello world"}),
    ("postgres", '2024-01-05 10:00:00.123 UTC [1234] app@db ERROR:  relation "x" does not exist',
     {"time": "2024-01-05T10:00:00.123Z", "pid": 1234, "user": "app", "database": "db", "level": "ERROR",
      "message": 'relation "x" does not exist'}),
    ("postgres", "2024-01-05 10:00:00.123 CET [1234] LOG:  checkpoint", {"time": "2024-01-05T10:00:00.123", "zone": "CET", "level": "LOG"}),
    ("spring", "2024-01-05T10:00:00.123+01:00  INFO 12345 --- [app] [           main] c.e.App         : Started",
     {"time": "2024-01-05T09:00:00.123Z", "level": "INFO", "pid": 12345, "thread": "main", "logger": "c.e.App", "message": "Started"}),
    ("hadoop", "2015-10-18 18:01:47,978 INFO [main] org.apache.MRAppMaster: Created",
     {"time": "2015-10-18T18:01:47.978", "level": "INFO", "thread": "main", "logger": "org.apache.MRAppMaster", "message": "Created"}),
    ("zookeeper", "2015-07-29 17:41:44,747 - INFO  [Peer[myid=1]/0:0:2181:FastLeaderElection@774] - Notification",
     {"level": "INFO", "thread": "Peer[myid=1]/0:0:2181", "logger": "FastLeaderElection", "line": 774, "message": "Notification"}),
    ("logback", "10:15:30.123 [main] WARN  c.e.App - msg", {"time": "10:15:30.123", "level": "WARN", "logger": "c.e.App", "message": "msg"}),
    ("spark", "17/06/09 20:10:40 INFO executor.Backend: Registered", {"time": "2017-06-09T20:10:40", "logger": "executor.Backend"}),
    ("hdfs", "081109 203615 148 INFO dfs.DataNode$PacketResponder: x", {"time": "2008-11-09T20:36:15", "thread": "148", "message": "x"}),
    ("tomcat", "05-Jan-2024 10:00:00.123 SEVERE [main] org.apache.X failed", {"time": "2024-01-05T10:00:00.123", "level": "SEVERE"}),
    ("python_named", "2024-01-05 10:00:00,123 - my.logger - ERROR - it broke",
     {"time": "2024-01-05T10:00:00.123", "logger": "my.logger", "level": "ERROR", "message": "it broke"}),
    ("python_plain", "ERROR:root:it broke", {"level": "ERROR", "logger": "root", "message": "it broke"}),
    ("python_level", "2024-01-05 10:00:00,123 ERROR my.logger: it broke", {"logger": "my.logger", "message": "it broke"}),
    ("bluegene", "- 1117838570 2005.06.03 R02-M1 2005-06-03-15.42.50.675872 R02-M1 RAS KERNEL INFO cache error",
     {"time": "2005-06-03T15:42:50.675872", "host": "R02-M1", "logger": "KERNEL", "level": "INFO", "epoch": 1117838570}),
    ("level", "2024-01-05T10:00:00Z [error] it broke", {"time": "2024-01-05T10:00:00Z", "level": "ERROR", "message": "it broke"}),
    ("logfmt", 'ts=2024-01-05T10:00:00Z level=error msg="it \\"broke\\"" caller=main.go:10 err=timeout',
     {"time": "2024-01-05T10:00:00Z", "level": "ERROR", "logger": "main.go:10", "message": 'it "broke"', "err": "timeout"}),
    ("journald_json", json.dumps({"__REALTIME_TIMESTAMP": "1704448800123456", "PRIORITY": "3", "_HOSTNAME": "web1", "_PID": "12",
                                  "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": "refused"}),
     {"time": "2024-01-05T10:00:00.123456Z", "level": "ERR", "host": "web1", "logger": "sshd", "pid": 12, "message": "refused"}),
    ("timed", "2024-01-05 10:00:00 something", {"time": "2024-01-05T10:00:00", "message": "2024-01-05 10:00:00 something"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), _CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(_CASES)])
def test_a_format_is_found_and_its_columns_are_those_of_its_documentation(
    kit: SimpleNamespace, name: str, text: str, expected: dict[str, Any]
) -> None:
    uri = kit.object(f"{text}\n".encode(), ".log")
    manifest = open_manifest(uri, logs=_AUTO)
    assert f"fields of {name}" in manifest.reading
    for options in (_AUTO, LogOptions(parse=name)):
        records = kit.records(open_manifest(uri, logs=options))
        assert {column: records[-1][column] for column in expected} == expected
        assert len(records) == 1
        assert "_error" not in records[0]


def test_every_format_with_a_pattern_has_a_case() -> None:
    assert {item.name for item in FORMATS} - {"journald", "plain"} == {name for name, _, _ in _CASES}
    assert [item.name for item in named("syslog")] == ["syslog5424", "syslog3164", "rsyslog"]


def test_journald_export_has_values_of_many_lines(kit: SimpleNamespace) -> None:
    said = "line1\nline2 é"
    first = "__CURSOR=s=1\n__REALTIME_TIMESTAMP=1704448800123456\nPRIORITY=6\n_HOSTNAME=web1\n_PID=12\nMESSAGE=hello\n\n"
    second = b"__CURSOR=s=2\n__REALTIME_TIMESTAMP=1704448801000000\nPRIORITY=3\nMESSAGE\n" + struct.pack("<Q", len(said.encode()))
    data = (first.encode() + second + said.encode() + b"\n_HOSTNAME=web1\n_PID=13\n\n") * 3
    records = kit.records(open_manifest(kit.object(data, ".log"), unit="event", logs=_AUTO, shard_bytes=64))
    shown = [(item["time"], item["level"], item["host"], item["pid"], item["message"]) for item in records]
    first_one = ("2024-01-05T10:00:00.123456Z", "INFO", "web1", 12, "hello")
    assert shown == [first_one, ("2024-01-05T10:00:01Z", "ERR", "web1", 13, said)] * 3


_WORDS = st.text("abc \\[]{}:é-", max_size=12).map(str.strip)


@given(rows=st.lists(st.tuples(st.datetimes(datetime.datetime(1971, 1, 1), datetime.datetime(2099, 1, 1)),
                               st.sampled_from(["INFO", "WARN", "ERROR"]), _WORDS, st.booleans()), min_size=1, max_size=15),
       shard_bytes=st.integers(30, 400), piece=st.integers(1, 200))  # fmt: skip
def test_columns_are_the_same_for_any_cut_and_what_does_not_parse_is_its_own_message(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[Any, str, str, bool]], shard_bytes: int, piece: int
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    head = "2024-01-05 10:00:00,000 - a - INFO - begin\n"
    lines = [f"{t:%Y-%m-%d %H:%M:%S},{t.microsecond // 1000:03d} - a.b - {level} - {said}" if fits else f"junk {said}"
             for t, level, said, fits in rows]  # fmt: skip
    manifest = open_manifest(
        kit.object((head + "\n".join(lines) + "\n").encode(), ".log"), logs=LogOptions(parse="python"), shard_bytes=shard_bytes
    )
    records = kit.records(manifest)[1:]
    for (moment, level, said, fits), line, record in zip(rows, lines, records, strict=True):
        time = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        assert record["message"] == (said if fits else line)
        assert (record["level"], record["logger"]) == ((level, "a.b") if fits else (None, None))
        assert (record["time"] and datetime.datetime.fromisoformat(record["time"])) == (time if fits else None)
        assert ("_error" in record) != fits
    errors = kit.operate(manifest, "count_by", column="level", limit=9)["counts"]
    assert dict(map(tuple, errors)).get("ERROR", 0) == sum(level == "ERROR" and fits for _, level, _, fits in rows)
    after = datetime.datetime(2030, 1, 1)
    late = Where((("time", ">=", after.isoformat()),))
    assert kit.operate(manifest, "count", late) == sum(fits and moment >= after for moment, _, _, fits in rows)
    assert kit.operate(manifest, "count", Where((("level", "==", "WARN"),))) == sum(r[1] == "WARN" and r[3] for r in rows)
    assert kit.operate(manifest, "count", Grep("[ab] c")) == sum(re.search("[ab] c", r["message"]) is not None for r in records)


def test_events_have_columns_and_keep_their_lines(kit: SimpleNamespace) -> None:
    text = "2024-01-05 10:00:00,123 - a - ERROR - broke\nTraceback:\n  File x\nKeyError: 1\n2024-01-05 10:00:01,123 - a - INFO - fine\n"
    manifest = open_manifest(kit.object(text.encode(), ".log"), unit="event", logs=_AUTO)
    records = kit.records(manifest)
    assert [(item["level"], item["message"]) for item in records] == [
        ("ERROR", "broke\nTraceback:\n  File x\nKeyError: 1"),
        ("INFO", "fine"),
    ]
    assert kit.records(manifest, Grep("KeyError")) == records[:1]
    container = "".join(f"2024-01-05T10:00:0{n}.1Z {s} {t} {m}\n" for n, (s, t, m) in enumerate(
        [("stdout", "P", "2024-01-05 10:00 on"), ("stderr", "F", "2024-01-05 10:00 x"), ("stdout", "F", "e"), ("stderr", "F", " at")]))  # fmt: skip
    records = kit.records(open_manifest(kit.object(container.encode(), ".log"), unit="event", logs=_AUTO))
    assert [(item["stream"], item["message"], item["time"]) for item in records] == [
        ("stdout", "2024-01-05 10:00 one", "2024-01-05T10:00:00.100000Z".replace("00000Z", "Z")),
        ("stderr", "2024-01-05 10:00 x\n at", "2024-01-05T10:00:01.1Z"),
    ]


def test_a_pattern_with_names_and_a_format_of_the_users_own(kit: SimpleNamespace) -> None:
    uri = kit.object(b"17 web1 | 2024-01-05 10:00:00 | it broke\nnothing\n", ".log")
    pattern = r"^(?P<worker>\d+) (?P<host>\S+) \| (?P<time>[^|]+) \| (?P<message>.*)$"
    for options in (LogOptions(parse=pattern), LogOptions(parse="ours", patterns=(("ours", pattern),)),
                    LogOptions(parse="auto", patterns=(("ours", pattern),))):  # fmt: skip
        first, second = kit.records(open_manifest(uri, logs=options))
        assert (first["worker"], first["host"], first["time"], first["message"]) == (
            "17",
            "web1",
            "2024-01-05T10:00:00",
            "it broke",
        )
        assert second["message"] == "nothing"
    with pytest.raises(InputError, match=r"is not known\. Use 'auto'"):
        open_manifest(uri, logs=LogOptions(parse="sylog"))
    with pytest.raises(InputError, match="is no pattern"):
        open_manifest(uri, logs=LogOptions(parse="(?P<a>["))


def test_several_formats_in_one_corpus_are_each_parsed(kit: SimpleNamespace) -> None:
    folder = kit.folder()
    storage.write_bytes(f"{folder}/a.log", b"2024-01-05 10:00:00,123 - a - ERROR - one\n" * 5)
    storage.write_bytes(f"{folder}/b.log", b"2024/01/05 10:00:00 [warn] 12#0: two\n" * 3)
    manifest = open_manifest(folder, logs=_AUTO)
    counts = kit.operate(manifest, "count_by", column="level", limit=9)["counts"]
    assert counts == [["ERROR", 5], ["WARN", 3]]
    assert "fields of python_named, nginx_error" in manifest.reading


def test_w3c_objects_with_other_columns_are_refused(kit: SimpleNamespace) -> None:
    folder = kit.folder()
    head, _, row = _W3C.rpartition("\n")
    storage.write_bytes(f"{folder}/a.log", (_W3C + "\n").encode())
    storage.write_bytes(f"{folder}/b.log", (head.replace("s-ip cs-method", "cs-method s-ip") + "\n" + row + "\n").encode())
    manifest = open_manifest(folder, logs=LogOptions(parse="w3c"))
    with pytest.raises(ObjectUnreadable, match="other columns apart"):
        kit.records(manifest)
    assert Layout.from_text(manifest.shards[0].dialect).parsers[0].header.startswith("#Fields: date time")


def test_times_of_a_shard_are_kept_and_prune_and_counts_are_said(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f"2024-01-05 10:{minute:02d}:00,000 - a - INFO - {minute}\n" for minute in range(60)) + "junk\n"
    manifest = open_manifest(kit.object(lines.encode(), ".log"), logs=LogOptions(parse="python"), shard_bytes=500)
    run = kit.folder()
    plan = bind((Where((("time", ">=", "2024-01-05T10:55:00"),)),), manifest.schema)

    def count() -> int:
        return sum(operations.run("count", Work(shard, plan, run), {}) for shard in manifest.shards)

    assert count() == 5
    assert [(item["records"], item["cut"]) for item in notes.found(run)] == [(1, 0)]
    read = []
    monkeypatch.setattr(storage, "open_stream", lambda uri, **_: read.append(uri) or pytest.fail("it reads"))
    assert sum(operations.run("count", Work(shard, plan, run), {}) for shard in manifest.shards[:-1]) in range(6)
    early = bind((Where((("time", "<", "2023-01-01"),)),), manifest.schema)
    assert sum(operations.run("count", Work(shard, early, run), {}) for shard in manifest.shards) == 0
    assert not read


def test_forms_of_times_are_told_apart() -> None:
    assert form_of(["17/06/09 20:10:40"])[0] == "%y/%m/%d %H:%M:%S%.f"
    assert form_of(["2017/06/09 20:10:40"])[0] == "%Y/%m/%d %H:%M:%S%.f"
    assert form_of(["1704448800", "1704448800.5"])[0] == "epoch"
    assert form_of([]) == ("", "string")
