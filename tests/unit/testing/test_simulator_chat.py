"""Chat completion requests: what is read from them, what is refused, what they cost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.testing import prompt_digest
from langchain_parallel_plus.testing.simulator.answers import Answer, completion_body, completion_events, default_answer
from langchain_parallel_plus.testing.simulator.chat import InvalidRequestError, parse_chat_request
from langchain_parallel_plus.testing.tokens import count_tokens, split_tokens


def body(**fields):
    """Return the JSON of a valid request with some fields replaced."""
    base = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps(base | fields).encode()


def test_a_request_is_read_with_what_it_costs():
    """Tokens are charged from characters and `max_tokens`, and reported from the text."""
    request = parse_chat_request(
        body(
            messages=[
                {"role": "system", "content": "Be terse."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": None},
                {"role": "user", "content": [{"type": "text", "text": "last "}, {"type": "text", "text": "one"}]},
            ],
            max_completion_tokens=100,
            stream=True,
            stream_options={"include_usage": True},
        ),
        index=7,
        arrived=1.5,
        headers={"authorization": "Bearer secret", "x-stainless-retry-count": "1"},
    )
    assert (request.index, request.arrived, request.model) == (7, 1.5, "m")
    assert (request.prompt, request.digest) == ("last one", prompt_digest("last one"))
    assert (request.stream, request.include_usage, request.max_tokens) == (True, True, 100)
    assert request.reserved_tokens == 6 + 100  # 22 characters
    assert request.prompt_tokens == (3 + 1 + 2) + 3 * 5  # words, and three a message and for the reply
    assert request.headers == {"x-stainless-retry-count": "1"}
    assert "secret" not in repr(request)


def test_without_max_tokens_a_small_allowance_is_charged():
    """The legacy default of the API: 16 output tokens."""
    assert parse_chat_request(body()).reserved_tokens == 2 + 16


def test_an_image_costs_what_a_low_detail_image_costs():
    """Images have no characters."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = parse_chat_request(body(messages=[{"role": "user", "content": [picture]}]))
    assert (request.reserved_tokens, request.prompt_tokens, request.prompt) == (85 + 16, 85 + 6, "")


@pytest.mark.parametrize(
    ("raw", "param", "code"),
    [
        (b"{", None, None),
        (b"\xff", None, None),
        (b"[" * 200_000, None, None),
        (b"[]", None, None),
        (body(model=""), "model", None),
        (body(model=None), "model", None),
        (json.dumps({"model": "m"}).encode(), "messages", "missing_required_parameter"),
        (body(messages="hi"), "messages", "invalid_type"),
        (body(messages=[]), "messages", "empty_array"),
        (body(messages=["hi"]), "messages[0]", "invalid_type"),
        (body(messages=[{"content": "hi"}]), "messages[0].role", "invalid_type"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content", "invalid_type"),
        (body(max_tokens="5"), "max_tokens", "invalid_type"),
        (body(max_tokens=True), "max_tokens", "invalid_type"),
        (body(max_completion_tokens=0), "max_completion_tokens", "integer_below_min_value"),
        (body(n=2), "n", "unsupported_value"),
        (body(tool_choice="required"), "tool_choice", "unsupported_value"),
    ],
)
def test_what_is_no_chat_request_is_refused_by_name(raw, param, code):
    """The error names the field as OpenAI does."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_chat_request(raw)
    assert (caught.value.param, caught.value.code) == (param, code)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_read_or_refused(value):
    """No request body breaks the server, whatever stands in its fields."""
    for raw in (
        json.dumps(value).encode(),
        body(messages=[{"role": "user", "content": value}]),
        body(max_tokens=value),
    ):
        try:
            request = parse_chat_request(raw)
        except InvalidRequestError:
            continue
        assert request.reserved_tokens >= 0
        assert completion_body(request, Answer.to(request, default_answer(request)), created=0)


@given(st.text())
def test_tokens_join_to_the_text_again(text):
    """A streamed answer is the answer."""
    assert "".join(split_tokens(text)) == text
    assert count_tokens(text) == len(split_tokens(text))


def test_the_default_answer_depends_on_the_last_user_message_only():
    """Two calls with one prompt get one answer, whatever came before."""
    plain = parse_chat_request(body())
    other = parse_chat_request(
        body(messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "hello"}]), index=9
    )
    assert default_answer(plain) == default_answer(other) == f"Simulated answer {prompt_digest('hello')} to 1 words."
    assert default_answer(parse_chat_request(body(messages=[{"role": "user", "content": "bye"}]))) != default_answer(
        plain
    )


@pytest.mark.parametrize(
    ("limit", "kept", "reason"),
    [(None, "one two three", "stop"), (3, "one two three", "stop"), (2, "one two", "length")],
)
def test_max_tokens_cuts_the_answer(limit, kept, reason):
    """An answer that is cut says so in its finish reason and counts what was kept."""
    request = parse_chat_request(body(max_tokens=limit))
    answer = Answer.to(request, "one two three")
    whole = json.loads(completion_body(request, answer, created=5))
    assert whole["choices"][0]["message"]["content"] == kept
    assert whole["choices"][0]["finish_reason"] == reason
    assert whole["usage"]["completion_tokens"] == len(kept.split())
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + len(kept.split())


@pytest.mark.parametrize("usage", [True, False])
def test_a_streamed_answer_is_the_whole_answer(usage):
    """The events join to the same content, end with `[DONE]`, and carry usage once, if asked for."""
    request = parse_chat_request(body(stream=True, stream_options={"include_usage": usage}))
    answer = Answer.to(request, "one two three")
    events = [event.decode() for event in completion_events(request, answer, created=5)]
    assert all(event.startswith("data: ") and event.endswith("\n\n") for event in events)
    assert events.pop() == "data: [DONE]\n\n"
    chunks = [json.loads(event[6:]) for event in events]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "one two three"
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    whole = json.loads(completion_body(request, answer, created=5))
    assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == ([whole["usage"]] if usage else [])
    assert len({chunk["id"] for chunk in chunks}) == 1
