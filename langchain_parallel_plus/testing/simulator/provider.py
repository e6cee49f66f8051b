"""The simulator as its users see it: start, stop, look, and get a model that talks to it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.testing.simulator.answers import default_answer
from langchain_parallel_plus.testing.simulator.behaviour import Behaviour
from langchain_parallel_plus.testing.simulator.loopback import HOST, LoopbackServer
from langchain_parallel_plus.testing.simulator.rules import ProviderRules
from langchain_parallel_plus.testing.simulator.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from langchain_openai import ChatOpenAI

    from langchain_parallel_plus.testing.dialects import Dialect, DialectName
    from langchain_parallel_plus.testing.quota import Quota, QuotaModel, TokenRule
    from langchain_parallel_plus.testing.simulator.chat import ChatRequest
    from langchain_parallel_plus.testing.simulator.fault import AnyFault
    from langchain_parallel_plus.testing.simulator.openai_model import OpenAIModels
    from langchain_parallel_plus.testing.simulator.tally import Tally

__all__ = ("ProviderSimulator",)


class ProviderSimulator:
    """An OpenAI-compatible server on 127.0.0.1 with a quota, to test chains against without a network or an account.

    It serves `POST /v1/chat/completions` (also as a stream, and at Azure's addresses) and `GET /v1/models` for any
    model name and any API key, and enforces one quota over all of them: with its headers on each response, and a 429
    when a request does not fit. By default it counts and speaks as OpenAI does: a bucket that holds a minute's quota,
    tokens charged at admission, refused requests counted too.

    `GET /simulator/tally` gives the tally's counters as JSON and `POST /simulator/reset` resets, for clients in another
    process.

    Args:
        requests_per_minute: The requests quota; None for no limit, here and below.
        tokens_per_minute: The tokens quota, input and output together.
        input_tokens_per_minute: The quota of input tokens alone, as Anthropic has one.
        output_tokens_per_minute: The quota of output tokens alone.
        requests_per_day: The day's requests quota, which Groq's headers tell.
        tokens_per_day: The day's tokens quota.
        quota_model: How the limits by the minute are counted over time: `"bucket_minute"`, `"bucket_second"`,
            `"fixed_window"`, `"sliding_window"` or `"sub_windows"` (a sixth of the limit in each ten seconds).
        token_rule: How tokens are counted. `"reserve"`: a quarter of the prompt's characters plus `max_tokens` (16 if
            the request sets none) at admission, never given back. `"reserve_refund"`: the same, corrected at the end to
            what was used. `"actual"`: the prompt's estimate at admission, corrected at the end to what was used.
        dialect: Whose headers and errors: `"openai"`, `"azure"`, `"anthropic"`, `"groq"`, `"gemini"`, `"ietf"`, or a
            `Dialect` of your own. The request's and the answer's format is OpenAI's under each.
        failed_requests_count: Whether refused requests count against the limits of requests; by default as the
            dialect's provider does (OpenAI: yes).
        quota: A quota of your own in place of all of the above but dialect and token rule, to mix models: for Azure
            `Quota(requests=SubWindows(60), tokens=FixedWindow(10_000))`.
        latency: Seconds from the arrival of an admitted request to the start of its response, or a function of the
            request that gives them. Refusals come at once.
        answer: A function of the request that gives the answer's text. By default a few words with a digest of the
            last user message, the same for the same message.
        chunk_delay: Seconds between the events of a streamed answer.
        fail: A function of the request that gives a fault for a request that is to fail, or None; a `FaultPlan` is
            one. A failed request has been admitted and charged.
        port: The port to listen on; 0 takes a free one.
        clock: Seconds for the quota and the tally; latencies are waited for in real time.
        wall_clock: POSIX time in seconds, for headers that tell an instant (Anthropic).

    The functions are called on the server's thread, one request at a time, and must return at once. If one raises, the
    request is answered with a 500 that says so, and the traceback is logged.

    Each open connection needs a file descriptor here and another in the client: for more than about 500 at once in one
    process raise its limit (`ulimit -n`).

    Example:
        ```python
        from langchain_parallel_plus.testing import ProviderSimulator

        with ProviderSimulator(requests_per_minute=60, latency=0.05) as sim:
            print(sim.chat_model().invoke("Why is the sky blue?").content)
            assert sim.tally.ok == 1
        ```

    Raises:
        DeclarationError: If a quota is no whole number >= 1, a name unknown, or a latency, delay or port out of range.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        input_tokens_per_minute: int | None = None,
        output_tokens_per_minute: int | None = None,
        requests_per_day: int | None = None,
        tokens_per_day: int | None = None,
        quota_model: QuotaModel = "bucket_minute",
        token_rule: TokenRule = "reserve",
        dialect: DialectName | Dialect = "openai",
        failed_requests_count: bool | None = None,
        quota: Quota | None = None,
        latency: float | Callable[[ChatRequest], float] = 0.0,
        answer: Callable[[ChatRequest], str] | None = None,
        chunk_delay: float = 0.0,
        fail: Callable[[ChatRequest], AnyFault | None] | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise DeclarationError(f"port must be between 0 and 65535, got {port!r}", help="0 takes a free port")
        rules = ProviderRules.of(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            input_tokens_per_minute=input_tokens_per_minute,
            output_tokens_per_minute=output_tokens_per_minute,
            requests_per_day=requests_per_day,
            tokens_per_day=tokens_per_day,
            quota_model=quota_model,
            token_rule=token_rule,
            dialect=dialect,
            failed_requests_count=failed_requests_count,
            quota=quota,
        )
        behaviour = Behaviour(latency=latency, chunk_delay=chunk_delay, answer=answer or default_answer, fail=fail)
        self._quota = rules.quota
        self._port = port
        self._service = Service(rules, behaviour, clock, wall_clock)
        self._lock = threading.Lock()
        self._server: LoopbackServer | None = None
        self._models: OpenAIModels | None = None

    def start(self) -> Self:
        """Start serving and return the simulator; a started one stays as it is.

        Raises:
            ParallelPlusError: If the port is taken.
        """
        with self._lock:
            if self._server is None:
                self._server = LoopbackServer(self._service.respond, self._service.refuse, port=self._port)
        return self

    def stop(self) -> None:
        """Close every connection and end the server's thread; a stopped simulator can be started again.

        Requests in flight lose their connection. The tally stays readable.
        """
        with self._lock:
            models, self._models = self._models, None
            server, self._server = self._server, None
            if models is not None:
                models.close()
            if server is not None:
                server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The address to give to OpenAI clients, ending in `/v1`.

        Raises:
            ParallelPlusError: If the simulator is not running.
        """
        server = self._server
        if server is None:
            raise ParallelPlusError(
                "the provider simulator is not running, so it has no address",
                help="use it as `with ProviderSimulator(...) as sim:`, or call start() first",
            )
        return f"http://{HOST}:{server.port}/v1"

    @property
    def tally(self) -> Tally:
        """What has happened since the start or the last reset, as a frozen snapshot."""
        return self._service.tally()

    def reset(self) -> None:
        """Give the full quota back and count from zero; requests in flight end uncounted."""
        self._service.reset()

    def chat_model(self, **kwargs: Any) -> ChatOpenAI:
        """Return a real `langchain_openai.ChatOpenAI` that talks to this simulator.

        By default without the SDK's hidden retries (`max_retries=0`) and with usage in streams (`stream_usage=True`).
        It ignores proxy settings of the environment, works in any thread and in one event loop after another (as each
        pytest-asyncio test has its own), and stops working when the simulator stops.

        Args:
            **kwargs: Any of `ChatOpenAI`'s arguments; they win over the defaults.

        Raises:
            ParallelPlusError: If langchain-openai is not installed, or the simulator is not running.
        """
        from langchain_parallel_plus.testing.simulator.openai_model import OpenAIModels

        base_url = self.base_url
        with self._lock:
            if self._models is None:
                self._models = OpenAIModels()
            return self._models.build(base_url, **kwargs)

    def __repr__(self) -> str:
        server = self._server
        limits = (
            f"{name if name.endswith('_per_day') else f'{name}_per_minute'}={model.limit}"
            for name, model in self._quota.limits
        )
        running = "stopped" if server is None else f"port={server.port}"
        return f"ProviderSimulator({', '.join([*limits, running])})"
