"""Times of log lines: every format is found, and its key is the moment that a second reader of it says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rlm_ray.audit.logs import times

_LINES = [
    ("081109 203615 148 INFO dfs.DataNode: x", "081109 203615", "2008-11-09T20:36:15"),  # HDFS
    ("2015-10-18 18:01:47,978 INFO [main] org.apache: Created", "2015-10-18 18:01:47", "2015-10-18T18:01:47.978"),  # Hadoop
    ("17/06/09 20:10:40 INFO executor: Registered", "17/06/09 20:10:40", "2017-06-09T20:10:40"),  # Spark
    ("1117838570 2005.06.03 R02-M1 2005-06-03-15.42.50.675872 R02-M1 RAS", "2005-06-03-15.42.50", "2005-06-03T15:42:50.675872"),
    ("134681 node-246 unix.hw state_change 1077804742 1 Component", "1077804742", "2004-02-26T14:12:22"),  # HPC
    ("- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond: x", "Nov 9 12:01:01", "2005-11-09T20:01:01"),  # Thunderbird
    ("2016-09-28 04:30:30, Info    CBS    Loaded", "2016-09-28 04:30:30", "2016-09-28T04:30:30"),  # Windows
    ("03-17 16:13:38.811  1702  2395 D WindowManager: x", "03-17 16:13:38", "0000-03-17T16:13:38.811"),  # Android
    ("20171223-22:15:29:606|Step_LSC|30002312|x 3579", "20171223-22:15:29", "2017-12-23T22:15:29.606"),  # HealthApp
    ("[Sun Dec 04 04:47:44 2005] [notice] x", "Dec 04 04:47:44", "2005-12-04T04:47:44"),  # Apache
    ("[10.30 16:49:06] chrome.exe - proxy:5070 open", "10.30 16:49:06", "0000-10-30T16:49:06"),  # Proxifier
    ("nova-api.log.1.2017-05-16_13:53:08 2017-05-16 00:00:00.008 25746 INFO", "2017-05-16 00:00:00", "2017-05-16T00:00:00.008"),
    ("Jul  1 09:00:55 calvisitor-10-105 kernel[0]: x", "Jul  1 09:00:55", "0000-07-01T09:00:55"),  # Mac, Linux, OpenSSH
    ('1.2.3.4 - - [05/Jan/2024:10:00:00 -0130] "GET / HTTP/1.1" 200 5', "05/Jan/2024:10:00:00", "2024-01-05T11:30:00"),  # CLF
    ("2024/01/05 10:00:00 [error] 123#0: *1 connect() failed", "2024/01/05 10:00:00", "2024-01-05T10:00:00"),  # nginx
    ("I0105 10:00:00.123456       1 main.go:12] Ready", "0105 10:00:00", "0000-01-05T10:00:00.123456"),  # klog
    ("2024-01-05T10:00:00.123456789+02:00 stderr F x", "2024-01-05T10:00:00", "2024-01-05T08:00:00.123456789"),  # CRI
    ("2024-01-05T10:00:00+0000 web1 systemd[1]: Started", "2024-01-05T10:00:00", "2024-01-05T10:00:00"),  # journald
    ("<34>Oct 11 22:14:15 mymachine su: x", "Oct 11 22:14:15", "0000-10-11T22:14:15"),  # RFC 3164
    ("<165>1 2003-10-11T22:14:15.003Z mymachine evntslog - ID47 - x", "2003-10-11T22:14:15", "2003-10-11T22:14:15.003"),  # RFC 5424
    ("1/5/2024 12:00:00 AM Error MSSQLSERVER", "1/5/2024 12:00:00 AM", "2024-01-05T00:00:00"),
    ("Jan 05, 2024 1:00:00 PM com.foo.Bar run", "Jan 05, 2024 1:00:00 PM", "2024-01-05T13:00:00"),
    ("123:M 05 Jan 2024 10:00:00.123 # Server started", "05 Jan 2024 10:00:00", "2024-01-05T10:00:00.123"),
    ("[2024-01-05T10:00:00,123][WARN ][o.e.c] [node-1] x", "2024-01-05T10:00:00", "2024-01-05T10:00:00.123"),
    ('{"ts":1704448800.5,"msg":"x"}', "1704448800.5", "2024-01-05T10:00:00.5"),
]


@pytest.mark.parametrize(("line", "text", "moment"), _LINES)
def test_each_format_is_read(line: str, text: str, moment: str) -> None:
    time = times.find(line)
    assert time is not None
    assert time.text == text
    seconds, _, fraction = moment.partition(".")
    assert time.key == f"{seconds}.{fraction:0<9}"


@pytest.mark.parametrize(
    "line", ["", "refused", "took 10:00 of 12", "10.250.11.1:50010 block 123", "99/99/2024 10:00:00", "2024-02-30 10:00:00"]
)
def test_what_is_no_time_is_none(line: str) -> None:
    assert times.find(line) is None


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_an_epoch_of_every_unit_is_the_same_moment(scale: int) -> None:
    moment = int(datetime(2024, 1, 5, 10, tzinfo=UTC).timestamp())
    time = times.of_value(moment * scale)
    assert time is not None
    assert time.key == "2024-01-05T10:00:00.000000000"


def test_times_of_several_formats_are_in_one_order() -> None:
    lines = [
        "2024-01-05T10:00:00Z a",
        "[05/Jan/2024:10:00:01 +0000] b",
        "2024/01/05 10:00:02 c",
        "1704448803 d",
        "1/5/2024 10:00:04 AM e",
    ]
    keys = [time.key for line in lines if (time := times.find(line)) is not None]
    assert len(keys) == len(lines)
    assert keys == sorted(keys)


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [
        (["Dec 30", "Jan  2", "Dec 31"], "Dec 30", "Jan  2"),
        (["Oct 10", "Nov 11", "Dec 12", "Jan 13", "Feb 14"], "Oct 10", "Feb 14"),
        (["Jan 13", "Feb 14"], "Jan 13", "Feb 14"),
        (
            [f"{month} 11" for month in MONTHS],
            "Jan 11",
            "Dec 11",
        ),
        (["Dec  1"], "Dec  1", "Dec  1"),
    ],
)
def test_times_without_a_year_go_over_a_new_year(days: list[str], first: str, last: str) -> None:
    parts: list[times.Spans] = []
    for day in days:
        time = times.find(f"{day} 10:00:00 web1 sshd: x")
        assert time is not None
        parts.append({})
        times.add(parts[-1], time)
    whole: times.Spans = {}
    for part in parts:
        whole = times.joined(whole, part)
    found = times.ends(whole, times.first_month(whole))
    assert found == (f"{first} 10:00:00", f"{last} 10:00:00")
    assert times.ends({}, 1) == (None, None)
