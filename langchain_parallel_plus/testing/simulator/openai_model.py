"""Real `ChatOpenAI` models whose HTTP clients suit a simulator; importing this module needs langchain-openai."""

from __future__ import annotations

from typing import Any

from langchain_parallel_plus.errors import ParallelPlusError

try:
    from langchain_openai import ChatOpenAI
    from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
except ImportError as error:
    raise ParallelPlusError(
        "chat_model() needs langchain-openai, which cannot be imported",
        help="pip install 'langchain-parallel-plus[openai]', or point another OpenAI client at .base_url",
    ) from error

__all__ = ("OpenAIModels",)


class OpenAIModels:
    """Builds models that share one pair of HTTP clients, to be closed when their server stops.

    langchain-openai's own clients do not suit: they are cached for the life of the process, so that their idle sockets
    outlive the server, and an asynchronous one breaks with "Event loop is closed" when the next loop reuses a
    connection that an earlier loop has left open (langchain-openai 1.7, httpx2 2.16).
    """

    def __init__(self) -> None:
        # Loopback never goes through a proxy, whatever HTTP_PROXY says.
        self._sync = DefaultHttpxClient(trust_env=False)
        # One connection a request: no socket stays behind that only its loop could close.
        self._async = DefaultAsyncHttpxClient(trust_env=False, headers={"connection": "close"})

    def build(self, base_url: str, **kwargs: Any) -> ChatOpenAI:
        """Return a model for the server at `base_url`; `kwargs` win over the defaults."""
        defaults: dict[str, Any] = {
            "model": "gpt-4o-mini",
            "base_url": base_url,
            "api_key": "simulator",
            "max_retries": 0,
            "stream_usage": True,
            "http_client": self._sync,
            "http_async_client": self._async,
        }
        return ChatOpenAI(**(defaults | kwargs))

    def close(self) -> None:
        """Close the sockets that are still open."""
        self._sync.close()
