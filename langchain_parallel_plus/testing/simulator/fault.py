"""Failures that a simulated provider produces on purpose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from langchain_parallel_plus.errors import DeclarationError

__all__ = ("Fault",)

_MESSAGES = {
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The model does not exist or you do not have access to it.",
    408: "The request timed out.",
    429: "Rate limit reached.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded.",
}


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
        DeclarationError: If `status` is no error status or `retry_after` is not a number of seconds >= 0.
    """

    status: int = 500
    """HTTP status, 400 to 599."""
    code: str | None = None
    """`error.code` of the body, such as `insufficient_quota` or `context_length_exceeded`."""
    retry_after: float | None = None
    """Seconds; sent as `retry-after` and `retry-after-ms`."""
    message: str | None = None
    """`error.message` of the body; by default the one that OpenAI sends with the status."""

    def __post_init__(self) -> None:
        if not isinstance(self.status, int) or not 400 <= self.status <= 599:
            raise DeclarationError(
                f"a fault's status must be between 400 and 599, got {self.status!r}",
                help="return None from `fail` to let the request succeed",
            )
        if self.retry_after is not None and not (math.isfinite(self.retry_after) and self.retry_after >= 0):
            raise DeclarationError(f"a fault's retry_after must be seconds >= 0, got {self.retry_after!r}")

    @property
    def text(self) -> str:
        """The message of the response."""
        return self.message or _MESSAGES.get(self.status) or f"The request failed with status {self.status}."

    @property
    def type(self) -> str | None:
        """`error.type` of the body where it depends on the code; None where the status decides."""
        return self.code if self.code == "insufficient_quota" else None
