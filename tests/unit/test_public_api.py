from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import langchain_parallel_plus

PUBLIC = [
    "BranchFailure",
    "BranchPolicy",
    "BranchTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CoverageError",
    "DeadlineExceededError",
    "DeclarationError",
    "ErrorKind",
    "Fallback",
    "FanOutError",
    "FanOutResults",
    "HedgePolicy",
    "JoinPolicy",
    "LimiterError",
    "LimiterTimeoutError",
    "ParallelPlusError",
    "QuotaExhaustedError",
    "RateLimiter",
    "RequestTooLargeError",
    "RetryBudget",
    "RetryPolicy",
    "RunnableParallelPlus",
    "RunnableSynthesis",
    "RunnableWithPolicy",
    "SynthesisError",
    "TimeoutPolicy",
    "UnknownBranchError",
    "collect_report",
    "fan_out_results",
]


def test_the_packages_names_are_these_and_at_most_thirty() -> None:
    assert list(langchain_parallel_plus.__all__) == PUBLIC
    assert len(PUBLIC) <= 30


@pytest.mark.parametrize("module", ["", ".limits", ".synthesis", ".observe", ".testing", ".providers"])
def test_every_public_name_is_there_and_documented(module: str) -> None:
    loaded = importlib.import_module(f"langchain_parallel_plus{module}")
    assert len(set(loaded.__all__)) == len(loaded.__all__)
    for name in loaded.__all__:
        public = getattr(loaded, name)
        assert public.__doc__ or not callable(public), name


def test_importing_the_package_imports_no_provider() -> None:
    script = (
        "import sys, langchain_parallel_plus, langchain_parallel_plus.testing;"
        "print([m for m in ('openai', 'langchain_openai', 'langgraph') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
