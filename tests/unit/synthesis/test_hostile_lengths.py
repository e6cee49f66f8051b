"""Text that is long in the wrong way takes no time, and what goes wrong in a list or a model is not lost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnablePassthrough
from pydantic import BaseModel, ConfigDict

from langchain_parallel_plus import CoverageError, RunnableParallelPlus, RunnableSynthesis
from langchain_parallel_plus.synthesis import MapReduce, rendered
from langchain_parallel_plus.synthesis.escaping import escaped
from langchain_parallel_plus.synthesis.splitting import split_text
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode

LONG = ["[" + " " * 50_000, "[/" + "\n" * 50_000, "." * 50_000, "Contents " + "." * 50_000 + "\u00a0x", "!?" * 50_000]


@pytest.mark.parametrize("text", LONG, ids=lambda text: repr(text[:3]))
def test_a_page_of_white_space_or_dots_takes_no_time(text: str) -> None:
    began = time.process_time()
    escaped(text)
    assert "".join(split_text(text, 2_000, len)) == text
    assert time.process_time() - began < 2  # seconds; it was a quarter of a minute, and minutes


async def test_an_exception_in_a_list_is_missing_and_no_result(mode: Mode) -> None:
    model = ScriptedChatModel(["text"], cycle=True)
    outputs = ["fine", ValueError("secret words")]
    result = await mode.run(RunnableSynthesis(model, with_provenance=True), outputs, None)
    assert dict(result.provenance.missing) == {"item_2": "failed"}
    assert "secret" not in "".join(str(message.content) for message in model.calls[-1].messages)
    with pytest.raises(CoverageError):
        await mode.run(RunnableSynthesis(model, min_coverage=0.9), outputs, None)
    assert rendered(["fine", ValueError("secret words")]) == "- fine\n- [failed]"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_what_a_model_has_besides_its_fields_is_shown() -> None:
    assert rendered(Open(found=3)) == '{"found": 3}'  # type: ignore[call-arg]


def _late_first(item: int) -> int:
    time.sleep(0.05 if item == 1 else 0)
    return item


@pytest.mark.parametrize(
    "reducer",
    [
        lambda results: list(results.values()),
        RunnableLambda(lambda results: list(results.values())).with_retry(),
        RunnableLambda(lambda results: list(results.values())).with_config(RunnableConfig(tags=["t"])),
        RunnablePassthrough() | (lambda results: list(results.values())),
    ],
    ids=["function", "with_retry", "with_config", "passthrough"],
)
async def test_the_items_are_in_order_whatever_reads_them(reducer: Any, mode: Mode) -> None:
    assert await mode.run(MapReduce(_late_first, reducer), [1, 2, 3], None) == [1, 2, 3]


async def test_the_blocks_are_in_declared_order_behind_a_function_too(mode: Mode) -> None:
    model = ScriptedChatModel(["text"], cycle=True)
    fan_out = RunnableParallelPlus(late=lambda _: _late_first(1), quick=lambda _: 2)
    await mode.run(fan_out | RunnableLambda(lambda outputs: outputs) | RunnableSynthesis(model), "in", None)
    prompt = "".join(str(message.content) for message in model.calls[-1].messages)
    assert prompt.index('name="late"') < prompt.index('name="quick"')
