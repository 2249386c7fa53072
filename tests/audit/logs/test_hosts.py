"""Hosts of log lines: a host where the format has a place for one, never a stream, thread, level or number."""

from __future__ import annotations

import pytest

from rlm_ray.audit.logs import hosts


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user", "LabSZ"),
        ("Jan  5 10:00:00 ip-10-0-0-1 kubelet[123]: E0105 pod failed", "ip-10-0-0-1"),
        ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", "mymachine"),
        ("<165>1 2003-10-11T22:14:15.003Z db.example.com evntslog - ID47 - x", "db.example.com"),
        ("<165>1 2003-10-11T22:14:15.003Z - evntslog - ID47 - x", None),
        ("2024-01-05T10:00:00+0000 gateway systemd[1]: Started", "gateway"),
        ("- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond: x", "dn228"),
        ("134681 node-246 unix.hw state_change.unavailable 1077804742 1 x", "node-246"),
        ("2024-01-05 10:00:00 10.0.0.1 GET /x.aspx - 443 - 10.0.0.9 Mozilla - 500 0 0 15", "10.0.0.1"),
        ("2024-01-05 10:00:00 web1 app: disk write failed", "web1"),
        ("2024-01-05T10:00:00.1Z stderr F payment refused", None),
        ("2024-01-05T10:00:00.1Z stdout P part of a line", None),
        ("2024-01-05 10:00:00,123 main ERROR broker lost", None),
        ("2024-01-05 10:00:00 main ERROR broker lost", None),
        ("2024-01-05 10:00:00 pool-1-thread-2 com.foo.Bar: lost", None),
        ("2024-01-05 10:00:00 http-nio-8080-exec-1 com.foo.Bar: lost", None),
        ("2024-01-05 10:00:00 worker-3 finished", None),
        ("2024-01-05 10:00:00 info ready", None),
        ("2024-01-05 10:00:00 4711 lost", None),
        ("2024-01-05T10:00:00Z main INFO: x", None),
        ("Jan 05 10:00:00 sshd[12]: no host", None),
        ("Jan 05 10:00:00 stderr lost message", None),
        ("Jan 05 10:00:00 4711 lost message", None),
        ("Jan 05 10:00:00 Thread-3 lost message", None),
        ('10.0.0.1 - - [05/Jan/2024:10:00:00 +0000] "GET /pay HTTP/1.1" 500 12', None),
        ("I0105 10:00:00.123456       1 main.go:12] Ready", None),
    ],
)
def test_the_host_is_a_host(line: str, host: str | None) -> None:
    assert hosts.find(line) == host


def test_a_column_of_hosts_can_hold_an_object() -> None:
    assert hosts.of_value({"name": "web1", "ip": ["10.0.0.1"]}) == "web1"
    assert hosts.of_value({"ip": []}) is None
    assert hosts.of_value("web1") == "web1"
