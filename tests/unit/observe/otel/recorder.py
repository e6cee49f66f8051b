"""An SDK in memory, and what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_parallel_plus.observe.otel import OtelMode, configure_otel, follower

Tree = list[Any]
"""Names, each followed by the list of what is inside it, if anything is."""


class _Open(SpanProcessor):
    """Which spans have begun and not ended."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.names[span.context.span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        self.names.pop(span.context.span_id)


class Recorder:
    """What has been written."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.open = _Open()
        self.tracers.add_span_processor(self.open)
        self.meters = MeterProvider([self._reader])
        self.expects_failure = False

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended, by their start."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        [one] = self.named(name)
        return one

    def traces(self) -> int:
        return len({span.context.trace_id for span in self.spans})

    def tree(self) -> Tree:
        """The names, nested; siblings in alphabetical order, because branches start in any."""
        known = {span.context.span_id for span in self.spans}
        inside: dict[int | None, list[ReadableSpan]] = {}
        for span in self.spans:
            above = span.parent.span_id if span.parent is not None and span.parent.span_id in known else None
            inside.setdefault(above, []).append(span)

        def below(span_id: int | None) -> Tree:
            found: Tree = []
            for span in sorted(inside.get(span_id, []), key=lambda span: span.name):
                found.append(span.name)
                if children := below(span.context.span_id):
                    found.append(children)
            return found

        return below(None)

    def points(self, name: str) -> list[Any]:
        """The data points of a metric; its exemplars since the last question."""
        return self.metrics().get(name, [])

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of all metrics."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def recording(mode: OtelMode = "auto") -> Iterator[Recorder]:
    """Record what is written; nothing of it is left behind."""
    recorder = Recorder()
    configure_otel(mode, tracer_provider=recorder.tracers, meter_provider=recorder.meters)
    remembered: list[Any] = []
    make = follower.OtelFollower.__init__

    def made(self: follower.OtelFollower, **given: Any) -> None:
        make(self, **given)
        remembered.extend([self._fan_outs, self._branches, self._syntheses])

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(follower.OtelFollower, "__init__", made)
            yield recorder
        assert recorder.expects_failure or not any(remembered)
        assert not recorder.open.names
        assert follower.OtelFollower._failed == recorder.expects_failure, "an error was swallowed"
    finally:
        configure_otel()
        recorder.tracers.shutdown()
        recorder.meters.shutdown()
