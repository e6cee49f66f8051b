"""What happened: events, and the consumers that make a report of them."""

from langchain_parallel_plus.observe.event import Event, subscribed
from langchain_parallel_plus.observe.report import BranchReport, FanOutReport, RunReport, collect_report

__all__ = ("BranchReport", "Event", "FanOutReport", "RunReport", "collect_report", "subscribed")
