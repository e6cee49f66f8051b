"""Which model the demo talks to: the user's, the embedded one, or a simulator when neither is there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.demo import shapes, stand_in
from langchain_parallel_plus.demo.embedded import MODEL_NAME, embedded_server, what_is_missing
from langchain_parallel_plus.demo.refusal import Refusal
from langchain_parallel_plus.testing import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langchain_openai import ChatOpenAI

__all__ = ("DemoModel", "chosen_model")

_DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
_SLOTS = 3
"""One for each part of the brief, so that all are written at once."""
_EMBEDDED_WINDOW = 2_600
_CONTEXT = 3_072
"""Tokens of one request. A byte is at most a token, so a full window fits with its question and its answer."""

_SAMPLING: Mapping[str, Mapping[str, Any]] = {
    "summary": {"max_tokens": 150, "repeat_penalty": 1.05, "frequency_penalty": 0.2, "grammar": shapes.SUMMARY},
    "questions": {"max_tokens": 170, "repeat_penalty": 1.1, "grammar": shapes.QUESTIONS},
    "key_terms": {"max_tokens": 80, "repeat_penalty": 1.1, "frequency_penalty": 0.5, "grammar": shapes.KEY_TERMS},
    # The brief repeats what the parts say: a penalty for repeating makes it wander off.
    "brief": {"max_tokens": 260, "grammar": shapes.BRIEF},
}
"""Found by reading the embedded model's answers on chapters of the language reference and on a licence text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """A model, and what the demo has to know of it."""

    label: str
    """Which model it is, and what to expect of it."""
    window: int
    """Bytes of a document that it reads."""
    chat: Callable[[str], ChatOpenAI]
    """Gives the chat model for a part of the brief, or for `"brief"` itself."""


@contextmanager
def chosen_model(environ: Mapping[str, str]) -> Iterator[DemoModel]:
    """Provide the model that the environment asks for, for the length of a `with` block.

    With `OPENAI_API_KEY`: OpenAI, or the endpoint in `OPENAI_BASE_URL`, with the model in `OPENAI_MODEL`. Without: the
    embedded model, or the simulator if this platform cannot run it.

    Raises:
        Refusal: If langchain-openai is missing, `OPENAI_BASE_URL` comes without a key, or the embedded server does not
            start.
    """
    _require_langchain_openai()
    if environ.get("OPENAI_API_KEY", "").strip():
        yield _openai(environ)
        return
    if environ.get("OPENAI_BASE_URL", "").strip():
        raise Refusal(
            "OPENAI_BASE_URL is set and OPENAI_API_KEY is not",
            help="set OPENAI_API_KEY (any word if the endpoint needs none), or unset both to use the embedded model",
        )
    missing = what_is_missing()
    with _embedded() if missing is None else _simulated(missing) as model:
        yield model


def _require_langchain_openai() -> None:
    try:
        import langchain_openai  # noqa: F401  # asked for here so that its absence is told before anything starts
    except ImportError:
        raise Refusal(
            "langchain-openai is not installed", help="install it with: pip install 'langchain-parallel-plus[openai]'"
        ) from None


def _openai(environ: Mapping[str, str]) -> DemoModel:
    from langchain_openai import ChatOpenAI

    key = environ["OPENAI_API_KEY"].strip()
    if not key.isascii() or not key.isprintable():
        raise Refusal("OPENAI_API_KEY has characters that no key has", help="copy it again")
    name = environ.get("OPENAI_MODEL", "").strip() or _DEFAULT_OPENAI_MODEL
    base_url = environ.get("OPENAI_BASE_URL", "").strip() or None
    llm = ChatOpenAI(
        model=name,
        base_url=base_url,
        api_key=key,
        max_retries=0,
        stream_usage=True,
        timeout=60,
    )
    return DemoModel(label=f"{name} at {base_url or 'OpenAI'}", window=40_000, chat=lambda part: llm)


@contextmanager
def _embedded() -> Iterator[DemoModel]:
    with embedded_server(slots=_SLOTS, context=_CONTEXT) as server, _direct_client() as client:
        llm = partial(_small_model, base_url=server.base_url, api_key=server.api_key, http_client=client)
        yield DemoModel(
            label=f"{MODEL_NAME}, embedded, as no OPENAI_API_KEY is set; very small: judge the plumbing, not the prose",
            window=_EMBEDDED_WINDOW,
            chat=llm,
        )


def _small_model(part: str, **connection: Any) -> ChatOpenAI:
    from langchain_openai import ChatOpenAI

    sampling = dict(_SAMPLING[part])
    return ChatOpenAI(
        model=MODEL_NAME,
        max_retries=0,
        stream_usage=True,
        timeout=120,
        temperature=0,
        seed=1,
        max_completion_tokens=sampling.pop("max_tokens"),
        extra_body=sampling,
        **connection,
    )


@contextmanager
def _simulated(missing: str) -> Iterator[DemoModel]:
    with (
        ProviderSimulator(latency=0.5, chunk_delay=0.01, answer=stand_in.answer) as simulator,
        _direct_client() as client,
    ):
        llm = simulator.chat_model(http_client=client)
        yield DemoModel(
            label=f"none: a simulator answers with words of the text (no OPENAI_API_KEY is set, and {missing})",
            window=_EMBEDDED_WINDOW,
            chat=lambda part: llm,
        )


def _direct_client() -> Any:
    """Return a client that ignores proxy settings: no proxy leads to this machine's loopback."""
    from openai import DefaultHttpxClient

    return DefaultHttpxClient(trust_env=False)
