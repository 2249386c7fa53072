"""Forms of log lines: what can decide about trouble keeps lines apart, what merely varies does not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rlm_ray.audit.logs import forms


def _sign(line: str) -> tuple[str, str]:
    masked = forms.masked(line)
    return masked, forms.deciding(masked)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (
            '1.2.3.4 - - [05/Jan/2024:10:00:00 +0000] "GET /pay HTTP/1.1" 500 12',
            '1.2.3.4 - - [05/Jan/2024:10:00:00 +0000] "GET /pay HTTP/1.1" 200 12',
        ),
        ("GET /pay 503 12ms", "GET /pay 200 12ms"),
        ("task cleanup rc=137 in 4 ms", "task cleanup rc=0 in 5 ms"),
        ("process exited with code 137", "process exited with code 0"),
        ("worker exit status 1 after 3 s", "worker exit status 0 after 3 s"),
        ("main process exited, code=exited, status=1/FAILURE", "main process exited, code=exited, status=0/SUCCESS"),
        ("backup of db to storage failed run 5", "backup of db to storage completed run 6"),
        ("node n1 is unhealthy", "node n1 is healthy"),
        ("link eth0 down", "link eth0 up"),
        ("user 5 access denied", "user 5 access granted"),
        ("E0105 10:00:00.123456       1 main.go:12] sync", "I0105 10:00:00.123456       1 main.go:12] sync"),
        ("03-17 16:13:38.811  1702  2395 E Manager: x", "03-17 16:13:38.811  1702  2395 D Manager: x"),
        ("<11>Oct 11 22:14:15 m app: x", "<14>Oct 11 22:14:15 m app: x"),
        ("2024-01-05 10:00:00 ERROR sync of shard 5", "2024-01-05 10:00:00 INFO sync of shard 5"),
        (
            "haproxy[1]: 10.0.1.2:33317 [x] in st/s1 10/0/30/69/109 503 2750 - - SC-- 1/1/1/1/0",
            "haproxy[1]: 10.0.1.2:33317 [x] in st/s1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0",
        ),
        (
            "2024-01-05 10:00:00 10.0.0.1 GET /x - 443 - 10.0.0.9 M - 500 0 0 15",
            "2024-01-05 10:00:00 10.0.0.1 GET /x - 443 - 10.0.0.9 M - 200 0 0 15",
        ),
        ("job 12: 3 errors", "job 12: 0 errors"),
        ("sync failed=3 ok=5", "sync failed=0 ok=5"),
        ("write was not acknowledged", "write was soon acknowledged"),
        ("call of shard five timed out there", "call of shard five came in there"),
        ("change rolled back by admin", "change rolled out by admin"),
    ],
)
def test_what_decides_keeps_lines_apart(bad: str, good: str) -> None:
    assert _sign(bad)[1] != _sign(good)[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("request 5 took 17 ms from 10.0.0.1:443", "request 6 took 99 ms from 10.0.0.2:80"),
        ("read /var/a/b of user u17", "read /tmp/c of user u18"),
        ("payment 0 refused by bank", "payment 7 refused by bank"),
    ],
)
def test_what_varies_is_one_form(one: str, other: str) -> None:
    assert _sign(one) == _sign(other)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"message": "a", "_address": "x"}, "a"),
        ({"message": {"error": "disk full"}}, '{"error": "disk full"}'),
        ({"message": [104, 105]}, "hi"),
        ({"message": None, "_more": '{"message": {"a": 1}}'}, '{"a": 1}'),
        ({"message": None, "_more": {"message": 5}}, "5"),
        ({"message": None, "err": "lost", "_address": "x"}, '{"err": "lost"}'),
        ({"message": " ", "_address": "x"}, None),
        ({"message": None, "_address": "x"}, None),
    ],
)
def test_no_message_is_left_out(record: dict[str, Any], text: str | None) -> None:
    assert forms.text_of(record, "message") == text


def test_a_sandbox_can_import_them() -> None:
    code = "import rlm_ray.audit.logs.forms, rlm_ray.audit.logs.hosts, rlm_ray.audit.logs.times, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pyarrow", "polars", "ray", "pydantic", "numpy", "fsspec"} & set(loaded)
