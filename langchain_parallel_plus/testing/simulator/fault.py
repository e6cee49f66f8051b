"""Failures that a simulated provider produces on purpose; each is a frozen value that `fail` returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from langchain_parallel_plus.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "AnyFault",
    "ConnectionReset",
    "CutStream",
    "Fault",
    "Hang",
    "MalformedBody",
    "SlowStart",
    "SlowTokens",
)

_MESSAGES = {
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The model does not exist or you do not have access to it.",
    408: "The request timed out.",
    429: "Rate limit reached.",
    500: "The server had an error while processing your request. Sorry about that!",
    502: "Bad gateway.",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded.",
}

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error response in place of an answer, sent when the answer would have started.

    Example:
        ```python
        from langchain_parallel_plus.testing import ChatRequest, Fault, ProviderSimulator


        def every_third(request: ChatRequest) -> Fault | None:
            return Fault(status=503, retry_after=0.5) if request.index % 3 == 2 else None


        with ProviderSimulator(fail=every_third) as sim:
            print(sim.base_url)
        ```

    Raises:
        DeclarationError: If `status` is no error status, `retry_after` not a number of seconds >= 0, or a header not
            text in one line.
    """

    status: int = 500
    """HTTP status, 400 to 599."""
    code: str | None = None
    """The provider's code in the body, such as `insufficient_quota` or `context_length_exceeded`."""
    retry_after: float | None = None
    """Seconds; sent as the simulator's dialect sends them, in headers or in the body."""
    message: str | None = None
    """The message in the body; by default the one that OpenAI sends with the status."""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    """Further headers, such as `x-should-retry`."""

    def __post_init__(self) -> None:
        if not isinstance(self.status, int) or not 400 <= self.status <= 599:
            raise DeclarationError(
                f"a fault's status must be between 400 and 599, got {self.status!r}",
                help="return None from `fail` to let the request succeed",
            )
        if self.retry_after is not None:
            _seconds(self.retry_after, "a fault's retry_after")
        for name, value in self.headers.items():
            if not (isinstance(value, str) and (name + value).isprintable()):
                raise DeclarationError(f"a fault's header must be text in one line, got {name!r}: {value!r}")

    @property
    def text(self) -> str:
        """The message of the response."""
        return self.message or _MESSAGES.get(self.status) or f"The request failed with status {self.status}."


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer: the connection stays open until the client gives up, or is closed without a byte after `seconds`.

    Raises:
        DeclarationError: If `seconds` is not a number >= 0.
    """

    seconds: float | None = None
    """None waits for the client, for ever."""

    def __post_init__(self) -> None:
        if self.seconds is not None:
            _seconds(self.seconds, "Hang.seconds")


@dataclass(frozen=True, slots=True)
class SlowStart:
    """The answer's first byte comes `seconds` later than it would; then all goes on as usual.

    Raises:
        DeclarationError: If `seconds` is not a number >= 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        _seconds(self.seconds, "SlowStart.seconds")


@dataclass(frozen=True, slots=True)
class SlowTokens:
    """Each event of a stream comes `seconds` after the one before; an answer that is not streamed takes their sum.

    Raises:
        DeclarationError: If `seconds` is not a number >= 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        _seconds(self.seconds, "SlowTokens.seconds")


@dataclass(frozen=True, slots=True)
class CutStream:
    """The connection is closed in the middle of the answer, after `after` chunks with text.

    An answer that is not streamed is announced in full length and cut after half of its bytes.

    Raises:
        DeclarationError: If `after` is not a whole number >= 0.
    """

    after: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.after, int) or isinstance(self.after, bool) or self.after < 0:
            raise DeclarationError(f"CutStream.after must be a whole number >= 0, got {self.after!r}")


@dataclass(frozen=True, slots=True)
class MalformedBody:
    """A response with status 200 (or another) whose body is not what the API promises.

    Raises:
        DeclarationError: If `form` is unknown, or `status` no HTTP status.
    """

    form: Literal["truncated", "html"] = "truncated"
    """JSON that ends in the middle (in a stream: an event that does), or a page of HTML, as proxies send."""
    status: int = 200

    def __post_init__(self) -> None:
        if self.form not in ("truncated", "html"):
            raise DeclarationError(f"MalformedBody.form must be 'truncated' or 'html', got {self.form!r}")
        if not isinstance(self.status, int) or not 200 <= self.status <= 599:
            raise DeclarationError(f"MalformedBody.status must be between 200 and 599, got {self.status!r}")


@dataclass(frozen=True, slots=True)
class ConnectionReset:
    """The connection is reset (RST) before any answer, when the answer would have started."""


AnyFault = Fault | Hang | SlowStart | SlowTokens | CutStream | MalformedBody | ConnectionReset
"""What `fail` may return. `SlowStart` and `SlowTokens` are answered all the same."""


def _seconds(value: object, name: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0:  # type: ignore[operator]  # a number, says the first half
        raise DeclarationError(f"{name} must be seconds >= 0, got {value!r}")
