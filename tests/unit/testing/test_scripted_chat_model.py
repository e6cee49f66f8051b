"""Models that answer from a script: the same in every calling mode."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from pydantic import ValidationError

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.testing import ScriptedChatModel


async def call(model, mode, value="hello", **kwargs):
    """Call the model in one mode and return (message, content of each chunk)."""
    match mode:
        case "invoke":
            message = model.invoke(value, **kwargs)
            return message, [message.content]
        case "ainvoke":
            message = await model.ainvoke(value, **kwargs)
            return message, [message.content]
        case "stream":
            chunks = list(model.stream(value, **kwargs))
        case "astream":
            chunks = [chunk async for chunk in model.astream(value, **kwargs)]
    return sum(chunks[1:], chunks[0]), [chunk.content for chunk in chunks]


every_mode = pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])


@every_mode
async def test_entries_are_answered_in_order(mode):
    """Texts and messages become answers, errors are raised, and usage is counted."""
    model = ScriptedChatModel(["one two three", TimeoutError("slow"), AIMessage("given", id="x")])
    first, _ = await call(model, mode)
    assert first.content == "one two three"
    assert first.usage_metadata == {"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}
    with pytest.raises(TimeoutError, match="slow"):
        await call(model, mode)
    last, _ = await call(model, mode)
    assert (last.content, last.id) == ("given", "x")


@every_mode
async def test_streams_come_word_by_word(mode):
    """The words join to the text, with its white space."""
    message, chunks = await call(ScriptedChatModel(["  one two\n three "]), mode)
    assert message.content == "  one two\n three "
    assert [chunk for chunk in chunks if chunk] == (
        ["  one ", "two\n ", "three "] if "stream" in mode else ["  one two\n three "]
    )


@every_mode
@pytest.mark.parametrize("text", ["", "   "])
async def test_an_answer_without_words_is_an_answer(mode, text):
    """An empty stream is a success."""
    message, _ = await call(ScriptedChatModel([text]), mode)
    assert message.content == text


@every_mode
async def test_messages_keep_their_tool_calls_and_metadata(mode):
    """A scripted message reaches the caller whole, and the script stays as it was."""
    tool_call = {"name": "search", "args": {"q": "sky"}, "id": "c1", "type": "tool_call"}
    scripted = AIMessage(
        "",
        tool_calls=[tool_call],
        usage_metadata={"input_tokens": 7, "output_tokens": 8, "total_tokens": 15},
        response_metadata={"headers": {"retry-after": "1"}},
    )
    before = scripted.model_copy(deep=True)
    model = ScriptedChatModel([scripted])
    message, _ = await call(model, mode)
    assert message.tool_calls == [tool_call]
    assert message.usage_metadata == scripted.usage_metadata
    assert message.response_metadata["headers"] == {"retry-after": "1"}
    assert model.script[0] == before


@every_mode
async def test_content_blocks_come_in_one_piece(mode):
    """What is no text cannot be cut into words."""
    message, _ = await call(ScriptedChatModel([AIMessage([{"type": "text", "text": "one two"}])]), mode)
    assert message.text == "one two"


@every_mode
async def test_a_function_answers_from_the_messages(mode):
    """It may return or raise."""

    def answer(messages):
        if messages[-1].content == "bad":
            raise LookupError("no answer")
        return messages[-1].content.upper()

    model = ScriptedChatModel(answer)
    assert (await call(model, mode))[0].content == "HELLO"
    with pytest.raises(LookupError):
        await call(model, mode, "bad")


@every_mode
async def test_calls_are_recorded(mode):
    """Also those of bound copies, with messages and stop sequences."""
    model = ScriptedChatModel(["a", "b"])
    await call(model, mode, [HumanMessage("first")])
    await call(model.bind(stop=["END"]), mode, "second")
    assert [(entry.index, entry.messages[0].content, entry.stop) for entry in model.calls] == [
        (0, "first", ()),
        (1, "second", ("END",)),
    ]


@every_mode
async def test_the_end_of_the_script_is_an_error(mode):
    """The message says how many entries there are; `cycle` starts again."""
    model = ScriptedChatModel(["a"])
    await call(model, mode)
    with pytest.raises(ParallelPlusError, match=r"the script has 1 entries, and this is call 2\nhelp: .*cycle"):
        await call(model, mode)
    again = ScriptedChatModel(["a", "b"], cycle=True)
    assert [(await call(again, mode))[0].content for _ in range(3)] == ["a", "b", "a"]


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
@pytest.mark.looptime
async def test_asynchronous_waits_follow_the_loops_clock(mode):
    """The latency comes before the first word, the chunk delay between the words."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await call(ScriptedChatModel(["one two"], latency=30, chunk_delay=5), mode)
    assert loop.time() - start == pytest.approx(30 if mode == "ainvoke" else 40)


@pytest.mark.parametrize(("mode", "slept"), [("invoke", [30]), ("stream", [30, 5, 5])])
async def test_synchronous_waits_use_the_injected_sleep(mode, slept):
    """A test decides what waiting means."""
    sleeps: list[float] = []
    await call(ScriptedChatModel(["one two"], latency=30, chunk_delay=5, sleep=sleeps.append), mode)
    assert sleeps == slept


def test_threads_share_one_script():
    """Each entry is given once, however many threads ask."""
    model = ScriptedChatModel([str(number) for number in range(200)])
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(model.invoke("x").content for _ in range(25))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=int) == [str(number) for number in range(200)]
    assert [entry.index for entry in model.calls] == list(range(200))


def test_traces_name_the_given_provider_and_model():
    """Limiters match calls by these two."""
    params = ScriptedChatModel([], provider="openai", model="gpt-4o-mini")._get_ls_params()
    assert (params["ls_provider"], params["ls_model_name"]) == ("openai", "gpt-4o-mini")


def test_it_composes_and_streams_through_a_chain():
    """It is an ordinary chat model."""
    chain = ScriptedChatModel(["one two"]) | StrOutputParser()
    assert [word for word in chain.stream("x") if word] == ["one ", "two"]
    assert isinstance(next(ScriptedChatModel(["a"]).stream("x")), AIMessageChunk)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_on_by_themselves(copier):
    """A copy starts where the original is."""
    model = ScriptedChatModel(["a", "b"])
    model.invoke("x")
    other = copier(model)
    assert (model.invoke("x").content, other.invoke("x").content) == ("b", "b")
    assert len(other.calls) == 2


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("one text", "a list of entries or a function of the messages, got str"),
        (None, "a list of entries or a function of the messages, got NoneType"),
        (["a", 5], "entry 1 of the script is of type int"),
        ([KeyboardInterrupt()], "entry 0 of the script is of type KeyboardInterrupt"),
        ([ValueError], "entry 0 of the script is of type type"),
    ],
)
def test_a_wrong_script_is_refused_when_declared(script, message):
    """The message says where and what, and what to write instead."""
    with pytest.raises(DeclarationError, match=f"{message}\nhelp: "):
        ScriptedChatModel(script)


@pytest.mark.parametrize("fields", [{"latency": -1}, {"chunk_delay": float("inf")}, {"cycle": "maybe"}])
def test_wrong_fields_are_refused_when_declared(fields):
    """Nothing is found out at the first call."""
    with pytest.raises(ValidationError):
        ScriptedChatModel(["a"], **fields)
