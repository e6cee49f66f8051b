"""What happened: events, and the consumers that make a report of them."""

from langchain_parallel_plus.observe.correlation import CorrelationFilter
from langchain_parallel_plus.observe.event import Event, subscribe, subscribed
from langchain_parallel_plus.observe.otel import configure_otel
from langchain_parallel_plus.observe.report import BranchReport, FanOutReport, RunReport, collect_report
from langchain_parallel_plus.observe.synthesis import telling_synthesis

__all__ = (
    "BranchReport",
    "CorrelationFilter",
    "Event",
    "FanOutReport",
    "RunReport",
    "collect_report",
    "configure_otel",
    "subscribe",
    "subscribed",
    "telling_synthesis",
)
