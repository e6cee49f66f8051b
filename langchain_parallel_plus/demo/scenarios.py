"""Three fan-outs as people build them, timed against a simulated provider: one by one, upstream's way, and ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableParallel

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus, TimeoutPolicy
from langchain_parallel_plus.testing import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langchain_parallel_plus.testing import ChatRequest

__all__ = ("SCENARIOS", "Measured", "Scenario", "measured_scenarios", "table_head", "table_row")

_Branch = Runnable[dict[str, str], str]

_SPEED_UP = 10
"""The simulator answers this many times faster than the providers in the scenarios."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fan-out and how long its branches take."""

    name: str
    seconds: Mapping[str, float]
    """What a provider takes for each branch."""

    @property
    def floor(self) -> float:
        """The least a fan-out can take at the simulator's speed: its longest branch."""
        return max(self.seconds.values()) / _SPEED_UP

    def latency(self, request: ChatRequest) -> float:
        """Return what the simulator takes for a branch, whose name the prompt begins with."""
        return self.seconds[request.prompt.partition(":")[0]] / _SPEED_UP


SCENARIOS = (
    Scenario("research agent", {"web": 2.0, "news": 2.5, "papers": 3.0}),
    Scenario("document processing", {"summary": 3.0, "entities": 1.5, "sentiment": 2.0, "risks": 4.0}),
    Scenario("translation", {"German": 2.0, "French": 2.0, "Japanese": 2.0}),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds on the clock for one scenario."""

    scenario: Scenario
    one_by_one: float
    parallel: float
    ours: float


def measured_scenarios(clock: Callable[[], float] = time.perf_counter) -> Iterator[Measured]:
    """Run each scenario three ways against a simulator and yield its seconds as soon as they are known."""
    for scenario in SCENARIOS:
        with ProviderSimulator(latency=scenario.latency) as simulator:
            yield _measured(scenario, simulator, clock)


def table_head() -> str:
    """Return the table's title and the names of its columns."""
    title = f"Three fan-outs against a simulated provider, {_SPEED_UP} times as fast as a real one (measured seconds):"
    columns = f"{'':22}{'one by one':>12}{'RunnableParallel':>18}{'RunnableParallelPlus':>22}{'floor':>8}"
    return f"{title}\n{columns}"


def table_row(measured: Measured) -> str:
    """Return a row of the table."""
    return (
        f"{measured.scenario.name:22}{measured.one_by_one:12.2f}{measured.parallel:18.2f}{measured.ours:22.2f}"
        f"{measured.scenario.floor:8.2f}"
    )


def _measured(scenario: Scenario, simulator: ProviderSimulator, clock: Callable[[], float]) -> Measured:
    branches = _branches(scenario, simulator)
    parallel = RunnableParallel[dict[str, str]](branches)
    ours = _protected(branches)
    document = {"document": "a text"}
    parallel.invoke(document)  # opens the connections that all three ways then use

    def seconds(run: Callable[[], object]) -> float:
        started = clock()
        run()
        return clock() - started

    return Measured(
        scenario,
        one_by_one=seconds(lambda: [branch.invoke(document) for branch in branches.values()]),
        parallel=seconds(lambda: parallel.invoke(document)),
        ours=seconds(lambda: ours.invoke(document)),
    )


def _branches(scenario: Scenario, simulator: ProviderSimulator) -> dict[str, _Branch]:
    llm = simulator.chat_model()
    return {
        key: ChatPromptTemplate.from_template(key + ": {document}") | llm | StrOutputParser()
        for key in scenario.seconds
    }


def _protected(branches: Mapping[str, _Branch]) -> Runnable[dict[str, str], dict[str, Any]]:
    return (
        RunnableParallelPlus[dict[str, str]](branches)
        .with_policy(BranchPolicy(retry=RetryPolicy(max_attempts=4), timeout=TimeoutPolicy(run_timeout=30)))
        .with_limits(RateLimiter(requests_per_minute=500, tokens_per_minute=200_000, name="scenarios"))
    )
