"""The server over real HTTP: who gets in, what headers say, what each page has, what hostile runs come to."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from rlm_ray.cli import main
from rlm_ray.errors import InputError
from rlm_ray.ui.server import Server
from tests.ui.conftest import HOSTILE, TOKEN

Serve = Callable[[Path], Server]


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Ask as a browser does that has the cookie, unless other headers are given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    known = {"Cookie": f"rlm_ray_ui_{server.port}={TOKEN}", "Host": f"127.0.0.1:{server.port}"}
    connection.putrequest(method, path, skip_host=True)
    for name, value in (known | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, text


def test_nobody_gets_in_without_the_token(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    for cookie in ("", "x", f"rlm_ray_ui_{server.port}=wrong", f"rlm_ray_ui_{server.port}=", f"rlm_ray_ui_1={TOKEN}", "=;=\x80"):
        for path in ("/", "/run/night-1", "/run/night-1/report", "/static/ui.css", "/?token=wrong", "/none"):
            status, headers, text = get(server, path, Cookie=cookie)
            assert (status, "set-cookie" in headers) == (401, False), (cookie, path)
            assert "rlm-ray ui" in text
            assert "night" not in text


def test_the_token_comes_once_and_a_cookie_takes_its_place(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    assert server.address == f"http://127.0.0.1:{server.port}/?token={TOKEN}"
    status, headers, _ = get(server, f"/run/night-1?token={TOKEN}&q=a%26b", Cookie="")
    assert (status, headers["location"]) == (303, "/run/night-1?q=a%26b")
    assert headers["set-cookie"] == f"rlm_ray_ui_{server.port}={TOKEN}; Path=/; HttpOnly; SameSite=Lax"
    for path in ("//elsewhere.example/", "/\\elsewhere.example/", "/%2F/elsewhere.example"):
        location = get(server, f"{path}?token={TOKEN}", Cookie="")[1]["location"]
        assert re.match(r"/[^/\\]", location), location


def test_it_only_reads_and_answers_to_its_own_name_alone(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert get(server, "/", method)[0] == 405
    for host in ("elsewhere.example", f"elsewhere.example:{server.port}", "127.0.0.1", ""):
        assert get(server, "/", Host=host)[0] == 421
    assert get(server, "/", Host=f"localhost:{server.port}")[0] == 200
    with pytest.raises(OSError), socket.create_connection((_own_address(), server.port), timeout=5):
        pass


def _own_address() -> str:
    """An address of this machine that is not that of loopback's first name."""
    return "127.0.0.2"


def test_every_page_may_load_from_this_server_alone(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    pages = ["/", "/run/hostile", "/run/stopped", "/jobs", "/compare?run=night-0&run=night-1", "/none", "/static/ui.js", "/run/zz"]
    for path in pages:
        _, headers, text = get(server, path)
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert (headers["referrer-policy"], headers["cross-origin-opener-policy"]) == ("no-referrer", "same-origin")
        assert "server" not in headers
        assert not re.search(r"<script(?! src=\"/static/ui.js\")| style=| on\w+=\"|(src|href|action)=\"(?![/#])", text)


def test_a_report_is_a_document_of_its_own(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    status, headers, text = get(server, "/run/hostile/report")
    policy = headers["content-security-policy"]
    assert status == 200
    assert policy.endswith("frame-ancestors 'none'; sandbox allow-scripts allow-downloads")
    assert policy.split("; frame")[0] in text.replace("&#39;", "'")  # the page says the same of itself
    assert "script-src 'sha256-" in policy
    assert get(server, "/run/night-1/report?save=1")[1]["content-disposition"] == "attachment; filename*=UTF-8''night-1.html"
    assert get(server, "/run/stopped/report")[0] == 200


PAGES = {
    "/": ["11 runs, newest first", "night-2", "11 findings", "(cannot be read)", "JSONDecodeError"],
    "/?q=lines+TROUBLE&state=complete&job=log-audit": ["3 runs of this kind"],
    "/?page=x&state=x": ["11 runs"],
    "/?state=unreadable": ["3 runs of this kind"],
    "/run/night-1": ["1 finding fulfils severity &gt;= high", "line 15 ERROR", "Open the report", "night-2"],
    "/run/20260101-a": ["<dd>4</dd>", "[&#34;a&#34;, &#34;b&#34;]"],
    "/run/stopped": ["rlm-ray resume stopped", "before its first turn"],
    "/run/torn": ["This run cannot be read", "JSONDecodeError"],
    "/run/stopped/live": ['data-state="stopped"'],
    "/compare?run=night-2&run=night-0": ["1 finding is in both", "Only in the later run (10)", "night-0"],
    "/compare?run=20260102-b&run=20260101-a": ["<del>How many errors?</del>", "<ins>How many errors are there?</ins>"],
    "/jobs": ["log-audit", "3 runs", "findings: 1, 4, 11"],
    "/job?name=log-audit": ["/compare?run=night-1&amp;run=night-2", "all findings"],
}


def test_what_each_page_has(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    for path, words in PAGES.items():
        status, _, text = get(server, path)
        assert status == 200, (path, text)
        assert [word for word in words if word not in text] == [], (path, text)
        assert "<script>document" not in text
        assert "<img" not in text


def test_what_is_not_there_says_so(runs: Path, serve: Serve) -> None:
    server = serve(runs)
    wrong = {
        "/run/zz": (404, "There is no such run"),
        "/run/%2e%2e": (404, ""),
        "/run/..%2f..%2fetc%2fpasswd": (404, ""),
        f"/run/{quote(HOSTILE.replace('/', ''), safe='')}": (404, "&lt;script&gt;"),
        "/none": (404, "Nothing here"),
        "/static/list.html": (404, "Nothing here"),
        "/job?name=none": (404, "There is no such job"),
        "/compare": (400, "Choose two runs"),
        "/compare?run=a&run=b&run=c": (400, "Choose two runs"),
        "/compare?run=night-1&run=zz": (404, "There is no such run"),
        "/compare?run=night-1&run=torn": (500, "This run cannot be read"),
        "/run/torn/report": (500, "This run cannot be read"),
    }
    for path, (status, words) in wrong.items():
        found = get(server, path)
        assert (found[0], words in found[2]) == (status, True), (path, found[2])
        assert "Traceback" not in found[2]
        assert "root:" not in found[2]


def test_a_server_that_cannot_be(runs: Path, serve: Serve) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        Server(str(runs), TOKEN, serve(runs).port)
    for token in ("short", "x" * 40 + ";", "é" * 20):
        with pytest.raises(InputError, match="too weak"):
            Server(str(runs), token)


def test_the_command_says_what_is_wrong(runs: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(main, ["ui", "--run-dir", str(runs), "--port", str(serve(runs).port)])
    assert done.exit_code == 2
    assert "Give another --port" in done.stderr
    monkeypatch.setenv("RLM_RAY_UI_TOKEN", "weak")
    assert "too weak" in CliRunner().invoke(main, ["ui", "--run-dir", str(runs), "--port", "0"]).stderr
