"""The simulator as its users see it: start, stop, look, and get a model that talks to it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from langchain_parallel_plus.errors import DeclarationError, ParallelPlusError
from langchain_parallel_plus.testing.simulator.answers import default_answer
from langchain_parallel_plus.testing.simulator.loopback import HOST, LoopbackServer
from langchain_parallel_plus.testing.simulator.quota import Bucket, Quota
from langchain_parallel_plus.testing.simulator.service import Behaviour, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from langchain_openai import ChatOpenAI

    from langchain_parallel_plus.testing.simulator.chat import ChatRequest
    from langchain_parallel_plus.testing.simulator.fault import Fault
    from langchain_parallel_plus.testing.simulator.openai_model import OpenAIModels
    from langchain_parallel_plus.testing.simulator.tally import Tally

__all__ = ("ProviderSimulator",)


class ProviderSimulator:
    """An OpenAI-compatible server on 127.0.0.1 with a quota, to test chains against without a network or an account.

    It serves `POST /v1/chat/completions` (also as a stream) and `GET /v1/models` for any model name and any API key,
    and enforces one quota over all of them, as OpenAI does: `x-ratelimit-*` headers on each response, and a 429 with
    `retry-after`, `retry-after-ms` and OpenAI's message when a request does not fit. Tokens are charged at admission:
    a quarter of the prompt's characters plus `max_tokens` (16 if the request sets none), never given back.

    Args:
        requests_per_minute: The requests quota; None for no limit.
        tokens_per_minute: The tokens quota; None for no limit.
        latency: Seconds from the arrival of an admitted request to the start of its response, or a function of the
            request that gives them. Refusals come at once.
        answer: A function of the request that gives the answer's text. By default a few words with a digest of the
            last user message, the same for the same message.
        chunk_delay: Seconds between the events of a streamed answer.
        fail: A function of the request that gives a `Fault` for a request that is to fail, or None. A failed request
            has been admitted and charged.
        port: The port to listen on; 0 takes a free one.
        clock: Seconds for the quota and the tally; latencies are waited for in real time.

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
        DeclarationError: If a quota is no whole number >= 1, or a latency, delay or port is out of range.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        latency: float | Callable[[ChatRequest], float] = 0.0,
        answer: Callable[[ChatRequest], str] | None = None,
        chunk_delay: float = 0.0,
        fail: Callable[[ChatRequest], Fault | None] | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise DeclarationError(f"port must be between 0 and 65535, got {port!r}", help="0 takes a free port")
        quota = Quota(
            requests=None if requests_per_minute is None else Bucket(requests_per_minute),
            tokens=None if tokens_per_minute is None else Bucket(tokens_per_minute),
        )
        behaviour = Behaviour(latency=latency, chunk_delay=chunk_delay, answer=answer or default_answer, fail=fail)
        self._quota = quota
        self._port = port
        self._service = Service(quota, behaviour, clock)
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
        limits = {
            "requests_per_minute": self._quota.requests,
            "tokens_per_minute": self._quota.tokens,
        }
        shown = [f"{name}={bucket.limit}" for name, bucket in limits.items() if bucket is not None]
        server = self._server
        shown.append("stopped" if server is None else f"port={server.port}")
        return f"ProviderSimulator({', '.join(shown)})"
