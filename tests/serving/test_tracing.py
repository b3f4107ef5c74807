from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from raybert.serving.tracing import otlp, trace_stages


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A collector that keeps what it is sent; OpenTelemetry's own variable names it."""
    bodies: list[bytes] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        yield bodies
        server.shutdown()


def test_stages_reach_a_collector_as_spans_one_after_the_other(
    collector: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider()
    for processor in otlp():
        provider.add_span_processor(processor)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with provider.get_tracer("test").start_as_current_span("request"):
        trace_stages({"tokenize": 1.0, "queue": 2.0, "compute": 30.0}, model="m", tokens=7)
    provider.shutdown()

    sent = ExportTraceServiceRequest()
    for body in collector:
        sent.MergeFromString(body)
    spans = {
        span.name: span
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert set(spans) == {"tokenize", "queue", "compute", "request"}
    parent = spans["request"].span_id
    assert all(spans[name].parent_span_id == parent for name in spans if name != "request")
    compute = spans["compute"]
    assert compute.end_time_unix_nano - compute.start_time_unix_nano == 30_000_000
    assert spans["queue"].end_time_unix_nano == compute.start_time_unix_nano
    assert {each.key for each in compute.attributes} == {"model", "tokens"}


def test_without_a_trace_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a span was made")

    monkeypatch.setattr(trace, "get_tracer", refuse)
    trace_stages({"compute": 1.0}, model="m")


def test_ray_serve_takes_it_as_an_exporter() -> None:
    """Ray calls it without arguments, and refuses to start a replica where it takes some."""
    assert not inspect.signature(otlp).parameters
