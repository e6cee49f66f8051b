"""Whether OpenTelemetry is on, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os import environ
from typing import TYPE_CHECKING, Literal, get_args

from opentelemetry import metrics, trace

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.observe.otel.instruments import Instruments
from langchain_parallel_plus.observe.otel.semconv import SCHEMA_URL

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

__all__ = ("OtelMode", "Settings", "configure_otel", "recording", "settings", "tracing")

OtelMode = Literal["auto", "spans", "enrich", "off"]

NAME = "langchain_parallel_plus"


@cache
def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer(NAME, _version(), provider, schema_url=SCHEMA_URL)


@cache
def _instruments(provider: MeterProvider | None) -> Instruments:
    return Instruments(metrics.get_meter(NAME, _version(), provider, schema_url=SCHEMA_URL))


def _version() -> str:
    try:
        return version("langchain-parallel-plus")
    except PackageNotFoundError:  # a copy on the path
        return "unknown"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `configure_otel` was told."""

    mode: OtelMode = "auto"
    tracer: Tracer = field(default_factory=lambda: _tracer(None))
    instruments: Instruments = field(default_factory=lambda: _instruments(None))
    given: bool = False
    """Whether there are providers of our own, so that nobody has to look for the process's."""


def configure_otel(
    mode: OtelMode = "auto",
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Say which spans are written; without it, mode `"auto"` goes to the process's providers, once there are any.

    It holds for runs that begin from then on.

    Args:
        mode: `"auto"`: where OpenInference's or OpenTelemetry's own LangChain instrumentation has a span for the same
            run, that one gets our attributes; elsewhere spans of our own are opened. Where LangSmith's client sends
            its runs to OpenTelemetry, there are no spans of ours. `"spans"`: always spans of our own. `"enrich"`: never
            spans of our own. `"off"`: no spans and no metrics.
        tracer_provider: Where spans go instead of to the process's tracer provider.
        meter_provider: Where metrics go instead of to the process's meter provider.

    Raises:
        DeclarationError: There is no such mode.

    Example:
        ```python
        configure_otel("enrich")
        ```
    """
    global _settings
    if mode not in get_args(OtelMode):
        known = ", ".join(repr(one) for one in get_args(OtelMode))
        msg = f"there is no mode {mode!r} of OpenTelemetry; the modes are {known}"
        raise DeclarationError(msg, help="leave it out for 'auto'")
    given = tracer_provider is not None or meter_provider is not None
    _settings = Settings(mode, _tracer(tracer_provider), _instruments(meter_provider), given)


def settings() -> Settings:
    """Return what holds now."""
    return _settings


def recording() -> bool:
    """Return whether anybody would see spans or metrics: asked once a run, it costs half a microsecond.

    Without an SDK the providers are OpenTelemetry's stand-ins, whose spans go nowhere.
    """
    if _settings.given:
        return _settings.mode != "off"
    return _settings.mode != "off" and not (
        type(trace.get_tracer_provider()).__module__.startswith("opentelemetry.trace")
        and type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")
    )


def tracing() -> bool:
    """Return whether anybody would see spans: asked for every run of LangChain, so that it must cost nothing.

    OpenTelemetry's own question reads the environment each time, which takes a microsecond; what it remembers is
    private to it (opentelemetry-api 1.45). Where that is not there any more, this is slower.
    """
    if _settings.given or _NAMED or getattr(trace, "_TRACER_PROVIDER", trace) is not None:
        return recording()
    return False


_NAMED = environ.get("OTEL_PYTHON_TRACER_PROVIDER")
"""The provider that OpenTelemetry is to load by itself, when it is first asked for one."""

_settings = Settings()
