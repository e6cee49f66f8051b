"""Fixtures for pytest: simulated providers that stop by themselves. Enable them in your `conftest.py`.

```python
pytest_plugins = ["langchain_parallel_plus.testing.fixtures"]
```

Then ask for `provider_simulator`, and say by a marker what it is to be:

```python
import pytest


@pytest.mark.simulator(requests_per_minute=60, dialect="anthropic")
def test_the_chain_keeps_to_the_quota(provider_simulator):
    chain = my_chain(provider_simulator.chat_model())
    chain.batch(["a", "b", "c"])
    assert provider_simulator.tally.refusals == 0
```

or start as many as the test needs with `simulate_provider`:

```python
def test_the_second_provider_steps_in(simulate_provider):
    first = simulate_provider(fail=lambda request: Fault(status=503))
    second = simulate_provider()
    chain = first.chat_model().with_fallbacks([second.chat_model()])
    chain.invoke("hello")
    assert (first.tally.faults, second.tally.ok) == (1, 1)
```

Each test has its own, on a port of its own, so tests may run in parallel.
"""

from __future__ import annotations

import difflib
import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.simulator import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("SimulateProvider", "provider_simulator", "pytest_configure", "simulate_provider")


class SimulateProvider(Protocol):
    """What the fixture `simulate_provider` is: it takes a `ProviderSimulator`'s arguments and returns a started one."""

    def __call__(self, **arguments: Any) -> ProviderSimulator:
        """Start a simulated provider."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line(
        "markers", "simulator(**arguments): the arguments of the ProviderSimulator that `provider_simulator` starts"
    )


@pytest.fixture
def simulate_provider() -> Iterator[SimulateProvider]:
    """Return a function that starts a `ProviderSimulator`; all of them are stopped when the test has ended."""
    with ExitStack() as running:

        def start(**arguments: Any) -> ProviderSimulator:
            return running.enter_context(ProviderSimulator(**arguments))

        yield start


@pytest.fixture
def provider_simulator(request: pytest.FixtureRequest, simulate_provider: SimulateProvider) -> ProviderSimulator:
    """Return a running `ProviderSimulator`, without limits unless `@pytest.mark.simulator(...)` sets them.

    Markers of the class or module hold, too; the closest one wins, argument by argument.
    """
    arguments: dict[str, Any] = {}
    known = inspect.signature(ProviderSimulator).parameters
    for marker in reversed(list(request.node.iter_markers("simulator"))):
        unknown = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in known)]
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            msg = f"@pytest.mark.simulator() was given {unknown[0]}, which is no argument of ProviderSimulator"
            raise DeclarationError(
                msg,
                help=f"did you mean {close[0]}?" if close else "name what it is for, such as requests_per_minute=60",
            )
        arguments |= marker.kwargs
    return simulate_provider(**arguments)
