"""The kit's pytest plugin, used as its users use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.testing import Fault, ProviderSimulator

pytest_plugins = ["langchain_parallel_plus.testing.fixtures"]

ROOT = Path(__file__).parents[2]
stopped: list[ProviderSimulator] = []

CONFTEST = 'pytest_plugins = ["langchain_parallel_plus.testing.fixtures"]\n'

USERS_TESTS = """
import pytest

from langchain_parallel_plus.testing import Fault


@pytest.mark.simulator(requests_per_minute=2)
def test_the_quota(provider_simulator):
    model = provider_simulator.chat_model()
    model.batch(["a", "b"])
    assert provider_simulator.tally.refusals == 0


def test_the_second_provider_steps_in(simulate_provider):
    first = simulate_provider(fail=lambda request: Fault(status=503))
    second = simulate_provider()
    chain = first.chat_model().with_fallbacks([second.chat_model()])
    chain.invoke("hello")
    assert (first.tally.faults, second.tally.ok) == (1, 1)


@pytest.mark.simulator(requests_per_minute=5, dialect="anthropic")
class TestMarkers:
    @pytest.mark.simulator(requests_per_minute=7, latency=0.01)
    def test_the_closest_one_wins_argument_by_argument(self, provider_simulator):
        message = provider_simulator.chat_model(include_response_headers=True).invoke("hello")
        assert message.response_metadata["headers"]["anthropic-ratelimit-requests-limit"] == "7"

    def test_a_class_may_set_it_for_all(self, provider_simulator):
        assert repr(provider_simulator).startswith("ProviderSimulator(requests_per_minute=5, port=")
        assert provider_simulator.tally.requests == 0


@pytest.mark.simulator(requests_per_minute=0)
def test_a_wrong_declaration(provider_simulator):
    pass


@pytest.mark.simulator(60)
def test_a_number_of_nothing(provider_simulator):
    pass


@pytest.mark.simulator(request_per_minute=60)
def test_a_misspelt_argument(provider_simulator):
    pass
"""


async def test_it_is_a_running_simulator_without_limits(provider_simulator):
    """For synchronous and asynchronous tests."""
    model = provider_simulator.chat_model(include_response_headers=True)
    assert "x-ratelimit-limit-requests" not in (await model.ainvoke("hello")).response_metadata["headers"]
    assert provider_simulator.tally.ok == 1
    stopped.append(provider_simulator)


def test_it_stops_with_its_test():
    """The one of the test before has no address any more."""
    assert stopped
    with pytest.raises(ParallelPlusError, match="is not running"):
        print(stopped.pop().base_url)


def test_several_at_once(simulate_provider):
    """On ports of their own, with arguments of their own."""
    broken, sound = simulate_provider(fail=lambda request: Fault(status=503)), simulate_provider()
    assert broken.base_url != sound.base_url
    chain = broken.chat_model().with_fallbacks([sound.chat_model()])
    chain.invoke("hello")
    assert (broken.tally.faults, sound.tally.ok) == (1, 1)


def test_a_project_of_ones_own_enables_it_by_one_line(tmp_path):
    """With strict markers, and a declaration that is wrong fails its test at once."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "-W", "error"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert "4 passed, 3 errors" in done.stdout, done.stdout + done.stderr
    assert "a quota must be a whole number >= 1, got 0" in done.stdout
    assert "was given 60, which is no argument of ProviderSimulator" in done.stdout
    assert "help: name what it is for, such as requests_per_minute=60" in done.stdout
    assert "help: did you mean requests_per_minute?" in done.stdout
