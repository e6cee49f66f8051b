"""Spans, metrics and exemplars over OTLP, as the real exporter sends them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.observe import configure_otel
from langchain_parallel_plus.testing import Fault, ProviderSimulator
from tests.integration.otlp_receiver import Received, plain, receiving
from tests.modes import Mode

SECRET = "a-secret-of-the-user"


@contextmanager
def exporting(received: Received) -> Iterator[None]:
    """Send everything to the collector by the end of the block."""
    tracers, compression = TracerProvider(), Compression.Gzip
    spans = OTLPSpanExporter(f"{received.endpoint}/v1/traces", compression=compression)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    metrics = OTLPMetricExporter(f"{received.endpoint}/v1/metrics", compression=compression)
    meters = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=60_000)])
    configure_otel(tracer_provider=tracers, meter_provider=meters)
    try:
        yield
    finally:
        configure_otel()
        tracers.shutdown()
        meters.shutdown()


async def test_a_real_run_arrives_at_a_collector(mode: Mode) -> None:
    refusals = iter([Fault(status=429, code="rate_limit_exceeded", retry_after=0.05)])
    with (
        receiving() as received,
        ProviderSimulator(requests_per_minute=6000, fail=lambda request: next(refusals, None)) as provider,
    ):
        ask = ChatPromptTemplate.from_template("{text}") | provider.chat_model() | StrOutputParser()
        limiter = RateLimiter(requests_per_minute=1200, name="exported")
        fan_out = (
            RunnableParallelPlus(summary=ask, terms=ask, length=RunnableLambda(lambda value: len(value["text"])))
            .with_policy(BranchPolicy(retry=RetryPolicy(max_attempts=3, initial_interval=0.001)))
            .with_limits(limiter)
        )
        fan_out.name = "research"
        with exporting(received):
            limiter.pause(1.0)
            await mode.run(fan_out, {"text": SECRET}, None)
    [scope] = {(scope.scope.name, scope.schema_url) for scope in received.scopes}
    assert scope == ("langchain_parallel_plus", "https://opentelemetry.io/schemas/1.41.0")
    spans = received.spans
    assert spans.keys() >= {"invoke_workflow research", "branch summary", "attempt", "rate_limit.wait"}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert spans["branch summary"].parent_span_id == spans["invoke_workflow research"].span_id
    told = [plain(span.attributes) for name, span in spans.items() if name.startswith("branch ")]
    assert sorted(facts["lcpp.branch.outcome"] for facts in told) == ["ok", "ok", "recovered"]
    exemplars = {
        name: {exemplar.span_id for point in metric.histogram.data_points for exemplar in point.exemplars}
        for name, metric in received.instruments.items()
    }
    assert exemplars["lcpp.fan_out.duration"] == {spans["invoke_workflow research"].span_id}
    branches = {span.span_id for name, span in spans.items() if name.startswith("branch ")}
    assert exemplars["lcpp.branch.duration"] == branches
    assert received.instruments["lcpp.limiter.available"].gauge.data_points
    assert received.instruments["lcpp.attempt.duration"].unit == "s"
    assert not any(SECRET.encode() in body for body in received.bodies)


def test_a_process_that_sets_an_sdk_up_needs_to_do_nothing_else() -> None:
    program = """
        from opentelemetry import metrics, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from langchain_parallel_plus import RunnableParallelPlus

        fan_out = RunnableParallelPlus(a=lambda text: text, name="research")
        fan_out.invoke("before anybody listens")

        tracers = TracerProvider()
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))

        fan_out.invoke("and now")
    """
    with receiving() as received:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint}
        subprocess.run([sys.executable, "-c", dedent(program)], env=environment, check=True, timeout=60)
    assert sorted(received.spans) == ["branch a", "invoke_workflow research"]
    assert len([span for scope in received.scopes for span in scope.spans]) == 2
    assert "lcpp.fan_out.duration" in received.instruments
