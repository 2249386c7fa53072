"""Sends a run's trace to an OpenTelemetry collector, by OTLP over HTTP. Where to, OpenTelemetry's own variables say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlm_ray import __version__
from rlm_ray.errors import MissingExtra, TraceNotSent
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.traces.spans import span_id, spans, trace_id

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

#: Spans that are sent together.
_TOGETHER = 512
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_DEFAULT = "http://localhost:4318"


def check() -> None:
    """Check that the extra is there, before anything is paid.

    Raises
    ------
    MissingExtra
        It is not.
    """
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise MissingExtra("A trace", "otel") from None


def endpoint() -> str:
    """Return where traces are sent, without what a URL may say of credentials."""
    given = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), _DEFAULT)
    return given.partition("?")[0].rpartition("@")[2] if "@" in given else given.partition("?")[0]


def send(run: RunDirectory) -> int:
    """Send the trace of a run, as far as the run has come; return how many spans it has.

    Identifiers are those of the run, so a trace that is sent again is the same one. Reads the run's logs; calls no model.

    Raises
    ------
    MissingExtra
        The extra otel is not installed.
    TraceNotSent
        The collector could not be reached, or refused the trace.
    """
    check()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

    trace = trace_id(run.id)

    class Identifiers(IdGenerator):
        """Gives a span the identifier that its place in the run has."""

        place = ""

        def generate_span_id(self) -> int:
            return span_id(run.id, self.place)

        def generate_trace_id(self) -> int:
            return trace

    class Ended(SpanProcessor):
        """Gathers spans, and sends some at a time."""

        def __init__(self) -> None:
            self._exporter = OTLPSpanExporter()
            self._spans: list[ReadableSpan] = []
            self.count = 0

        def on_end(self, span: ReadableSpan) -> None:
            self._spans.append(span)
            if len(self._spans) >= _TOGETHER:
                self.flush()

        def flush(self) -> None:
            some: Sequence[ReadableSpan]
            some, self._spans = self._spans, []
            if some and self._exporter.export(some) is not SpanExportResult.SUCCESS:
                raise TraceNotSent(
                    f"The trace of the run {run.id} was not taken by {endpoint()}. Check the collector, or name another in "
                    f"OTEL_EXPORTER_OTLP_ENDPOINT; `rlm-ray trace {run.id}` sends it again."
                )
            self.count += len(some)

    identifiers, ended = Identifiers(), Ended()
    name = os.environ.get("OTEL_SERVICE_NAME", "rlm_ray")
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, id_generator=identifiers, shutdown_on_exit=False)
    provider.add_span_processor(ended)
    tracer = provider.get_tracer("rlm_ray", __version__)
    for item in spans(run):
        identifiers.place = item.place
        above = SpanContext(trace, span_id(run.id, item.parent or ""), False, TraceFlags(TraceFlags.SAMPLED))
        context = set_span_in_context(NonRecordingSpan(above)) if item.parent is not None else None
        span = tracer.start_span(
            item.name,
            context,
            SpanKind.CLIENT if item.is_request else SpanKind.INTERNAL,
            item.attributes,
            start_time=_nanoseconds(item.begun),
        )
        if item.error:
            span.set_status(Status(StatusCode.ERROR, item.error))
            span.set_attribute("error.type", item.error)
        span.end(_nanoseconds(item.ended))
    ended.flush()
    return ended.count


def _nanoseconds(at: float) -> int:
    return round(at * 1_000) * 1_000_000
