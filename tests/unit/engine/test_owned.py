"""Who closes an async generator, and when it has ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from langchain_parallel_plus._engine.owned import HandedOut, Owned, owning


class Endings:
    """Counts the ends of generators that take a while to end."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def chunks(self) -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            self.begun += 1
            for _ in range(5):
                await asyncio.sleep(0)
            self.ended += 1

    async def outer(self) -> AsyncGenerator[int, None]:
        async with owning(self.chunks()) as inner:
            async for chunk in inner:
                yield chunk


async def test_who_closes_it_again_waits_for_its_end() -> None:
    endings = Endings()
    stream = HandedOut(endings.outer())
    assert await anext(stream) == 1
    first = asyncio.create_task(stream.aclose())
    await asyncio.sleep(0)
    assert (endings.begun, endings.ended) == (1, 0)
    await stream.aclose()
    assert endings.ended == 1
    await first
    await stream.aclose()
    assert endings.begun == 1
    assert await anext(stream, None) is None


async def test_while_it_is_read_it_is_not_closed_but_afterwards() -> None:
    going_on = asyncio.Event()
    ended: list[bool] = []

    async def chunks() -> AsyncGenerator[int, None]:
        try:
            await going_on.wait()
            yield 1
        finally:
            ended.append(True)

    stream = HandedOut(chunks())
    reading = asyncio.create_task(asyncio.wait_for(anext(stream), None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already running"):
        await stream.aclose()
    going_on.set()
    assert await reading == 1
    await stream.aclose()
    assert ended


async def test_one_that_nobody_has_read_from_is_closed_at_once() -> None:
    endings = Endings()
    stream = HandedOut(endings.outer())
    await stream.aclose()
    assert await anext(stream, None) is None
    assert endings.begun == 0


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_one_that_is_let_go_or_kept_ends_with_its_loop_at_the_latest(kept: bool, waits: bool) -> None:
    endings = Endings()
    said: list[Any] = []
    held: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        stream = HandedOut(endings.outer())
        assert await anext(stream) == 1
        if kept:
            held.append(stream)
        del stream
        gc.collect()
        if waits:
            for _ in range(20):
                await asyncio.sleep(0)
            assert endings.ended == (not kept)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())
    held.clear()
    gc.collect()
    assert (endings.begun, endings.ended) == (1, 1)
    assert not said


def test_it_may_be_read_from_outside_a_loop() -> None:
    endings = Endings()
    stream = HandedOut(endings.outer())
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        loop = runner.get_loop()
        assert loop.run_until_complete(anext(stream)) == 1
        assert loop.run_until_complete(anext(stream)) == 1
        loop.run_until_complete(stream.aclose())
    assert endings.ended == 1


async def test_what_is_owned_is_read_and_closed_whatever_it_is() -> None:
    class Plain:
        """An iterator that cannot be closed."""

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            return 1

    async with owning(Plain()) as stream:
        assert await anext(stream) == 1

    async def echo() -> AsyncGenerator[int, int]:
        got = 0
        while True:
            try:
                got = yield got
            except ValueError:
                got = -1

    stream = Owned(echo())
    assert await stream.asend(None) == 0
    assert await stream.asend(3) == 3
    assert await stream.athrow(ValueError()) == -1
    await stream.aclose()
    assert await anext(stream, None) is None
