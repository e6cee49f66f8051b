"""The simulated provider over real sockets: with the real OpenAI client, with raw bytes, and from the command line."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import openai
import pytest

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.testing import Fault, ProviderSimulator, prompt_digest
from langchain_parallel_plus.testing.simulator.__main__ import main
from langchain_parallel_plus.testing.simulator.http1 import MAX_BODY

CHAT = "/v1/chat/completions"
KEY = {"Authorization": "Bearer any"}
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

every_mode = pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])


async def call(model, mode, prompt="hello"):
    """Call a model in one mode and return its message; streams are summed up."""
    match mode:
        case "invoke":
            return model.invoke(prompt)
        case "ainvoke":
            return await model.ainvoke(prompt)
        case "stream":
            chunks = list(model.stream(prompt))
        case "astream":
            chunks = [chunk async for chunk in model.astream(prompt)]
    return sum(chunks[1:], chunks[0])


def request(sim, method="POST", path=CHAT, body=HELLO, headers=KEY):
    """Send one HTTP request and return (status, headers, body)."""
    connection = http.client.HTTPConnection(urlsplit(sim.base_url).netloc, timeout=10)
    try:
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def raw_request(*, stream=False, connection="keep-alive"):
    """Return the bytes of a valid request."""
    body = json.dumps(HELLO | {"stream": stream}).encode()
    lines = (
        f"POST {CHAT} HTTP/1.1",
        "Authorization: Bearer k",
        f"Connection: {connection}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def connect(sim):
    """Open a socket to the simulator."""
    address = urlsplit(sim.base_url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def read_response(sock):
    """Read one response with a Content-Length and return it whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    missing = int(re.search(rb"content-length: (\d+)", data)[1]) - (len(data) - data.index(b"\r\n\r\n") - 4)
    while missing > 0:
        piece = sock.recv(missing)
        data, missing = data + piece, missing - len(piece)
    return data


def until(condition, *, seconds=5.0):
    """Wait for something that the server's thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.002)


class TestChatOpenAI:
    @every_mode
    async def test_answers_with_usage_in_every_mode(self, mode):
        """The default answer is deterministic, and its usage is the same streamed or not."""
        with ProviderSimulator() as sim:
            message = await call(sim.chat_model(), mode)
            assert message.content == f"Simulated answer {prompt_digest('hello')} to 1 words."
            assert message.usage_metadata["input_tokens"] == 7
            assert message.usage_metadata["total_tokens"] == 7 + message.usage_metadata["output_tokens"]
            assert message.response_metadata["finish_reason"] == "stop"
            tally = sim.tally
        assert (tally.requests, tally.ok, tally.in_flight, tally.peak_in_flight) == (1, 1, 0, 1)
        assert (tally.prompt_tokens, tally.completion_tokens) == (7, message.usage_metadata["output_tokens"])
        (record,) = tally.records
        assert (record.status, record.outcome, record.digest) == (200, "ok", prompt_digest("hello"))
        assert record.stream == ("stream" in mode)
        assert record.arrived <= record.finished

    @every_mode
    async def test_a_full_quota_is_a_rate_limit_error_with_its_wait(self, mode):
        """The error carries OpenAI's message, its code, and both Retry-After headers."""
        with ProviderSimulator(requests_per_minute=3, clock=lambda: 0.0) as sim:
            model = sim.chat_model()
            for _ in range(3):
                await call(model, mode)
            with pytest.raises(openai.RateLimitError) as caught:
                await call(model, mode)
            assert sim.tally.refused == {"requests": 1, "tokens": 0}
        error = caught.value
        assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
        assert (error.response.headers["retry-after"], error.response.headers["retry-after-ms"]) == ("20", "20000")
        assert error.body["message"] == (
            "Rate limit reached for gpt-4o-mini on requests per min (RPM): Limit 3, Used 3, Requested 1. "
            "Please try again in 20s."
        )

    def test_headers_report_what_is_left(self):
        """They come with answers too."""
        with ProviderSimulator(requests_per_minute=60, tokens_per_minute=6_000, clock=lambda: 0.0) as sim:
            model = sim.chat_model(include_response_headers=True, max_tokens=98)
            headers = model.invoke("hello").response_metadata["headers"]
        assert {name: value for name, value in headers.items() if "ratelimit" in name} == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "6000",
            "x-ratelimit-remaining-tokens": "5900",
            "x-ratelimit-reset-tokens": "1s",
        }

    def test_tokens_are_charged_by_max_tokens(self):
        """A second call does not fit, although the answers are short; a huge one never will."""
        with ProviderSimulator(tokens_per_minute=1_000, clock=lambda: 0.0) as sim:
            model = sim.chat_model(max_tokens=600)
            model.invoke("hello")
            with pytest.raises(
                openai.RateLimitError, match=r"tokens per min \(TPM\): Limit 1000, Used 602, Requested 602"
            ):
                model.invoke("hello")
            with pytest.raises(openai.RateLimitError, match="Request too large for gpt-4o-mini") as caught:
                sim.chat_model(max_tokens=1_000).invoke("hello")
            assert "retry-after" not in caught.value.response.headers
            assert (sim.tally.charged_tokens, sim.tally.refusals) == (602, 2)
            assert sim.tally.refused == {"requests": 0, "tokens": 2}

    def test_the_quota_drains_by_the_given_clock_and_comes_back_on_reset(self):
        """Waiting as long as the refusal says is enough; `reset` is at once."""
        now = [0.0]
        with ProviderSimulator(requests_per_minute=2, clock=lambda: now[0]) as sim:
            model = sim.chat_model()
            model.invoke("a"), model.invoke("b")
            with pytest.raises(openai.RateLimitError) as caught:
                model.invoke("c")
            now[0] += int(caught.value.response.headers["retry-after-ms"]) / 1000
            model.invoke("d")
            sim.reset()
            assert sim.tally.requests == 0
            model.invoke("e"), model.invoke("f")
            assert [(record.index, record.arrived) for record in sim.tally.records] == [(0, 30.0), (1, 30.0)]

    @every_mode
    async def test_one_model_serves_one_loop_after_another(self, mode):
        """No connection is left to a loop that has ended, as each pytest-asyncio test has its own."""
        with ProviderSimulator() as sim:
            model = sim.chat_model()
            for _ in range(2):
                await asyncio.to_thread(_in_a_new_loop, call(model, mode))
            await call(model, mode)
            assert sim.tally.ok == 3

    async def test_two_hundred_calls_at_once_overlap(self):
        """They take about one latency, not two hundred."""
        with ProviderSimulator(latency=0.5) as sim:
            model = sim.chat_model()
            answers = await asyncio.gather(*(model.ainvoke(f"question {number}") for number in range(200)))
            assert len({answer.content for answer in answers}) == 200
            tally = sim.tally
        assert (tally.ok, tally.in_flight) == (200, 0)
        assert tally.peak_in_flight > 20
        assert all(record.finished - record.arrived >= 0.5 for record in tally.records)
        assert [record.index for record in tally.records] == list(range(200))

    async def test_functions_see_the_request_and_decide(self):
        """Answer, latency and failure can depend on it."""

        def fail(chat):
            if "context" in chat.prompt:
                return Fault(status=400, code="context_length_exceeded")
            if "money" in chat.prompt:
                return Fault(status=429, code="insufficient_quota", message="You exceeded your current quota.")
            return Fault(status=529, retry_after=1.5) if "busy" in chat.prompt else None

        with ProviderSimulator(answer=lambda chat: f"{chat.model}: {chat.prompt}", fail=fail) as sim:
            model = sim.chat_model(model="gpt-x")
            assert (await model.ainvoke("hi")).content == "gpt-x: hi"
            with pytest.raises(openai.BadRequestError) as context:
                await model.ainvoke("context")
            with pytest.raises(openai.RateLimitError, match="You exceeded your current quota") as money:
                await model.ainvoke("money")
            with pytest.raises(openai.InternalServerError) as busy:
                await model.ainvoke("busy")
            assert (sim.tally.ok, sim.tally.faults) == (1, 3)
        assert context.value.code == "context_length_exceeded"
        assert (money.value.code, money.value.type) == ("insufficient_quota", "insufficient_quota")
        assert busy.value.status_code == 529
        assert (busy.value.response.headers["retry-after"], busy.value.response.headers["retry-after-ms"]) == (
            "2",
            "1500",
        )

    @pytest.mark.parametrize(
        ("broken", "message"),
        [
            ({"answer": lambda chat: 1 / 0}, "ZeroDivisionError: division by zero"),
            ({"answer": lambda chat: 5}, r"answer\(request\) must return a str, got int"),
            ({"fail": lambda chat: 500}, r"fail\(request\) must return a Fault or None, got int"),
            ({"latency": lambda chat: -1}, r"latency\(request\) must be seconds >= 0, got -1"),
        ],
    )
    def test_a_function_that_fails_is_told_to_the_client_and_logged(self, broken, message, caplog):
        """It does not hang the test that wrote it."""
        with ProviderSimulator(**broken) as sim, pytest.raises(openai.InternalServerError, match=message):
            sim.chat_model().invoke("hi")
        assert "a callable of the simulator failed" in caplog.text

    def test_the_latency_may_depend_on_the_request(self):
        """Only the slow one is slow."""
        with ProviderSimulator(latency=lambda chat: 0.3 if chat.prompt == "slow" else 0.0) as sim:
            sim.chat_model().invoke("fast"), sim.chat_model().invoke("slow")
            fast, slow = (record.finished - record.arrived for record in sim.tally.records)
        assert fast < 0.3 <= slow


def _in_a_new_loop(awaitable):
    with asyncio.Runner() as runner:
        return runner.run(awaitable)


class TestHttp:
    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}]
    )
    @pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/nothing")])
    def test_without_a_key_nothing_is_served(self, headers, method, path):
        """401 with OpenAI's message, and nothing is charged."""
        with ProviderSimulator(requests_per_minute=1) as sim:
            status, _, body = request(sim, method, path, headers=headers)
            assert (status, json.loads(body)["error"]["type"]) == (401, "invalid_request_error")
            assert "You didn't provide an API key" in json.loads(body)["error"]["message"]
            assert request(sim)[0] == 200

    def test_the_real_client_maps_a_refused_key(self):
        """`Fault(status=401)` stands for a wrong key."""
        with ProviderSimulator(fail=lambda chat: Fault(status=401, code="invalid_api_key")) as sim:
            with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as caught:
                sim.chat_model(api_key="sk-very-secret-key").invoke("hi")
            assert "very-secret" not in str(caught.value) + str(sim.tally)

    @pytest.mark.parametrize(
        ("body", "message"),
        [(b"{", "could not parse the JSON body"), ({"model": "m"}, "Missing required parameter: 'messages'")],
    )
    def test_what_is_no_chat_request_is_a_400_and_counts(self, body, message):
        """Failed requests use the requests quota, and are refused when it is empty."""
        with ProviderSimulator(requests_per_minute=2, tokens_per_minute=100, clock=lambda: 0.0) as sim:
            for left in ("1", "0"):
                status, headers, answer = request(sim, body=body)
                assert (status, headers["x-ratelimit-remaining-requests"]) == (400, left)
                assert headers["x-ratelimit-remaining-tokens"] == "100"
                assert message in json.loads(answer)["error"]["message"]
            assert request(sim, body=body)[0] == 429
            assert (sim.tally.invalid, sim.tally.refusals) == (2, 1)

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/"), ("POST", "/v1/embeddings"), ("GET", CHAT), ("POST", "/v1/models")]
    )
    def test_other_paths_are_unknown(self, method, path):
        """404, outside the tally."""
        with ProviderSimulator() as sim:
            status, _, body = request(sim, method, path)
            assert (status, json.loads(body)["error"]["code"]) == (404, "unknown_url")
            assert sim.tally.requests == 0

    def test_models_are_listed(self):
        """The real client reads the list."""
        with ProviderSimulator() as sim, openai.OpenAI(base_url=sim.base_url, api_key="k") as client:
            assert [model.id for model in client.models.list()] == ["gpt-4o-mini"]

    def test_a_body_over_the_bound_is_refused_while_it_is_sent(self):
        """413, read by a client that sends all of it first, and by one that waits for leave."""
        with ProviderSimulator() as sim:
            status, _, body = request(sim, body=b" " * (MAX_BODY + 1))
            assert (status, json.loads(body)["error"]["message"]) == (
                413,
                f"The request body is longer than {MAX_BODY} bytes.",
            )
            assert request(sim, body=b" " * MAX_BODY)[0] == 400

    def test_a_client_may_wait_for_leave_to_send(self):
        """`Expect: 100-continue`, as curl sends it with long bodies."""
        head, _, body = raw_request().partition(b"\r\n\r\n")
        with ProviderSimulator() as sim, connect(sim) as sock:
            sock.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(body)
            assert read_response(sock).startswith(b"HTTP/1.1 200 OK")

    def test_one_connection_serves_many_requests(self):
        """Also when they come all at once, or byte by byte."""
        with ProviderSimulator() as sim, connect(sim) as sock:
            sock.sendall(raw_request() * 20)
            data = b""
            while data.count(b"HTTP/1.1 200 OK") < 20 or not data.endswith(b"}}}"):
                data += sock.recv(65536)
            for byte in raw_request():
                sock.sendall(bytes([byte]))
            assert read_response(sock).startswith(b"HTTP/1.1 200 OK")
            assert sim.tally.ok == 21

    @pytest.mark.parametrize(
        ("payload", "status"), [(raw_request(connection="close"), 200), (b"nonsense\r\n\r\n", 400)]
    )
    def test_a_connection_that_ends_is_closed_after_the_answer(self, payload, status):
        """The client reads the whole answer and then the end."""
        with ProviderSimulator() as sim, connect(sim) as sock:
            sock.sendall(payload)
            assert read_response(sock).startswith(b"HTTP/1.1 %d " % status)
            if status == 200:
                assert sock.recv(1) == b""

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_leaves_is_counted(self, stream):
        """Before the answer, or in the middle of its stream; the server goes on."""
        with ProviderSimulator(latency=0 if stream else 30, chunk_delay=30) as sim:
            with connect(sim) as sock:
                sock.sendall(raw_request(stream=stream))
                if stream:
                    assert b'"role":"assistant"' in sock.recv(65536)
                until(lambda: sim.tally.in_flight == 1)
            until(lambda: sim.tally.abandoned == 1)
            assert (sim.tally.in_flight, sim.tally.ok, sim.tally.records[0].outcome) == (0, 0, "abandoned")
            assert request(sim, "GET", "/v1/models", None)[0] == 200

    def test_a_long_stream_arrives_whole(self):
        """Each token comes in an event of its own."""
        text = "word " * 3_000
        with ProviderSimulator(answer=lambda chat: text, chunk_delay=1e-6) as sim, connect(sim) as sock:
            sock.sendall(raw_request(stream=True, connection="close"))
            data = b""
            while piece := sock.recv(1 << 20):
                data += piece
        assert data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert "".join(json.loads(part)["choices"][0]["delta"].get("content", "") for part in _events(data)) == text


def _events(data: bytes) -> list[bytes]:
    return list(re.findall(rb"data: (\{.*\})\n", data))


class TestLifetime:
    def test_stopping_leaves_nothing_behind(self):
        """No thread, no socket, no warning; requests in flight lose their connection."""
        threads, before = set(threading.enumerate()), _open_files()
        errors: list[Exception] = []
        with ProviderSimulator(latency=30) as sim, ExitStack() as stack:
            socks = [stack.enter_context(connect(sim)) for _ in range(50)]
            for sock in socks[:25]:
                sock.sendall(raw_request())
            caller = threading.Thread(target=_invoke, args=(sim.chat_model(), errors))
            caller.start()
            until(lambda: sim.tally.in_flight == 26)
            sim.stop()
            caller.join()
            assert [_ending(sock) for sock in socks] == ["closed"] * 50
        assert len(errors) == 1
        assert sim.tally.abandoned == 26
        del caller
        gc.collect()
        assert set(threading.enumerate()) == threads
        assert _open_files() == before

    def test_it_can_be_started_and_stopped_again(self):
        """Both are idempotent; the tally goes on, and the same port can be taken at once."""
        sim = ProviderSimulator()
        port = urlsplit(sim.start().base_url).port
        assert sim.start() is sim
        assert request(sim)[0] == 200
        sim.stop()
        sim.stop()
        assert sim.tally.ok == 1
        with ProviderSimulator(port=port) as other:
            assert urlsplit(other.base_url).port == port
        with sim:
            assert request(sim)[0] == 200
        assert sim.tally.ok == 2

    def test_stopping_while_clients_connect_is_clean(self):
        """Connections that arrive in the last moment are closed, too."""
        for _ in range(20):
            sim = ProviderSimulator().start()
            socks = [connect(sim) for _ in range(30)]
            sim.stop()
            for sock in socks:
                sock.close()
        gc.collect()

    def test_a_stopped_simulator_has_no_address(self):
        """The error says how to start it."""
        sim = ProviderSimulator(requests_per_minute=5)
        assert repr(sim) == "ProviderSimulator(requests_per_minute=5, stopped)"
        with pytest.raises(
            ParallelPlusError, match=r"is not running, so it has no address\nhelp: .*with ProviderSimulator"
        ):
            sim.chat_model()

    def test_a_taken_port_is_told_to_the_caller(self):
        """Not to a thread that nobody sees."""
        with ProviderSimulator() as sim:
            port = urlsplit(sim.base_url).port
            with pytest.raises(ParallelPlusError, match=f"port {port} on 127.0.0.1 cannot be used"):
                ProviderSimulator(port=port).start()

    def test_many_connections_are_held_at_once(self):
        """Four hundred waiting requests cost one thread and no time."""
        with ProviderSimulator(latency=0.5) as sim:
            socks = [connect(sim) for _ in range(400)]
            for sock in socks:
                sock.sendall(raw_request())
            for sock in socks:
                assert read_response(sock).startswith(b"HTTP/1.1 200 OK")
                sock.close()
            assert sim.tally.peak_in_flight == 400

    @pytest.mark.parametrize(
        "wrong",
        [
            {"requests_per_minute": 0},
            {"tokens_per_minute": 1.5},
            {"latency": -1},
            {"latency": "1"},
            {"chunk_delay": float("nan")},
            {"port": 70_000},
        ],
    )
    def test_wrong_declarations_are_refused(self, wrong):
        """Before any socket is opened."""
        with pytest.raises(DeclarationError, match=f"got {next(iter(wrong.values()))!r}"):
            ProviderSimulator(**wrong)

    @pytest.mark.parametrize("wrong", [{"status": 200}, {"status": "500"}, {"retry_after": -1}])
    def test_wrong_faults_are_refused(self, wrong):
        """A fault that is no error would be counted as one."""
        with pytest.raises(DeclarationError, match=f"got {next(iter(wrong.values()))!r}"):
            Fault(**wrong)

    def test_without_langchain_openai_the_error_says_what_to_install(self, monkeypatch):
        """The simulator itself does not need it."""
        monkeypatch.setitem(sys.modules, "langchain_openai", None)
        monkeypatch.delitem(sys.modules, "langchain_parallel_plus.testing.simulator.openai_model", raising=False)
        with ProviderSimulator() as sim, pytest.raises(ParallelPlusError, match=r"langchain-parallel-plus\[openai\]"):
            sim.chat_model()


def _invoke(model, errors):
    try:
        model.invoke("hi")
    except openai.APIConnectionError as error:
        errors.append(error)


def _ending(sock):
    try:
        return "data" if sock.recv(1) else "closed"
    except ConnectionResetError:
        return "closed"


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return 0


class TestCommandLine:
    def test_it_serves_until_interrupted_and_prints_the_tally(self):
        """One line with the URL, then the server, then one line with what happened; no OpenAI package is loaded."""
        command = [sys.executable, "-X", "dev", "-m", "langchain_parallel_plus.testing.simulator"]
        process = subprocess.Popen(
            [*command, "--rpm", "1", "--latency", "0.01"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            url = urlsplit(process.stdout.readline().strip())
            assert (url.hostname, url.path) == ("127.0.0.1", "/v1")
            connection = http.client.HTTPConnection(url.netloc, timeout=10)
            for status in (200, 429):
                connection.request("POST", CHAT, json.dumps(HELLO), KEY)
                response = connection.getresponse()
                assert (response.status, response.read() != b"") == (status, True)
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
        assert out.startswith("2 requests: 1 ok, 1 refused (1 on requests, 0 on tokens), 0 faults")
        assert (out.count("\n"), err, process.returncode) == (1, "", 0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--rpm", "0"], "a quota must be a whole number >= 1, got 0"),
            (["--tpm", "many"], "argument --tpm: invalid int value: 'many'"),
            (["--latency", "-1"], "latency must be seconds >= 0, got -1.0"),
            (["--port", "70000"], "port must be between 0 and 65535, got 70000"),
            (["--model", "x"], "unrecognized arguments: --model x"),
        ],
    )
    def test_bad_arguments_are_one_clear_line(self, arguments, message, capsys):
        """Exit code 2, nothing on standard output."""
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capsys.readouterr()
        assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"simulator: {message}")

    def test_a_taken_port_is_one_clear_line(self, capsys):
        """The port is named."""
        with ProviderSimulator() as sim, pytest.raises(SystemExit) as caught:
            main(["--port", str(urlsplit(sim.base_url).port)])
        assert caught.value.code == 2
        assert "cannot be used" in capsys.readouterr().err

    def test_importing_the_kit_loads_no_provider_package(self):
        """`chat_model` is what needs langchain-openai."""
        code = "import sys, langchain_parallel_plus.testing; print({'openai', 'langchain_openai'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
