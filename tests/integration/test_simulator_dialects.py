"""Dialects, quota models and token rules over real sockets, with the real clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import subprocess
import sys
from urllib.parse import urlsplit

import openai
import pytest
from langchain_openai import AzureChatOpenAI

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers import classify, parse_rate_limit_headers
from langchain_parallel_plus.testing import Fault, ProviderSimulator, Quota
from langchain_parallel_plus.testing.dialects import DIALECTS, AzureDialect
from langchain_parallel_plus.testing.quota import FixedWindow, SubWindows
from langchain_parallel_plus.testing.simulator.__main__ import main

WALL = 1_790_000_000.0
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def invoke(model, prompt="hello"):
    return model.invoke(prompt).response_metadata["headers"]


@every_dialect
async def test_the_real_client_reads_quota_and_refusal(dialect):
    """Headers come with answers, and the refusal's wait is at least what the quota says, and not a second more."""
    limits = {"requests_per_minute": 7, "tokens_per_minute": 10_000, "requests_per_day": 1_000}
    with ProviderSimulator(
        **limits, dialect=dialect, failed_requests_count=False, clock=lambda: 0.0, wall_clock=lambda: WALL
    ) as sim:
        model = sim.chat_model(include_response_headers=True, max_tokens=98)
        snapshot = parse_rate_limit_headers(invoke(model), now=WALL)
        for _ in range(3):
            await model.ainvoke("hello")
            assert [chunk async for chunk in model.astream("hello")]
        for mode in (model.invoke, model.ainvoke):
            with pytest.raises(openai.RateLimitError) as caught:
                await asyncio.to_thread(model.invoke, "hello") if mode == model.invoke else await model.ainvoke("hello")
        assert sim.tally.refused == {"requests": 2, "tokens": 0, "requests_per_day": 0}
    verdict = classify(caught.value, now=lambda: WALL)
    exact = math.ceil(60_000 / 7) / 1000
    assert verdict.kind is ErrorKind.RATE_LIMIT
    assert verdict.retry_after in (pytest.approx(exact), math.ceil(exact))
    if dialect == "gemini":
        assert not snapshot
    else:
        tokens, requests = snapshot.get("tokens"), snapshot.get("requests")
        assert (tokens.limit, tokens.remaining) == (10_000, 9_900)
        assert (requests.limit, requests.remaining) == ((1_000, 999) if dialect == "groq" else (7, 6))


@every_dialect
def test_faults_speak_the_dialect(dialect):
    """An exhausted account is one in each, and a wait reaches the client."""
    faults = iter([Fault(status=429, code="insufficient_quota"), Fault(status=503, retry_after=3)])
    with ProviderSimulator(dialect=dialect, fail=lambda request: next(faults)) as sim:
        model = sim.chat_model()
        with pytest.raises(openai.RateLimitError) as exhausted:
            model.invoke("hello")
        with pytest.raises(openai.InternalServerError) as busy:
            model.invoke("hello")
    assert classify(exhausted.value).kind is ErrorKind.QUOTA_EXHAUSTED
    assert classify(busy.value).retry_after == 3.0


@every_dialect
def test_other_errors_speak_the_dialect_too(dialect):
    """A missing key, an unknown address, a request that is none."""
    with ProviderSimulator(dialect=dialect) as sim:
        connection = http.client.HTTPConnection(urlsplit(sim.base_url).netloc, timeout=10)
        for path, key, status in (
            ("/v1/chat/completions", "", 401),
            ("/v1/nothing", "k", 404),
            ("/v1/chat/completions", "k", 400),
        ):
            connection.request("POST", path, b"{}", {"x-api-key": key} if key else {})
            response = connection.getresponse()
            body = json.loads(response.read())
            assert response.status == status
            assert response.getheader("content-type") == DIALECTS[dialect].error_content_type
            assert ("detail" if dialect == "ietf" else "error") in body
        connection.close()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
async def test_azures_client_finds_its_deployment(mode):
    """At Azure's address, with Azure's key header, and Azure's quota."""
    quota = Quota(requests=SubWindows(480), tokens=FixedWindow(80_000))
    with ProviderSimulator(quota=quota, dialect="azure", clock=lambda: 0.0) as sim:
        model = AzureChatOpenAI(
            azure_endpoint=sim.base_url.removesuffix("/v1"),
            azure_deployment="my-gpt",
            api_version="2024-10-21",
            api_key="secret",
            max_retries=0,
            max_tokens=98,
            include_response_headers=True,
            http_client=sim.chat_model().http_client,
            http_async_client=sim.chat_model().http_async_client,
        )
        message = model.invoke("hello") if mode == "invoke" else await model.ainvoke("hello")
        assert (sim.tally.ok, sim.tally.records[0].status, sim.tally.records[0].model) == (1, 200, "my-gpt")
    headers = message.response_metadata["headers"]
    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-reset-requests"]) == ("79", "10")
    assert (headers["x-ratelimit-remaining-tokens"], headers["x-ratelimit-reset-tokens"]) == ("79900", "60")


@pytest.mark.parametrize("unstated", ["-1", "0", "absent"])
def test_azure_may_know_nothing(unstated):
    """The headers are there, or not, and say nothing; the quota is enforced all the same."""
    with ProviderSimulator(requests_per_minute=1, dialect=AzureDialect(unstated=unstated)) as sim:
        model = sim.chat_model(include_response_headers=True)
        assert not parse_rate_limit_headers(invoke(model), now=WALL)
        with pytest.raises(openai.RateLimitError):
            model.invoke("hello")


@pytest.mark.parametrize(
    ("model", "at_once", "after"),
    [
        ("bucket_minute", 60, 1.0),
        ("bucket_second", 1, 1.0),
        ("fixed_window", 60, 60.0),
        ("sliding_window", 60, 60.0),
        ("sub_windows", 10, 10.0),
    ],
)
def test_each_quota_model_serves_its_burst_and_says_when_to_come_again(model, at_once, after):
    """Over the wire as in the pure model."""
    now = [0.0]
    with ProviderSimulator(
        requests_per_minute=60, quota_model=model, failed_requests_count=False, clock=lambda: now[0]
    ) as sim:
        llm = sim.chat_model()
        for _ in range(at_once):
            llm.invoke("hello")
        with pytest.raises(openai.RateLimitError) as caught:
            llm.invoke("hello")
        assert classify(caught.value).retry_after == after
        now[0] += after
        llm.invoke("hello")


@pytest.mark.parametrize(("rule", "served"), [("reserve", 2), ("reserve_refund", 40), ("actual", 67)])
async def test_each_token_rule_serves_what_it_leaves(rule, served):
    """Under a limit of 1,000, calls that are estimated at 8 tokens, allow 400 more, and really use 15 in all.

    `reserve` fits 408 twice; `reserve_refund` as long as 408 fit beside 15 for each; `actual` as long as 8 do.
    """
    with ProviderSimulator(
        tokens_per_minute=1_000, token_rule=rule, clock=lambda: 0.0, answer=lambda request: "a b c"
    ) as sim:
        model = sim.chat_model(max_tokens=400)
        for _ in range(served):
            await model.ainvoke("hello " * 5)
        with pytest.raises(openai.RateLimitError):
            await model.ainvoke("hello " * 5)
        assert sim.tally.prompt_tokens + sim.tally.completion_tokens == 15 * served
        assert sim.tally.charged_tokens == (408 if rule == "reserve" else 15) * served


def test_a_client_in_another_process_reads_the_tally():
    """As JSON, while the simulator runs; and starts it afresh."""
    with ProviderSimulator(requests_per_minute=1) as sim:
        model = sim.chat_model()
        model.invoke("hello")
        with pytest.raises(openai.RateLimitError):
            model.invoke("hello")
        connection = http.client.HTTPConnection(urlsplit(sim.base_url).netloc, timeout=10)
        connection.request("GET", "/simulator/tally")
        tally = json.loads(connection.getresponse().read())
        assert (tally["requests"], tally["ok"], tally["refused"]["requests"], tally["by_status"]) == (
            2,
            1,
            1,
            {"200": 1, "429": 1},
        )
        connection.request("POST", "/simulator/reset", b"")
        assert connection.getresponse().read() == b"{}"
        connection.close()
        model.invoke("hello")
        assert sim.tally.requests == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quota_model": "leaky"}, "quota_model must be one of bucket_minute, .*, got 'leaky'"),
        ({"token_rule": "free"}, "token_rule must be one of reserve, .*, got 'free'"),
        ({"dialect": "mistral"}, "dialect must be one of openai, .*, got 'mistral'"),
        ({"output_tokens_per_minute": 0}, "a quota must be a whole number >= 1, got 0"),
        (
            {"quota": Quota.of(requests=1), "tokens_per_minute": 5},
            r"quota= was given together with tokens\nhelp",
        ),
        ({"quota": Quota.of(requests=1), "failed_requests_count": True}, "together with failed_requests_count"),
        ({"quota": Quota.of(requests=1), "failed_requests_count": False}, "together with failed_requests_count"),
    ],
)
def test_wrong_declarations_are_refused(wrong, message):
    """Before any socket is opened."""
    with pytest.raises(DeclarationError, match=message):
        ProviderSimulator(**wrong)


class TestCommandLine:
    @pytest.mark.parametrize("model", ["bucket_second", "sub_windows"])
    def test_options_choose_what_the_arguments_choose(self, model):
        """Quota model, token rule, dialect, and faults with their seed."""
        command = [
            *(sys.executable, "-m", "langchain_parallel_plus.testing.simulator", "--quota-model", model),
            *("--rpm", "6000", "--itpm", "1000000", "--token-rule", "reserve_refund", "--dialect", "anthropic"),
            *("--fault", "529:1", "--seed", "3"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                url = urlsplit(process.stdout.readline().strip())
                connection = http.client.HTTPConnection(url.netloc, timeout=10)
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
                connection.request("POST", "/v1/chat/completions", body, {"x-api-key": "k"})
                response = connection.getresponse()
                assert (response.status, json.loads(response.read())["error"]["type"]) == (529, "overloaded_error")
                assert response.getheader("anthropic-ratelimit-requests-limit") == "6000"
                assert response.getheader("anthropic-ratelimit-input-tokens-limit") == "1000000"
                connection.close()
            finally:
                process.terminate()
            assert "1 faults" in process.stdout.read()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--quota-model", "x"], "argument --quota-model: invalid choice: 'x'"),
            (["--fault", "529"], "--fault must be KIND:SHARE, got '529'"),
            (["--fault", "fire:0.1"], "--fault must be KIND:SHARE, got 'fire:0.1'"),
            (["--fault", "hang:2"], "a rule's share must be between 0 and 1, got 2.0"),
            (["--fault", "200:0.5"], "a fault's status must be between 400 and 599, got 200"),
        ],
    )
    def test_bad_options_are_one_clear_line(self, arguments, message, capsys):
        """Exit code 2, nothing on standard output."""
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capsys.readouterr()
        assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"simulator: {message}")
