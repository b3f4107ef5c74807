"""Traces by OpenTelemetry: Ray Serve carries them from stage to stage, the stages add their times.

Turned on in the Serve YAML (see docs/operations.md):

    tracing_config:
      enabled: true
      exporter_import_path: raybert.serving.tracing:otlp
      sampling_ratio: 0.1
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from raybert.errors import SettingsError


def otlp() -> list[SpanProcessor]:
    """Send spans by OTLP over HTTP; Ray Serve calls this once in each of its processes.

    The address and headers are OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).

    Raises:
        SettingsError: the extra `traces` is not installed.
    """
    if find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise SettingsError("traces need the extra `traces`: pip install 'raybert[traces]'")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return [BatchSpanProcessor(OTLPSpanExporter())]


def trace_stages(stages_ms: Mapping[str, float], **attributes: str | int) -> None:
    """Add stages that ran one after the other, the last of them until now, to the current span.

    Args:
        stages_ms: milliseconds of each stage, in order.
        attributes: numbers and names for every one of the spans; never a request's text.
    """
    if not trace.get_current_span().is_recording():
        return
    tracer = trace.get_tracer("raybert")
    start = time.time_ns() - round(sum(stages_ms.values()) * 1e6)
    for name, milliseconds in stages_ms.items():
        span = tracer.start_span(name, start_time=start, attributes=attributes)
        start += round(milliseconds * 1e6)
        span.end(end_time=start)
