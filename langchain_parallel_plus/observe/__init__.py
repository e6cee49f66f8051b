"""What happened: events, and the consumers that make a report of them."""

from langchain_parallel_plus.observe.aggregates import FanOutAggregate, Percentiles
from langchain_parallel_plus.observe.compare import Comparison, Way, acompare, compare
from langchain_parallel_plus.observe.correlation import CorrelationFilter
from langchain_parallel_plus.observe.event import Event, subscribe, subscribed
from langchain_parallel_plus.observe.limiter_state import LimiterState, RateState
from langchain_parallel_plus.observe.measures import BranchMeasures, FanOutMeasures
from langchain_parallel_plus.observe.otel import configure_otel
from langchain_parallel_plus.observe.prices import Price, genai_prices
from langchain_parallel_plus.observe.progress import progress
from langchain_parallel_plus.observe.records import (
    Attempt,
    BranchReport,
    FanOutReport,
    ModelCall,
    SynthesisReport,
    Wait,
)
from langchain_parallel_plus.observe.report import RunReport, collect_report
from langchain_parallel_plus.observe.synthesis import telling_synthesis

__all__ = (
    "Attempt",
    "BranchMeasures",
    "BranchReport",
    "Comparison",
    "CorrelationFilter",
    "Event",
    "FanOutAggregate",
    "FanOutMeasures",
    "FanOutReport",
    "LimiterState",
    "ModelCall",
    "Percentiles",
    "Price",
    "RateState",
    "RunReport",
    "SynthesisReport",
    "Wait",
    "Way",
    "acompare",
    "collect_report",
    "compare",
    "configure_otel",
    "genai_prices",
    "progress",
    "subscribe",
    "subscribed",
    "telling_synthesis",
)
