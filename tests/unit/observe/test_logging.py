"""The package's log records: silent by default, one WARNING per handled failure, each says which run it belongs to."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import langchain_parallel_plus
from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.observe import CorrelationFilter, subscribed
from tests.modes import Mode


def broken(_: Any) -> str:
    raise ConnectionError("down")


QUICK = RetryPolicy(max_attempts=2, initial_interval=0.001)


async def test_each_handled_failure_is_one_warning_that_names_its_run(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    policy = BranchPolicy(retry=QUICK, fallbacks=[broken], on_failure="drop")
    fan_out = RunnableParallelPlus({"x": broken, "y": len}, name="research").with_policy(x=policy)
    runs = set()
    with caplog.at_level(logging.INFO, "langchain_parallel_plus"), subscribed(lambda event: runs.add(event.run_id)):
        await mode.run(fan_out, "in", None)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    # 2 calls, 2 of the fallback; each but the last of a target is retried, the first target falls back, the branch is
    # dropped: one record for each thing that was done about a failure.
    assert [("again in" in one.message, "fallback" in one.message, "goes on without" in one.message)
            for one in warnings] == [
        (True, False, False), (False, True, False), (True, False, False), (False, False, True),
    ]  # fmt: skip
    [run_id] = runs
    for record in warnings:
        assert (record.lcpp_run_id, record.lcpp_fan_out, record.lcpp_branch) == (str(run_id), "research", "x")
    [line] = [record for record in caplog.records if record.levelno == logging.INFO]
    assert line.message.startswith("fan-out 'research' of 2 branches: ok after")
    assert (line.lcpp_run_id, line.lcpp_branch) == (str(run_id), "")


async def test_a_filter_on_a_handler_says_it_of_the_user_s_records_too(mode: Mode) -> None:
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Handler()
    handler.addFilter(CorrelationFilter())
    logger = logging.getLogger("users.own")
    logger.addHandler(handler)

    def step(value: str) -> str:
        logger.warning("in the branch")
        return value

    inner = RunnableParallelPlus({"summary": step}, name="inner")
    try:
        await mode.run(RunnableParallelPlus(research=inner), "in", None)
        logger.warning("outside")
    finally:
        logger.removeHandler(handler)
    assert [(one.lcpp_fan_out, one.lcpp_branch) for one in records] == [("inner", "research/summary"), ("", "")]
    assert records[0].lcpp_run_id


def test_every_logger_of_the_package_has_the_filter() -> None:
    package = Path(langchain_parallel_plus.__file__).parent
    names = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "getLogger":
                module = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
                argument = node.args[0]
                names.add(argument.value if isinstance(argument, ast.Constant) else module.removesuffix(".__init__"))
    assert "langchain_parallel_plus" in names
    for name in names:
        if isinstance(name, str):
            assert any(isinstance(one, CorrelationFilter) for one in logging.getLogger(name).filters), name


def test_nothing_is_printed_by_default() -> None:
    script = (
        "from langchain_parallel_plus import *\n"
        "def bad(_): raise ConnectionError('down')\n"
        "RunnableParallelPlus(a=bad, b=len).with_policy(a=BranchPolicy(on_failure='drop')).invoke('x')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
