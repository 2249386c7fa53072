"""A run's trace, as a collector receives it."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import rlm_ray
from rlm_ray.cli import main
from rlm_ray.errors import TraceNotSent
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer, each
from rlm_ray.traces import spans

Server = Callable[..., ModelServer]


class Collector:
    """Receives traces over HTTP as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.refuses = False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.services |= {
                        item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
                    }
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(400 if collector.refuses else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{found.server.server_port}")
    yield found
    found.close()


@pytest.fixture
def settings(run_dir: Path, model_server: Server) -> Settings:
    cells = [
        "```repl\nrows = llm_each('Is it bad?', context, schema={'bad': 'bool'})\nprint(rows.count())\n```",
        "```repl\n1 / 0\n```",
        "```repl\nFinal = rows.where(('bad', '==', True)).count()\n```",
    ]
    server = model_server(root=cells, leaf=each(lambda record: {"bad": "ERROR" in record}))
    made: Settings = server.settings(run_dir=str(run_dir), run_id="night", trace=True)
    return made


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'} secret-{n}\n" for n in range(120)))
    return folder


def test_a_run_sends_its_trace(logs: Path, settings: Settings, collector: Collector) -> None:
    answer = rlm_ray.ask(rlm_ray.open(str(logs)), "How many are bad?", settings)
    assert answer.value == 24
    found = {span.span_id: span for span in collector.spans}
    names = Counter(span.name.split(" ")[0] for span in collector.spans)
    assert collector.services == {"rlm_ray"}
    (run,) = [span for span in collector.spans if not span.parent_span_id]
    assert run.name == "invoke_agent rlm_ray"
    about = attributes(run)
    assert (about["rlm_ray.run"], about["rlm_ray.complete"]) == ("night", True)
    assert about["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
    assert about["rlm_ray.calls"] == answer.usage.calls
    assert names["turn"] == 3
    assert names["execute_tool"] == 3
    assert names["chat"] == answer.usage.calls
    assert {span.trace_id for span in collector.spans} == {spans.trace_id("night").to_bytes(16, "big")}
    assert all(span.parent_span_id in found for span in collector.spans if span.parent_span_id)
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano >= run.start_time_unix_nano for span in collector.spans)
    for span in collector.spans:
        about = attributes(span)
        if span.name.startswith("chat"):
            assert about["gen_ai.operation.name"] == "chat"
            assert about["gen_ai.request.model"] == span.name.removeprefix("chat ")
            assert about["gen_ai.conversation.id"] == "night"
    (batch,) = [span for span in collector.spans if span.name == "batch"]
    assert found[batch.parent_span_id].name == "execute_tool python"
    leaves = [span for span in collector.spans if span.parent_span_id == batch.span_id]
    assert sum(attributes(span)["gen_ai.usage.input_tokens"] for span in leaves) == attributes(batch)["gen_ai.usage.input_tokens"]
    (failed,) = [span for span in collector.spans if span.status.code == 2]
    assert (failed.name, failed.status.message) == ("execute_tool python", "ZeroDivisionError")
    assert b"secret-" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_a_trace_that_is_sent_again_is_the_same(
    logs: Path, settings: Settings, collector: Collector, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rlm_ray.ask(rlm_ray.open(str(logs)), "How many are bad?", settings)
    first = {(span.span_id, span.name) for span in collector.spans}
    collector.spans.clear()
    done = CliRunner().invoke(main, ["trace", "night", "--run-dir", str(run_dir)])
    assert done.exit_code == 0
    assert f"{len(first)} spans of night sent" in done.output
    assert {(span.span_id, span.name) for span in collector.spans} == first


def test_a_collector_that_refuses_ends_no_run(
    logs: Path, settings: Settings, collector: Collector, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector.refuses = True
    assert rlm_ray.ask(rlm_ray.open(str(logs)), "How many are bad?", settings).value == 24
    assert "was not taken by" in caplog.text
    with pytest.raises(TraceNotSent, match="rlm-ray trace night"):
        rlm_ray.load("night", str(run_dir)).send_trace()
    done = CliRunner().invoke(main, ["trace", "night", "--run-dir", str(run_dir)])
    assert done.exit_code != 0
    assert "Traceback" not in done.output


def test_a_missing_extra_is_said_before_anything_is_paid(
    logs: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(rlm_ray.errors.MissingExtra, match=r"rlm-ray\[otel\]"):
        rlm_ray.ask(rlm_ray.open(str(logs)), "How many are bad?", settings)
    assert not list(run_dir.glob("*/calls"))
